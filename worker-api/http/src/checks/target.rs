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

/// `host:port`, of CONNECT alone.
fn is_authority_form(target: &[u8]) -> bool {
    let has_port = target.iter().rev().take_while(|byte| **byte != b':');
    has_port.count() < target.len() && authority(target).len() == target.len() && is_host(target)
}

/// `scheme://authority`, and what follows.
fn is_absolute_form(target: &[u8]) -> bool {
    let scheme = target.iter().take_while(|byte| is_scheme_byte(**byte));
    let (scheme, rest) = target.split_at(scheme.count());
    let (Some(first), Some(rest)) = (scheme.first(), rest.strip_prefix(b"://")) else {
        return false;
    };
    let authority = authority(rest);
    first.is_ascii_alphabetic() && !authority.is_empty() && is_host(authority)
}

fn is_scheme_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

/// What comes before a path, a query or a fragment.
fn authority(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| b"/?#".contains(byte));
    &text[..end.unwrap_or(text.len())]
}

/// Brackets are only around an IPv6 address.
fn is_host(authority: &[u8]) -> bool {
    let name = authority.rsplit(|byte| *byte == b'@').next();
    let name = name.unwrap_or_default();
    let brackets = authority.iter().filter(|byte| matches!(byte, b'[' | b']'));
    let Some(inside) = name.strip_prefix(b"[") else {
        return brackets.count() == 0;
    };
    let Some(end) = inside.iter().position(|byte| *byte == b']') else {
        return false;
    };
    let address = std::str::from_utf8(&inside[..end]);
    brackets.count() == 2
        && matches!(inside.get(end + 1), None | Some(b':'))
        && address.is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_its_forms() {
        for (method, target, fit) in [
            ("GET", "/", true),
            ("GET", "///a?b#c", true),
            ("GET", "//[", true),
            ("GET", "*", false),
            ("OPTIONS", "*", true),
            ("OPTIONS", "**", false),
            ("GET", "a/b", false),
            ("GET", "example.com", false),
            ("GET", "example.com:443", false),
            ("GET", "http://example.com", true),
            ("GET", "HTTP://u:p@example.com:80/a?b", true),
            ("GET", "http://[::1]:80/", true),
            ("GET", "http://[::1/", false),
            ("GET", "http://::1]/", false),
            ("GET", "http://[::1]x/", false),
            ("GET", "http://[x]/", false),
            ("GET", "http://x[::1]/", false),
            ("PUT", "s://]ufd/:", false),
            ("GET", "http:///a", false),
            ("GET", "http:/a", false),
            ("GET", "://a", false),
            ("GET", "1http://a/", false),
            ("GET", "", false),
            ("GET", "/a\u{e9}", false),
            ("GET", "/a\u{7f}", false),
            ("GET", "/a\tb", false),
            ("CONNECT", "example.com:443", true),
            ("CONNECT", "[::1]:443", true),
            ("CONNECT", "example.com", false),
            ("CONNECT", "/", false),
            ("CONNECT", "a:1/b", false),
            ("CONNECT", "http://a:1", false),
            ("CONNECT", "*", false),
        ] {
            assert_eq!(
                fits(method.as_bytes(), target.as_bytes()),
                fit,
                "{method} {target}"
            );
        }
    }
}
