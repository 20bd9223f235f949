//! Between HTTP's bytes and Python's strings, which hold one byte a character (PEP 3333).
#![expect(unsafe_code, reason = "PyO3 has no call for latin-1")]

use std::borrow::Cow;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// A string with a character for each byte.
pub(crate) fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    let len = bytes.len().cast_signed();
    // SAFETY: the pointer is good for so many bytes, and null as errors means "strict". What comes
    // is a new reference to a str, or null with an exception set.
    unsafe {
        let text = ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), len, std::ptr::null());
        Bound::from_owned_ptr_or_err(py, text).map(|text| text.cast_into_unchecked())
    }
}

/// A byte for each character; `None` if one does not fit.
pub(crate) fn bytes_of(text: &str) -> Option<Cow<'_, [u8]>> {
    if text.is_ascii() {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let bytes: Result<Vec<u8>, _> = text.chars().map(|c| u8::try_from(u32::from(c))).collect();
    bytes.ok().map(Cow::Owned)
}

/// Resolves `%XX`; what is no such thing stays.
pub(crate) fn unquote(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'%', text) else {
        return Cow::Borrowed(text);
    };
    let mut out = Vec::with_capacity(text.len());
    let (plain, mut rest) = text.split_at(first);
    out.extend_from_slice(plain);
    while let Some((&byte, after)) = rest.split_first() {
        let code = match after {
            [high, low, ..] if byte == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        rest = match code {
            Some((high, low)) => {
                out.push(high << 4 | low);
                &after[2..]
            }
            None => {
                out.push(byte);
                after
            }
        };
    }
    Cow::Owned(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_resolved_and_what_only_looks_so_stays() {
        for (quoted, plain) in [
            ("/a/b", "/a/b"),
            ("/a%20b%2fC", "/a b/C"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%25%34%31", "%41"),
        ] {
            assert_eq!(unquote(quoted.as_bytes()), plain.as_bytes(), "{quoted}");
        }
        assert_eq!(unquote(b"%C3%A9"), "\u{e9}".as_bytes());
    }

    #[test]
    fn a_character_beyond_a_byte_does_not_fit() {
        assert_eq!(bytes_of("abc").unwrap(), b"abc".as_slice());
        assert_eq!(bytes_of("\u{e9}").unwrap(), b"\xe9".as_slice());
        assert_eq!(bytes_of("\u{20ac}"), None);
    }
}
