//! Where a listener is: the grammar of `listen.bind`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// What fits, for error messages and the reference.
pub(crate) const EXPECTED: &str =
    r#"an address, for example "0.0.0.0:8000", "[::]:8000", "unix:/run/app.sock" or "fd:3""#;

/// The kernel's `sun_path` holds so many bytes before the closing NUL.
const UNIX_PATH_MAX: usize = 107;

/// One address of `listen.bind`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BindAddress {
    /// `"127.0.0.1:8000"`, `"[::]:8000"`, `":8000"` (all IPv4 addresses), or a
    /// host name, which is resolved once in the life of the process.
    Tcp(SocketAddr),
    /// `"unix:/run/app.sock"`.
    Unix(PathBuf),
    /// `"fd:3"`: a listening socket that the master inherited.
    Fd(i32),
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Fd(number) => write!(f, "fd:{number}"),
        }
    }
}

impl FromStr for BindAddress {
    /// What would fit instead.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        if let Some(number) = text.strip_prefix("fd:") {
            let number = number.strip_prefix("//").unwrap_or(number);
            let number = number.parse().ok().filter(|number| *number >= 0);
            return number
                .map(Self::Fd)
                .ok_or_else(|| r#"expected a descriptor's number, for example "fd:3""#.to_owned());
        }
        let text = text.strip_prefix("tcp://").unwrap_or(text);
        tcp(&with_port(text)).map(Self::Tcp)
    }
}

/// An address alone is one with gunicorn's port. Other names than this one have a port: a mistyped
/// word is not to be looked up.
fn with_port(text: &str) -> Cow<'_, str> {
    let inside = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let is_alone = match inside {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => text == "localhost" || text.parse::<Ipv4Addr>().is_ok(),
    };
    match is_alone {
        true => format!("{text}:8000").into(),
        false => text.into(),
    }
}

/// A TCP address; host names are resolved here, IPv4 preferred as gunicorn does.
pub(crate) fn tcp(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.parse::<u16>().is_ok() {
        return Err(format!(
            r#"expected an address; for a port on all addresses write ":{text}""#
        ));
    }
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("expected {EXPECTED}"))?;
    let port: u16 = port.parse().map_err(|_| {
        format!(r#"expected a port from 0 to 65535 after the last ":", for example "{host}:8000""#)
    })?;
    if host.is_empty() || host == "*" {
        return Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    }
    if host.contains(['/', ':', '[', ']', '@']) {
        return Err(format!("expected {EXPECTED}"));
    }
    look_up(host).map(|address| SocketAddr::new(address, port))
}

/// Host names that were looked up. Each is so once in the life of the process: a reload is not to
/// wait for a name server, nor to move a socket since the answer has changed.
static KNOWN: Mutex<BTreeMap<String, IpAddr>> = Mutex::new(BTreeMap::new());

fn look_up(host: &str) -> Result<IpAddr, String> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(address) = known.get(host) {
        return Ok(*address);
    }
    let found: Vec<_> = (host, 0)
        .to_socket_addrs()
        .map_err(|error| format!("the host name `{host}` cannot be resolved: {error}"))?
        .collect();
    let ipv4 = found.iter().find(|address| address.is_ipv4());
    let address = ipv4
        .or(found.first())
        .map(SocketAddr::ip)
        .ok_or_else(|| format!("the host name `{host}` has no address"))?;
    known.insert(host.to_owned(), address);
    Ok(address)
}

fn unix(path: &str) -> Result<BindAddress, String> {
    // "unix:///run/app.sock" is the same path with a URL's slashes.
    let trimmed = path.trim_start_matches('/');
    let path = if trimmed.len() + 1 < path.len() {
        format!("/{trimmed}")
    } else {
        path.to_owned()
    };
    if trimmed.is_empty() {
        return Err(r#"expected a path, for example "unix:/run/app.sock""#.to_owned());
    }
    if path.contains('\0') {
        return Err("expected a path without a NUL character".to_owned());
    }
    if path.len() > UNIX_PATH_MAX {
        return Err(format!(
            "expected a path of at most {UNIX_PATH_MAX} bytes (the kernel's limit), this one has {}",
            path.len()
        ));
    }
    Ok(BindAddress::Unix(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BindAddress, String> {
        text.parse()
    }

    #[test]
    fn addresses_are_shown_as_they_are_written() {
        for text in [
            "127.0.0.1:8000",
            "[::]:8000",
            "[::1]:0",
            "unix:/run/app.sock",
            "fd:3",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_gunicorn_takes_is_taken() {
        for (text, same) in [
            ("tcp://127.0.0.1:80", "127.0.0.1:80"),
            ("tcp://localhost", "127.0.0.1:8000"),
            ("localhost", "127.0.0.1:8000"),
            ("127.0.0.1", "127.0.0.1:8000"),
            ("[::1]", "[::1]:8000"),
            ("fd://3", "fd:3"),
        ] {
            assert_eq!(parse(text), parse(same), "{text}");
        }
    }

    #[test]
    fn a_port_alone_means_all_addresses() {
        assert_eq!(parse(":8000"), parse("0.0.0.0:8000"));
        assert_eq!(parse("*:8000"), parse("0.0.0.0:8000"));
        assert!(parse("8000").unwrap_err().contains(r#"":8000""#));
    }

    #[test]
    fn a_host_name_is_resolved_to_ipv4_first() {
        assert_eq!(parse("localhost:8000"), parse("127.0.0.1:8000"));
    }

    #[test]
    fn slashes_of_a_url_are_no_part_of_a_socket_path() {
        assert_eq!(parse("unix:///run/app.sock"), parse("unix:/run/app.sock"));
        assert_eq!(
            parse("unix:app.sock").unwrap(),
            BindAddress::Unix("app.sock".into())
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":",
            "host:",
            "host:70000",
            "unix:",
            "unix:/",
            "fd:",
            "fd:-1",
            "fd:x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in ["::1:8000", "name", "http://a:1", "a:b:1", "[::1:8000"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&format!("unix:/{}", "x".repeat(107))).is_err());
    }
}
