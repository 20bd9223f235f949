//! Durations and sizes: numbers that never come without their unit.

use std::time::Duration;

/// No setting needs longer, and a clock can be moved on by it without overflow.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Units of a duration in milliseconds, longest first.
const TIME: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Units of a size in bytes, largest first; what is printed comes before its other spellings.
const BYTES: [(&str, u64); 12] = [
    ("TiB", 1 << 40),
    ("Ti", 1 << 40),
    ("GiB", 1 << 30),
    ("Gi", 1 << 30),
    ("MiB", 1 << 20),
    ("Mi", 1 << 20),
    ("KiB", 1 << 10),
    ("Ki", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads `"30s"`, `"1m30s"`, `"250ms"`: whole numbers with units, longest unit first.
///
/// `None` when it is anything else, or longer than [`LONGEST`].
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (mut rest, mut total, mut units) = (text, 0_u64, TIME.as_slice());
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let name = &after[..after
            .find(|c: char| !c.is_ascii_lowercase())
            .unwrap_or(after.len())];
        let place = units.iter().position(|(unit, _)| *unit == name)?;
        total = total.checked_add(number.checked_mul(units[place].1)?)?;
        units = &units[place + 1..];
        rest = &after[name.len()..];
    }
    let duration = Duration::from_millis(total);
    (!text.is_empty() && duration <= LONGEST).then_some(duration)
}

/// Writes a duration so that [`parse_duration`] reads it back (to the millisecond).
pub(crate) fn format_duration(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    // "75s" says more than "1m15s".
    if left.is_multiple_of(1_000) && left <= 120_000 {
        return format!("{}s", left / 1_000);
    }
    let mut text = String::new();
    for (unit, length) in TIME {
        if left >= length {
            text.push_str(&format!("{}{unit}", left / length));
            left %= length;
        }
    }
    text
}

/// Reads `"512MiB"`, or `"512Mi"` as Kubernetes writes it; `None` when it is anything else.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, name) = split_number(text)?;
    let (_, bytes) = BYTES.iter().find(|(unit, _)| *unit == name)?;
    number.checked_mul(*bytes)
}

/// Writes a size in the largest unit that divides it.
pub(crate) fn format_size(bytes: u64) -> String {
    let fits = BYTES
        .iter()
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    let (name, unit) = fits.unwrap_or(&("B", 1));
    format!("{}{name}", bytes / unit)
}

/// The whole number at the start, and what follows it.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_with_their_units() {
        let ms = |text| parse_duration(text).map(|duration| duration.as_millis());
        assert_eq!(ms("30s"), Some(30_000));
        assert_eq!(ms("1m30s"), Some(90_000));
        assert_eq!(ms("250ms"), Some(250));
        assert_eq!(ms("0s"), Some(0));
        assert_eq!(ms("1d2h3m4s5ms"), Some(93_784_005));
        for text in [
            "", "30", "30x", "s", "-1s", "1.5s", "1s1s", "1s1m", "30 s", "30S", "366d",
        ] {
            assert_eq!(ms(text), None, "{text}");
        }
        assert_eq!(ms("99999999999999999999s"), None);
        assert_eq!(ms("9999999999999999999d"), None);
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(parse_size("512MiB"), Some(512 << 20));
        assert_eq!(parse_size("512Mi"), Some(512 << 20));
        assert_eq!(parse_size("1GB"), Some(1_000_000_000));
        for text in ["", "512", "MiB", "512M", "1.5GiB", "-1B", "99999999999TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        assert_eq!(format_size(512 << 20), "512MiB");
        assert_eq!(format_size(0), "0B");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in 0_u64..=31_536_000_000, bytes: u64) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,20}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
