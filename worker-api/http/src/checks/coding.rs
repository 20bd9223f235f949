//! Where a body ends: `Transfer-Encoding` and `Content-Length`.

use super::chars::trim;
use super::refusal::Refusal;

/// The transfer codings of a message, over all of its `Transfer-Encoding` fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Codings {
    /// There is such a field.
    pub(super) given: bool,
    /// The last one is `chunked`.
    pub(super) chunked: bool,
    /// Something comes before `chunked` that the app would have to undo.
    pub(super) compressed: bool,
}

impl Codings {
    /// Takes one more field's value.
    pub(super) fn add(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.given = true;
        for coding in value.split(|byte| *byte == b',').map(trim) {
            let is = |name: &str| coding.eq_ignore_ascii_case(name.as_bytes());
            let known = is("chunked") || is("identity");
            let compressed = is("gzip") || is("deflate") || is("compress");
            if !known && !compressed {
                return Err(Refusal::UnknownCoding);
            }
            // Nothing comes after chunked, and least of all chunked again.
            if self.chunked {
                return Err(Refusal::TransferEncoding);
            }
            self.chunked = is("chunked");
            self.compressed |= compressed;
        }
        Ok(())
    }
}

/// Reads a `Content-Length`.
pub(super) fn length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::ContentLength);
    }
    // A number that is too large to be counted is too large for a body.
    let number = value.iter().try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    });
    number.ok_or(Refusal::BodyTooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunked_is_the_last_coding_and_the_only_one() {
        let codings = |values: &[&str]| {
            let mut codings = Codings::default();
            for value in values {
                codings.add(value.as_bytes())?;
            }
            Ok((codings.chunked, codings.compressed))
        };
        assert_eq!(codings(&["chunked"]), Ok((true, false)));
        assert_eq!(codings(&["identity", "Chunked"]), Ok((true, false)));
        assert_eq!(codings(&["gzip,\tchunked"]), Ok((true, true)));
        assert_eq!(codings(&["identity"]), Ok((false, false)));
        for values in [
            &["chunked, chunked"][..],
            &["chunked", "identity"],
            &["chunked,gzip"],
        ] {
            assert_eq!(
                codings(values),
                Err(Refusal::TransferEncoding),
                "{values:?}"
            );
        }
        for value in [
            "",
            "chunked,",
            ",chunked",
            "x-gzip",
            "chunked;a=b",
            "\"chunked\"",
            "chunk ed",
            "\u{b}chunked",
        ] {
            assert_eq!(codings(&[value]), Err(Refusal::UnknownCoding), "{value:?}");
        }
    }

    #[test]
    fn a_length_is_digits_alone() {
        assert_eq!(length(b"0"), Ok(0));
        assert_eq!(length(b"007"), Ok(7));
        assert_eq!(length(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(length(b"18446744073709551616"), Err(Refusal::BodyTooLong));
        for value in [
            "", "-0", "+1", "0_1", "1 1", "1,1", "0x1", "1.0", "\u{b2}", "bla",
        ] {
            assert_eq!(
                length(value.as_bytes()),
                Err(Refusal::ContentLength),
                "{value:?}"
            );
        }
    }
}
