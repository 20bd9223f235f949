//! Who sent a request, if it came through proxies.

use std::net::{IpAddr, SocketAddr};

use worker_api::AllowedIps;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// On a network.
    Address(SocketAddr),
    /// On this machine, by a Unix socket.
    Local,
    /// Gone before it could be asked.
    Unknown,
}

impl Peer {
    /// Whether its word about clients is taken.
    pub fn is_believed(self, believed: &AllowedIps) -> bool {
        match self {
            Self::Address(address) => believed.contains(address.ip()),
            Self::Local => true,
            Self::Unknown => false,
        }
    }

    /// Its address, if it has one.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::Local | Self::Unknown => None,
        }
    }
}

/// Who sent a request. On the tokio driver it is an extension of every request; on the other one
/// the request's [body](crate::RequestBody::client) knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The other end of the connection, or whom its PROXY header names; `None` on a Unix socket.
    /// It is what gunicorn calls `REMOTE_ADDR`.
    pub peer: Option<SocketAddr>,
    /// The client as far as proxies are to be believed: the last address in `X-Forwarded-For`
    /// that is not a believed proxy itself, else that of `peer`.
    pub address: Option<IpAddr>,
    /// This end of the connection; `None` on a Unix socket.
    pub local: Option<SocketAddr>,
    /// Whether the client came by HTTPS, by the word of a believed proxy.
    pub https: bool,
}

impl Client {
    /// The client of a connection that no proxy has spoken about.
    pub fn direct(peer: Option<SocketAddr>) -> Self {
        Self {
            peer,
            address: peer.map(|peer| peer.ip().to_canonical()),
            local: None,
            https: false,
        }
    }

    /// Takes the word of a believed proxy: what it says of the scheme, and the values of its
    /// `X-Forwarded-For` fields, in their order.
    #[must_use]
    pub fn forwarded<'a>(
        self,
        https: Option<bool>,
        hops: impl DoubleEndedIterator<Item = &'a [u8]>,
        believed: &AllowedIps,
    ) -> Self {
        let mut address = self.address;
        // Read backwards: each hop is named by the one behind it. The chain ends with the first
        // that is not believed, and with what is no address: who knows who wrote that.
        let hops = hops
            .rev()
            .flat_map(|value| value.rsplit(|byte| *byte == b','));
        for hop in hops {
            let Some(hop) = read_address(hop) else { break };
            address = Some(hop);
            if !believed.contains(hop) {
                break;
            }
        }
        Self {
            address,
            https: https.unwrap_or(self.https),
            ..self
        }
    }
}

/// An address as proxies write it: alone, or with a port.
fn read_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    let alone = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = alone.unwrap_or(text).parse::<IpAddr>();
    let address = address.or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(hops: &[&str], believed: &str) -> String {
        let peer = Client::direct(Some("10.0.0.1:5".parse().unwrap()));
        let hops = hops.iter().map(|hop| hop.as_bytes());
        let client = peer.forwarded(None, hops, &believed.parse().unwrap());
        assert_eq!(client.peer, peer.peer);
        client.address.unwrap().to_string()
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_not_believed() {
        let ours = "10.0.0.0/8";
        assert_eq!(address(&[], ours), "10.0.0.1");
        assert_eq!(address(&["192.0.2.1"], ours), "192.0.2.1");
        assert_eq!(
            address(&["6.6.6.6, 192.0.2.1 ,10.0.0.2"], ours),
            "192.0.2.1"
        );
        assert_eq!(
            address(&["6.6.6.6", "192.0.2.1", "10.0.0.2"], ours),
            "192.0.2.1"
        );
        assert_eq!(address(&["10.0.0.3, 10.0.0.2"], ours), "10.0.0.3");
        assert_eq!(address(&["192.0.2.1, 192.0.2.2"], "*"), "192.0.2.1");
    }

    #[test]
    fn an_address_may_have_a_port() {
        for hop in ["192.0.2.1:80", "::ffff:192.0.2.1"] {
            assert_eq!(address(&[hop], "10.0.0.1"), "192.0.2.1");
        }
        for hop in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80"] {
            assert_eq!(address(&[hop], "10.0.0.1"), "2001:db8::1");
        }
    }

    #[test]
    fn what_is_no_address_ends_the_chain() {
        for hop in [
            "unknown",
            "",
            "192.0.2.1, x",
            "192.0.2.1,",
            "1.2.3.4 5.6.7.8",
            "\u{a0}1.2.3.4",
        ] {
            assert_eq!(address(&[hop], "10.0.0.1"), "10.0.0.1", "{hop}");
        }
    }

    #[test]
    fn the_proxy_says_whether_it_was_https() {
        let client = Client::direct(None);
        let believed = AllowedIps::default();
        for https in [true, false] {
            let client = client.forwarded(Some(https), [].into_iter(), &believed);
            assert_eq!((client.https, client.address), (https, None));
        }
    }
}
