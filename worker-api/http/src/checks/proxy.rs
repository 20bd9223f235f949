//! The PROXY protocol, versions 1 and 2: a proxy's word on who connected to it, before anything
//! else on a connection (<https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt>).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::refusal::Refusal;

/// How a header of version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// How a header of version 1 begins.
const WORD: &[u8; 6] = b"PROXY ";

/// The longest header of version 1, by its specification.
const LONGEST_LINE: usize = 107;

/// What begins a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Not to be told yet.
    Unclear,
    /// Something else than a PROXY header.
    Other,
    /// A PROXY header.
    Header {
        /// Its length in bytes.
        len: usize,
        /// Who connected to the proxy; `None` if it was the proxy itself.
        source: Option<SocketAddr>,
    },
}

/// Reads the first bytes of a connection: all that have come so far, each time.
///
/// # Errors
/// [`Refusal::ProxyHeader`] for a header that is malformed, or that speaks of something else than
/// TCP; [`Refusal::ProxyPeer`] for any header if the peer is not `believed`.
pub fn read(bytes: &[u8], believed: bool) -> Result<Beginning, Refusal> {
    let (header, len) = if begins(bytes, SIGNATURE) {
        (read_binary as fn(&[u8]) -> _, SIGNATURE.len())
    } else if begins(bytes, WORD) {
        (read_line as fn(&[u8]) -> _, WORD.len())
    } else {
        return Ok(Beginning::Other);
    };
    if bytes.len() < len {
        return Ok(Beginning::Unclear);
    }
    if !believed {
        return Err(Refusal::ProxyPeer);
    }
    header(bytes)
}

