//! Text from outside, made safe to print.

/// Whether a terminal would act on this character instead of showing it:
/// control characters, and those that hide text or turn its direction.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// The text with hidden characters spelled out, tabs as one blank.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push(' '),
            c if is_hidden(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// The same for several lines: their ends stay.
pub(crate) fn visible_lines(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(
            visible("a\u{1b}[31mb\r\n\u{202e}c\u{9b}d\te"),
            r"a\u{1b}[31mb\r\n\u{202e}c\u{9b}d e"
        );
        assert_eq!(visible("Größe 大"), "Größe 大");
        assert_eq!(visible_lines("a\u{7}\nb"), "a\\u{7}\nb");
    }
}
