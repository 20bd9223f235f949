//! Lines as almost everybody sends them, read in one pass.
//!
//! `None` says no more than that a line needs a closer look: it may be long, odd, wrong, or not
//! complete. What is read here, the closer look of [`head`](super::head) reads in the same way.

use super::chars::{class_of, trim};

/// The first line of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestLine {
    /// Bytes of the line, with its end.
    pub(super) len: usize,
    /// HTTP/1.1, and not HTTP/1.0.
    pub(super) modern: bool,
}

/// A field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// Bytes of the line, with its end.
    pub(super) len: usize,
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    /// The name has an underscore.
    pub(super) underscore: bool,
}

/// A method, a target that begins with a slash and that hyper takes as it is, and a version.
#[inline]
pub(super) fn request_line(bytes: &[u8]) -> Option<RequestLine> {
    let method = run(bytes, class::METHOD);
    if !(3..=20).contains(&method) || bytes[method..].first_chunk()? != b" /" {
        return None;
    }
    let target = method + 2;
    let end = target + run(&bytes[target..], class::TARGET);
    let modern = match bytes[end..].first_chunk()? {
        b" HTTP/1.1\r\n" => true,
        b" HTTP/1.0\r\n" => false,
        _ => return None,
    };
    let len = end + b" HTTP/1.1\r\n".len();
    (&bytes[..method] != b"CONNECT").then_some(RequestLine { len, modern })
}

/// A name, a colon and a value.
#[inline]
pub(super) fn field(bytes: &[u8]) -> Option<Field<'_>> {
    let (mut colon, mut underscore) = (0, 0);
    loop {
        let class = class_of(*bytes.get(colon)?);
        if class & class::TOKEN == 0 {
            break;
        }
        underscore |= class & class::UNDERSCORE;
        colon += 1;
    }
    let (name, rest) = bytes.split_at(colon);
    let value = rest.strip_prefix(b":").filter(|_| !name.is_empty())?;
    let end = value_len(value)?;
    if value[end..].first_chunk()? != b"\r\n" {
        return None;
    }
    Some(Field {
        len: colon + 1 + end + 2,
        name,
        value: trim(&value[..end]),
        underscore: underscore != 0,
    })
}

pub(super) mod class {
    //! What a byte can be part of.
    pub(in super::super) const TOKEN: u8 = 1;
    pub(in super::super) const METHOD: u8 = 2;
    /// Of a target, and hyper takes it.
    pub(in super::super) const TARGET: u8 = 4;
    pub(in super::super) const UNDERSCORE: u8 = 8;
}

/// So many bytes of this class come first.
#[inline]
fn run(bytes: &[u8], class: u8) -> usize {
    let other = bytes.iter().position(|byte| class_of(*byte) & class == 0);
    other.unwrap_or(bytes.len())
}

/// Where the first control character is that is no tab.
#[inline]
fn value_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk() {
        let found = controls(u64::from_le_bytes(*chunk));
        if found == 0 {
            at += 8;
            continue;
        }
        at += (found.trailing_zeros() / 8) as usize;
        if bytes[at] != b'\t' {
            return Some(at);
        }
        at += 1;
    }
    let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    Some(at + bytes[at..].iter().position(is_control)?)
}

/// The high bit of each byte below a space, and of DEL; beyond the first such byte also of others.
#[inline]
const fn controls(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let low = word.wrapping_sub(ONES * 0x20);
    let del = (word ^ (ONES * 0x7f)).wrapping_sub(ONES);
    (low | del) & !word & (ONES * 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_value_is_its_first_control_character() {
        for byte in 0..=255_u8 {
            let control = byte.is_ascii_control() && byte != b'\t';
            for place in 0..20 {
                let mut bytes = [b'~'; 24];
                bytes[place] = byte;
                bytes[21] = b'\r';
                let end = if control { place } else { 21 };
                assert_eq!(value_len(&bytes), Some(end), "{byte:#x} {place}");
                bytes[place + 1..].fill(b'\t');
                assert_eq!(
                    value_len(&bytes),
                    control.then_some(place),
                    "{byte:#x} {place}"
                );
                bytes[place + 1..].fill(0xff);
                assert_eq!(
                    value_len(&bytes),
                    control.then_some(place),
                    "{byte:#x} {place}"
                );
            }
        }
    }

    #[test]
    fn what_is_odd_needs_a_closer_look() {
        let line = |line: &str| request_line(line.as_bytes()).map(|line| (line.len, line.modern));
        assert_eq!(line("GET /a?b HTTP/1.1\r\nA: b"), Some((19, true)));
        assert_eq!(line("GET / HTTP/1.0\r\n"), Some((16, false)));
        for odd in [
            "",
            "GET",
            "GET ",
            "GET /",
            "GET / HTTP/1.1\r",
            "GET / HTTP/1.1\n\n",
            "GET / HTTP/1.2\r\n",
            "GE / HTTP/1.1\r\n",
            "get / HTTP/1.1\r\n",
            "GET * HTTP/1.1\r\n",
            "GET /# HTTP/1.1\r\n",
            "GET /< HTTP/1.1\r\n",
            "GET /\u{e9} HTTP/1.1\r\n",
            "GET  / HTTP/1.1\r\n",
            "CONNECT / HTTP/1.1\r\n",
        ] {
            assert_eq!(line(odd), None, "{odd:?}");
        }
        let found = field(b"A_b:  c\td \r\nE").unwrap();
        assert_eq!(
            (found.len, found.name, found.value, found.underscore),
            (12, &b"A_b"[..], &b"c\td"[..], true)
        );
        for odd in [
            "",
            "A",
            "A:",
            "A: b",
            "A: b\r",
            "A: b\n",
            "A: b\rc\r\n",
            "A : b\r\n",
            ": b\r\n",
            " A: b\r\n",
            "A: b\0\r\n",
        ] {
            assert_eq!(field(odd.as_bytes()), None, "{odd:?}");
        }
    }
}
