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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_beyond_a_byte_does_not_fit() {
        assert_eq!(bytes_of("abc").unwrap(), b"abc".as_slice());
        assert_eq!(bytes_of("\u{e9}").unwrap(), b"\xe9".as_slice());
        assert_eq!(bytes_of("\u{20ac}"), None);
    }
}
