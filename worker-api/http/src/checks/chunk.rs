//! The line before each chunk of a body: its size, and extensions.

use super::chars::{is_token_byte, trim};
use super::refusal::Refusal;

/// A chunk-size line without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SizeLine {
    /// Bytes of the chunk; 0 for the last one.
    pub(super) size: u64,
    /// Bytes of the line that are extensions.
    pub(super) extensions: usize,
}

/// Reads a chunk-size line: hex digits and nothing else, then perhaps extensions.
pub(super) fn size_line(line: &[u8]) -> Result<SizeLine, Refusal> {
    let (digits, extensions) = match line.iter().position(|byte| *byte == b';') {
        // White space that nobody needs is allowed before an extension, and only there.
        Some(at) => (trim_end(&line[..at]), &line[at..]),
        None => (line, &line[line.len()..]),
    };
    let size = hex(digits).ok_or(Refusal::ChunkSize)?;
    if !are_extensions(extensions) {
        return Err(Refusal::ChunkExtension);
    }
    Ok(SizeLine {
        size,
        extensions: extensions.len(),
    })
}

fn hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(number.checked_mul(16)? | u64::from(digit))
    })
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`.
fn are_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(name) = after(skip_blanks(rest), b';') else {
            return false;
        };
        let Some(behind) = skip_token(skip_blanks(name)) else {
            return false;
        };
        rest = behind;
        if let Some(value) = after(skip_blanks(rest), b'=') {
            let value = skip_blanks(value);
            let Some(behind) = skip_token(value).or_else(|| skip_quoted(value)) else {
                return false;
            };
            rest = behind;
        }
    }
    true
}

fn after(text: &[u8], byte: u8) -> Option<&[u8]> {
    match text {
        [first, rest @ ..] if *first == byte => Some(rest),
        _ => None,
    }
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !matches!(byte, b' ' | b'\t'));
    &text[end.unwrap_or(text.len())..]
}

fn trim_end(text: &[u8]) -> &[u8] {
    match text {
        // What is before the digits is not trimmed: it makes the size invalid.
        [b' ' | b'\t', ..] => text,
        _ => trim(text),
    }
}

fn skip_token(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|byte| !is_token_byte(*byte));
    match end.unwrap_or(text.len()) {
        0 => None,
        end => Some(&text[end..]),
    }
}

fn skip_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut rest = after(text, b'"')?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'\t' | b' '..=b'~' | 0x80.., rest @ ..] => rest,
            [
                b'\t' | b' ' | b'!' | b'#'..=b'[' | b']'..=b'~' | 0x80..,
                rest @ ..,
            ] => rest,
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(line: &str) -> Result<u64, Refusal> {
        size_line(line.as_bytes()).map(|line| line.size)
    }

    #[test]
    fn a_size_is_hex_digits_alone() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("1e"), Ok(30));
        assert_eq!(size("000000000000000000000000A"), Ok(10));
        assert_eq!(size("FFFFFFFFFFFFFFFF"), Ok(u64::MAX));
        for line in [
            "",
            " ",
            " 5",
            "5 ",
            "+5",
            "-5",
            "0x5",
            "5_0",
            "5g",
            "5\r",
            "5\u{b2}",
            "10000000000000000",
            ";a",
            " ;a",
            " 5;a",
            "5 5;a",
        ] {
            assert_eq!(size(line), Err(Refusal::ChunkSize), "{line:?}");
        }
    }

    #[test]
    fn extensions_follow_the_grammar() {
        for line in [
            "5;a",
            "5 ;a",
            "5\t; a",
            "5;a=b",
            "5;a = b",
            "5;a=\"\"",
            "5;a=\"x;y\"; b",
            "5; some; parameters=stuff",
            r#"5;a="\"""#,
            "5;a=\"\u{e9}\t\"",
        ] {
            assert_eq!(size(line), Ok(5), "{line:?}");
        }
        for line in [
            "5;",
            "5; ",
            "5;a ",
            "5;;a",
            "5;a=",
            "5;=b",
            "5;a=b c",
            "5;a=\"b",
            "5;a=\"b\"c",
            "5;a\rb",
            "5;a=\"\r\"",
            "5;a=\"\\\u{1}\"",
            "5;a=\"b\\",
            "5;a\n",
        ] {
            assert_eq!(size(line), Err(Refusal::ChunkExtension), "{line:?}");
        }
    }
}
