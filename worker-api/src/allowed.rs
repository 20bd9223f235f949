//! The proxies in front of a worker: whose word about a client is taken.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Addresses and networks whose forwarding headers and PROXY headers are believed: `*`, single
/// addresses, and networks in CIDR notation, separated by commas.
///
/// A peer without an address (a Unix socket) is believed in any case: whoever may connect there
/// has been let in by the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedIps {
    all: bool,
    networks: Vec<Network>,
}

/// Why a list of addresses is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllowedIpsError {
    /// Neither `*`, nor an address, nor a network.
    #[error("`{0}` is neither an address nor a network such as 10.0.0.0/8, nor `*`")]
    NotANetwork(String),
    /// A network's address has bits behind its prefix: one of the two is a mistake.
    #[error("`{given}` has bits behind its prefix; the network is {meant}")]
    HostBits {
        /// What was written.
        given: String,
        /// The network that it is in.
        meant: String,
    },
}

impl AllowedIps {
    /// Whether the word of this address is taken.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.all || {
            let bits = bits_of(address);
            self.networks.iter().any(|network| network.contains(bits))
        }
    }
}

/// The machine itself, as in gunicorn.
impl Default for AllowedIps {
    fn default() -> Self {
        let networks = [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()];
        Self {
            all: false,
            networks: networks.map(Network::single).into(),
        }
    }
}

impl FromStr for AllowedIps {
    type Err = AllowedIpsError;

    fn from_str(text: &str) -> Result<Self, AllowedIpsError> {
        let words = text.split(',').map(str::trim);
        let (mut all, mut networks) = (false, Vec::new());
        for word in words.filter(|word| !word.is_empty()) {
            match word {
                "*" => all = true,
                word => networks.push(word.parse()?),
            }
        }
        Ok(Self { all, networks })
    }
}

/// What can be read back.
impl fmt::Display for AllowedIps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.all.then(|| "*".to_owned());
        let networks = self.networks.iter().map(ToString::to_string);
        let words: Vec<_> = all.into_iter().chain(networks).collect();
        f.write_str(&words.join(","))
    }
}

/// Addresses of one prefix. IPv4 lives in IPv6's mapped range, so that a peer is the same on a
/// socket of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    bits: u128,
    mask: u128,
}

/// Where the mapped IPv4 addresses begin, in bits.
const MAPPED: u32 = 96;

impl Network {
    fn single(address: IpAddr) -> Self {
        Self {
            bits: bits_of(address),
            mask: u128::MAX,
        }
    }

    fn contains(&self, bits: u128) -> bool {
        bits & self.mask == self.bits
    }
}

impl FromStr for Network {
    type Err = AllowedIpsError;

    fn from_str(text: &str) -> Result<Self, AllowedIpsError> {
        let fault = || AllowedIpsError::NotANetwork(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| fault())?;
        let (least, most) = match address {
            IpAddr::V4(_) => (MAPPED, 32),
            IpAddr::V6(_) => (0, 128),
        };
        let prefix = match prefix {
            None => most,
            Some(prefix) => match prefix.parse::<u32>() {
                Ok(number) if number <= most && number.to_string() == prefix => number,
                _ => return Err(fault()),
            },
        };
        let mask = u128::MAX
            .checked_shl(u128::BITS - least - prefix)
            .unwrap_or(0);
        let bits = bits_of(address);
        let network = Self {
            bits: bits & mask,
            mask,
        };
        if network.bits == bits {
            Ok(network)
        } else {
            Err(AllowedIpsError::HostBits {
                given: text.to_owned(),
                meant: network.to_string(),
            })
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.mask.leading_ones();
        let address = Ipv6Addr::from_bits(self.bits);
        match address.to_ipv4_mapped() {
            Some(address) if prefix == u128::BITS => write!(f, "{address}"),
            Some(address) if prefix >= MAPPED => write!(f, "{address}/{}", prefix - MAPPED),
            _ if prefix == u128::BITS => write!(f, "{address}"),
            _ => write!(f, "{address}/{prefix}"),
        }
    }
}

fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(list: &str, address: &str) -> bool {
        let list: AllowedIps = list.parse().unwrap();
        list.contains(address.parse().unwrap())
    }

    #[test]
    fn addresses_and_networks_are_told_from_others() {
        assert!(allows("10.0.0.0/8", "10.255.0.1") && !allows("10.0.0.0/8", "11.0.0.1"));
        assert!(allows("192.0.2.7", "192.0.2.7") && !allows("192.0.2.7", "192.0.2.8"));
        assert!(allows("fd00::/8", "fd12::1") && !allows("fd00::/8", "fe80::1"));
        assert!(allows("0.0.0.0/0", "203.0.113.9") && !allows("0.0.0.0/0", "2001:db8::1"));
        assert!(allows("::/0", "2001:db8::1"));
        assert!(allows("127.0.0.1, *", "2001:db8::1"));
        assert!(!allows("", "127.0.0.1"));
        let own = AllowedIps::default();
        assert!(own.contains("127.0.0.1".parse().unwrap()) && own.contains("::1".parse().unwrap()));
        assert!(!own.contains("127.0.0.2".parse().unwrap()));
    }

    #[test]
    fn an_ipv4_peer_is_the_same_on_a_socket_for_both_kinds() {
        assert!(allows("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(allows("127.0.0.1", "::ffff:127.0.0.1"));
    }

    #[test]
    fn what_is_no_network_is_refused_by_name() {
        for text in [
            "localhost",
            "10.0.0",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "/8",
            "1/",
            "**",
        ] {
            let error = text.parse::<AllowedIps>().unwrap_err();
            assert_eq!(error, AllowedIpsError::NotANetwork(text.to_owned()));
        }
        let error = "192.168.1.1/24".parse::<AllowedIps>().unwrap_err();
        assert!(error.to_string().contains("192.168.1.0/24"), "{error}");
    }

    #[test]
    fn a_list_is_written_as_it_can_be_read() {
        for text in [
            "*",
            "127.0.0.1,::1",
            "*,10.0.0.0/8,fd00::/8",
            "0.0.0.0/0",
            "::/0",
            "",
        ] {
            assert_eq!(text.parse::<AllowedIps>().unwrap().to_string(), text);
        }
    }
}
