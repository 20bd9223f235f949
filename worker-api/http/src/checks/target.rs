//! The target of a request, and whether it fits the method (RFC 9112, section 3.2).

use std::net::Ipv6Addr;

use http::Uri;

use super::chars::{self, is_visible};

/// Whether a request with this method can have this target.
pub(super) fn fits(method: &[u8], target: &[u8]) -> bool {
    let form = match target {
        _ if method == b"CONNECT" => is_authority_form(target),
        [b'/', ..] => return is_visible(target),
        b"*" => method == b"OPTIONS",
        _ => is_absolute_form(target),
    };
    // Seldom enough to ask hyper's own judge, who knows more of names and ports.
    form && is_visible(target) && Uri::try_from(escape(target)).is_ok()
}

/// Whether hyper's `Uri` does not show a target as it is: it drops a fragment, gives an absolute
/// form a path, and does not take some bytes.
pub(super) fn is_strange(target: &[u8]) -> bool {
    target.iter().copied().any(chars::is_strange) || !matches!(target, [b'/', ..] | b"*")
}

/// The target in the way that `Uri` takes it: for any app it means the same.
pub(super) fn escape(target: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(target.len() + 16);
    for byte in target {
        match byte {
            b'"' => escaped.extend_from_slice(b"%22"),
            b'<' => escaped.extend_from_slice(b"%3C"),
            b'>' => escaped.extend_from_slice(b"%3E"),
            b'`' => escaped.extend_from_slice(b"%60"),
            byte => escaped.push(*byte),
        }
    }
    escaped
}

/// `host:port`, of CONNECT alone. Nobody can be connected to port 0.
fn is_authority_form(target: &[u8]) -> bool {
    let port = split_host(target).and_then(|port| port_of(port?));
    port.is_some_and(|port| port > 0)
}

/// `scheme://authority`, and what follows.
fn is_absolute_form(target: &[u8]) -> bool {
    let scheme = target.iter().take_while(|byte| is_scheme_byte(**byte));
    let (scheme, rest) = target.split_at(scheme.count());
    let (Some(first), Some(rest)) = (scheme.first(), rest.strip_prefix(b"://")) else {
        return false;
    };
    let mut parts = authority(rest).splitn(2, |byte| *byte == b'@');
    let host = match (parts.next(), parts.next()) {
        (_, Some(host)) | (Some(host), None) => split_host(host),
        (None, None) => None,
    };
    // RFC 3986, section 3.2.3: a port may be empty.
    let port = host.map(|port| port.filter(|port| !port.is_empty()));
    first.is_ascii_alphabetic()
        && port.is_some_and(|port| port.is_none_or(|port| port_of(port).is_some()))
}

fn is_scheme_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

/// What comes before a path, a query or a fragment.
fn authority(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| b"/?#".contains(byte));
    &text[..end.unwrap_or(text.len())]
}

/// What is behind the colon after a host, if there is one; `None` where there is no host. Brackets
/// are around an IPv6 address, and nowhere else.
fn split_host(text: &[u8]) -> Option<Option<&[u8]>> {
    let len = match text {
        [b'[', inside @ ..] => {
            let len = inside.iter().position(|byte| *byte == b']')?;
            let address = std::str::from_utf8(&inside[..len]).ok()?;
            address.parse::<Ipv6Addr>().ok()?;
            len + 2
        }
        _ => text.iter().take_while(|byte| **byte != b':').count(),
    };
    let (host, rest) = text.split_at(len);
    let is_name = host.starts_with(b"[") || !host.iter().any(|byte| b"[]@/?#".contains(byte));
    match rest {
        _ if host.is_empty() || !is_name => None,
        [] => Some(None),
        [b':', port @ ..] => Some(Some(port)),
        _ => None,
    }
}

/// A port, in digits alone.
fn port_of(digits: &[u8]) -> Option<u16> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_fits(cases: &[(&str, &str, bool)]) {
        for (method, target, fit) in cases {
            let fits = fits(method.as_bytes(), target.as_bytes());
            assert_eq!(fits, *fit, "{method} {target}");
        }
    }

    #[test]
    fn paths_are_for_every_method_but_connect() {
        assert_fits(&[
            ("GET", "/", true),
            ("GET", "///a?b#c", true),
            ("GET", "//[", true),
            ("GET", "*", false),
            ("OPTIONS", "*", true),
            ("OPTIONS", "**", false),
            ("GET", "a/b", false),
            ("GET", "example.com", false),
            ("GET", "example.com:443", false),
            ("GET", "http:/a", false),
            ("GET", "", false),
            ("GET", "/a\u{e9}", false),
            ("GET", "/a\u{7f}", false),
            ("GET", "/a\tb", false),
        ]);
    }

    #[test]
    fn an_absolute_form_has_a_host_and_perhaps_a_port() {
        assert_fits(&[
            ("GET", "http://example.com", true),
            ("GET", "HTTP://u:p@example.com:80/a?b", true),
            ("GET", "http://[::1]:80/", true),
            ("GET", "http://[::1/", false),
            ("GET", "http://::1]/", false),
            ("GET", "http://[::1]x/", false),
            ("GET", "http://[x]/", false),
            ("GET", "http://x[::1]/", false),
            ("PUT", "s://]ufd/:", false),
            ("GET", "http://a:/", true),
            ("GET", "http://a:65535", true),
            ("GET", "http://a:65536/", false),
            ("GET", "http://a:b/", false),
            ("GET", "http://a:-1/", false),
            ("GET", "http://:80/", false),
            ("GET", "http://u@:80/", false),
            ("GET", "http://u@/", false),
            ("GET", "http://u@v@a/", false),
            ("GET", "http://@a/", true),
            ("GET", "http://[::1]:x/", false),
            ("GET", "http://a:1:2/", false),
            ("GET", "http:///a", false),
            ("GET", "://a", false),
            ("GET", "1http://a/", false),
        ]);
    }

    #[test]
    fn connect_has_a_host_and_a_port() {
        assert_fits(&[
            ("CONNECT", "example.com:443", true),
            ("CONNECT", "[::1]:443", true),
            ("CONNECT", "example.com:1", true),
            ("CONNECT", "example.com:65535", true),
            ("CONNECT", "example.com:65536", false),
            ("CONNECT", "example.com:0", false),
            ("CONNECT", "example.com:", false),
            ("CONNECT", "example.com:+1", false),
            ("CONNECT", "example.com:http", false),
            ("CONNECT", "a:b:1", false),
            ("CONNECT", ":443", false),
            ("CONNECT", ":", false),
            ("CONNECT", "", false),
            ("CONNECT", "u@example.com:443", false),
            ("CONNECT", "a:@b", false),
            ("CONNECT", "[::1]", false),
            ("CONNECT", "[::1]:", false),
            ("CONNECT", "[::1]:x", false),
            ("CONNECT", "example.com", false),
            ("CONNECT", "/", false),
            ("CONNECT", "a:1/b", false),
            ("CONNECT", "http://a:1", false),
            ("CONNECT", "*", false),
        ]);
    }
}
