//! What others wrote, made harmless.

use super::atom::number;

/// What surrounds a value in a line of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// This sign ends the value; it is escaped in the value itself.
    Before(Option<u8>),
    /// It is in a string of a format that is shaped as JSON.
    InJson,
}

/// Appends a value of a line of text, cut at `cut` bytes. Printable ASCII stays; a quote and a
/// backslash get a backslash; control characters, all that is not ASCII and the sign that ends the
/// value in this format are written as `\xNN`, which JSON does not know: see [`json`].
pub(super) fn text(value: &[u8], setting: Setting, cut: usize, line: &mut Vec<u8>) {
    let end = match setting {
        Setting::Before(end) => end,
        Setting::InJson => return in_json(value, cut, line),
    };
    let kept = &value[..value.len().min(cut)];
    for &byte in kept {
        match byte {
            b'"' | b'\\' => line.extend([b'\\', byte]),
            b' '..=b'~' if Some(byte) != end => line.push(byte),
            _ => number(line, format_args!("\\x{byte:02x}")),
        }
    }
    if kept.len() < value.len() {
        line.extend(b"...");
    }
}

/// Appends a value as a JSON string of ASCII letters, cut at `cut` bytes. Bytes that are not UTF-8
/// become U+FFFD.
pub(super) fn json(value: &[u8], cut: usize, line: &mut Vec<u8>) {
    line.push(b'"');
    in_json(value, cut, line);
    line.push(b'"');
}

fn in_json(value: &[u8], cut: usize, line: &mut Vec<u8>) {
    let kept = &value[..value.len().min(cut)];
    for chunk in kept.utf8_chunks() {
        for sign in chunk.valid().chars() {
            match sign {
                '"' => line.extend(b"\\\""),
                '\\' => line.extend(b"\\\\"),
                ' '..='~' => line.push(sign as u8),
                sign => {
                    for unit in sign.encode_utf16(&mut [0; 2]) {
                        number(line, format_args!("\\u{unit:04x}"));
                    }
                }
            }
        }
        if !chunk.invalid().is_empty() {
            line.extend(b"\\ufffd");
        }
    }
    if kept.len() < value.len() {
        line.extend(b"...");
    }
}