/// Whether what has come is a beginning of `known`, or begins with it.
fn begins(bytes: &[u8], known: &[u8]) -> bool {
    let len = bytes.len().min(known.len());
    bytes[..len] == known[..len]
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`.
fn read_line(bytes: &[u8]) -> Result<Beginning, Refusal> {
    let within = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if bytes.len() < LONGEST_LINE {
            Ok(Beginning::Unclear)
        } else {
            Err(Refusal::ProxyHeader)
        };
    };
    let line = bytes[..end].strip_suffix(b"\r");
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    let source = line.and_then(source_of_line).ok_or(Refusal::ProxyHeader)?;
    Ok(Beginning::Header {
        len: end + 1,
        source: Some(source),
    })
}

fn source_of_line(line: &str) -> Option<SocketAddr> {
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    let mut address = || {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse().ok().map(IpAddr::V4),
            "TCP6" => word.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, _destination) = (address()?, address()?);
    let mut port = || {
        let word = words.next()?;
        let digits = word.bytes().all(|byte| byte.is_ascii_digit());
        word.parse::<u16>().ok().filter(|_| digits)
    };
    let (source_port, _destination_port) = (port()?, port()?);
    words
        .next()
        .is_none()
        .then(|| SocketAddr::new(source, source_port))
}

/// Version and command, family and protocol, length, addresses and ports, and what is ignored.
fn read_binary(bytes: &[u8]) -> Result<Beginning, Refusal> {
    let [command, family, high, low] = match bytes.get(SIGNATURE.len()..) {
        Some([command, family, high, low, ..]) => [*command, *family, *high, *low],
        _ => return Ok(Beginning::Unclear),
    };
    if !matches!(command, 0x20 | 0x21) {
        return Err(Refusal::ProxyHeader);
    }
    let start = SIGNATURE.len() + 4;
    let len = start + usize::from(u16::from_be_bytes([high, low]));
    let Some(addresses) = bytes.get(start..len) else {
        return Ok(Beginning::Unclear);
    };
    // LOCAL: the proxy speaks for itself, for example to see whether we live.
    let source = match (command, family) {
        (0x20, _) | (_, 0x01) => None,
        (_, 0x11) => Some(source_v4(addresses).ok_or(Refusal::ProxyHeader)?),
        (_, 0x21) => Some(source_v6(addresses).ok_or(Refusal::ProxyHeader)?),
        _ => return Err(Refusal::ProxyHeader),
    };
    Ok(Beginning::Header { len, source })
}

/// Two addresses, then two ports.
fn source_v4(addresses: &[u8]) -> Option<SocketAddr> {
    let (source, rest) = addresses.split_first_chunk::<4>()?;
    let (_destination, ports) = rest.split_first_chunk::<4>()?;
    let (ports, _more) = ports.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([ports[0], ports[1]]);
    Some(SocketAddr::new(Ipv4Addr::from(*source).into(), port))
}

fn source_v6(addresses: &[u8]) -> Option<SocketAddr> {
    let (source, rest) = addresses.split_first_chunk::<16>()?;
    let (_destination, ports) = rest.split_first_chunk::<16>()?;
    let (ports, _more) = ports.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([ports[0], ports[1]]);
    Some(SocketAddr::new(Ipv6Addr::from(*source).into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    fn header(bytes: &[u8], source: Option<&str>) {
        let source = source.map(|source| source.parse().unwrap());
        let len = bytes.len();
        let found = Ok(Beginning::Header { len, source });
        let mut all = bytes.to_vec();
        all.extend(GET);
        assert_eq!(read(&all, true), found);
        assert_eq!(read(&all, false), Err(Refusal::ProxyPeer));
        for cut in 0..len {
            assert_eq!(read(&bytes[..cut], true), Ok(Beginning::Unclear), "{cut}");
        }
    }

    fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let len = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        let parts = [SIGNATURE.as_slice(), &[command, family], &len, addresses];
        parts.concat()
    }

    #[test]
    fn version_1_names_the_client() {
        header(
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
            Some("192.0.2.1:56324"),
        );
        header(
            b"PROXY TCP6 2001:db8::1 ::1 1 0\r\n",
            Some("[2001:db8::1]:1"),
        );
        for line in [
            "PROXY ",
            "PROXY UNKNOWN",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324",
            "PROXY TCP5 1.1.1.1 1.1.1.1 1 1",
            "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1",
            "PROXY TCP4 1.1.1.1 1.1.1.1 1 65536",
            "PROXY TCP4 1.1.1.1 1.1.1.1 +1 1",
            "PROXY TCP4 ::1 ::1 1 1",
            "PROXY TCP6 1.1.1.1 1.1.1.1 1 1",
            "PROXY  TCP4 1.1.1.1 1.1.1.1 1 1",
            "PROXY TCP4 01.1.1.1 1.1.1.1 1 1",
            "PROXY TCP4 1.1.1 1.1.1.1 1 1",
            "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 ",
            "PROXY TCP4 1.1.1.1 1.1.1.1  1",
        ] {
            let bytes = format!("{line}\r\n");
            assert_eq!(
                read(bytes.as_bytes(), true),
                Err(Refusal::ProxyHeader),
                "{line}"
            );
        }
        assert_eq!(
            read(b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n", true),
            Err(Refusal::ProxyHeader)
        );
        assert_eq!(
            read(&[b"PROXY ".as_slice(), &[b'x'; 101]].concat(), true),
            Err(Refusal::ProxyHeader)
        );
    }

    #[test]
    fn version_2_names_the_client() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 1, 2, 3, 4];
        header(&binary(0x21, 0x11, &v4), Some("192.0.2.1:258"));
        header(
            &binary(0x21, 0x11, &[&v4[..], b"more"].concat()),
            Some("192.0.2.1:258"),
        );
        let v6 = [[1; 16], [2; 16], [3; 16]].concat();
        header(
            &binary(0x21, 0x21, &v6[..36]),
            Some("[101:101:101:101:101:101:101:101]:771"),
        );
        header(&binary(0x20, 0x00, b""), None);
        header(&binary(0x20, 0x11, &v4), None);
        header(&binary(0x21, 0x01, b"ignored"), None);
        for (command, family, len) in [
            (0x11, 0x11, 12),
            (0x22, 0x11, 12),
            (0x21, 0x11, 11),
            (0x21, 0x21, 35),
            (0x21, 0x12, 12),
            (0x21, 0x31, 216),
            (0x21, 0x41, 12),
            (0x21, 0x00, 0),
        ] {
            let bytes = binary(command, family, &vec![0; len]);
            assert_eq!(
                read(&bytes, true),
                Err(Refusal::ProxyHeader),
                "{command:x} {family:x} {len}"
            );
        }
    }

    #[test]
    fn what_is_no_header_is_left_for_http() {
        for bytes in [GET, b"PROXX", b"PUT", b"\r\n\r\nGET", b"\n", b"G"] {
            assert_eq!(read(bytes, false), Ok(Beginning::Other));
        }
        assert_eq!(read(b"", false), Ok(Beginning::Unclear));
        assert_eq!(read(b"P", false), Ok(Beginning::Unclear));
        assert_eq!(read(b"\r\n\r\n", false), Ok(Beginning::Unclear));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, start in 0..3) {
            let start: &[u8] = [&b""[..], SIGNATURE, WORD][start as usize];
            let bytes = [start, &bytes].concat();
            if let Ok(Beginning::Header { len, .. }) = read(&bytes, true) {
                prop_assert!(len <= bytes.len());
            }
        }
    }
}
