//! Classes of bytes, as RFC 9110 has them.

use super::quick::class;

/// What each byte can be part of.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        classes[byte as usize] = classify(byte);
        byte += 1;
    }
    classes
};

const fn classify(byte: u8) -> u8 {
    let token = byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        );
    // gunicorn's rule: suitable for all methods that IANA has registered.
    let method = token && !byte.is_ascii_lowercase() && byte != b'#';
    let target = byte.is_ascii_graphic() && !is_strange(byte);
    let flags = [
        (token, class::TOKEN),
        (method, class::METHOD),
        (target, class::TARGET),
        (byte == b'_', class::UNDERSCORE),
    ];
    let (mut classes, mut flag) = (0, 0);
    while flag < flags.len() {
        if flags[flag].0 {
            classes |= flags[flag].1;
        }
        flag += 1;
    }
    classes
}

/// Whether hyper's `Uri` does not take a byte of a target as it is.
pub(super) const fn is_strange(byte: u8) -> bool {
    matches!(byte, b'"' | b'#' | b'<' | b'>' | b'`')
}

#[inline]
pub(super) fn class_of(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

/// Whether all of it is one token.
#[inline]
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

#[inline]
pub(super) fn is_token_byte(byte: u8) -> bool {
    class_of(byte) & class::TOKEN != 0
}

/// Whether it can be a method, but for its length.
#[inline]
pub(super) fn is_method(text: &[u8]) -> bool {
    text.iter().all(|byte| class_of(*byte) & class::METHOD != 0)
}

/// Whether all of it is visible ASCII, as a request target is.
#[inline]
pub(super) fn is_visible(text: &[u8]) -> bool {
    // No early exit: so the compiler takes many bytes at a time.
    !text.iter().fold(false, |odd, byte| {
        odd | (byte.wrapping_sub(b'!') > b'~' - b'!')
    })
}

/// Whether there is a control character other than a tab.
#[inline]
pub(super) fn has_control(text: &[u8]) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    text.iter().any(is_control)
}

/// Without the spaces and tabs around it.
#[inline]
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_its_class() {
        let tokens: Vec<u8> = (0..=255).filter(|byte| is_token(&[*byte])).collect();
        assert_eq!(
            tokens,
            b"!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~"
        );
        for byte in 0..=255 {
            let token = is_token(&[byte]);
            let method = token && !byte.is_ascii_lowercase() && byte != b'#';
            assert_eq!(is_method(&[byte]), method);
            assert_eq!(is_visible(&[byte]), byte.is_ascii_graphic());
            let control = byte.is_ascii_control() && byte != b'\t';
            assert_eq!(has_control(&[b'a', byte, b'b']), control);
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn only_spaces_and_tabs_are_trimmed() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b"\x0ba\r"), b"\x0ba\r");
    }
}
