//! Dates in UTC, as logs have them.

use std::time::{SystemTime, UNIX_EPOCH};

use super::atom::number;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// `[10/Oct/2000:13:55:36 +0000]`.
pub(super) fn write_clf(at: SystemTime, line: &mut Vec<u8>) {
    let Moment {
        year,
        month,
        day,
        hour,
        minute,
        second,
        ..
    } = Moment::of(at);
    let month = MONTHS[month - 1];
    number(
        line,
        format_args!("[{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000]"),
    );
}

/// `2000-10-10T13:55:36.123Z`.
pub(super) fn write_rfc3339(at: SystemTime, line: &mut Vec<u8>) {
    let Moment {
        year,
        month,
        day,
        hour,
        minute,
        second,
        millis,
    } = Moment::of(at);
    number(
        line,
        format_args!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        ),
    );
}

struct Moment {
    year: u64,
    /// 1 to 12.
    month: usize,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    millis: u32,
}

impl Moment {
    /// A clock before 1970 reads as 1970.
    fn of(at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        // Years that begin in March, in eras of 400, as in Howard Hinnant's
        // "chrono-Compatible Low-Level Date Algorithms": leap days come last.
        let days = days + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let leaps = day_of_era / 1_460 + day_of_era / 146_096 - day_of_era / 36_524;
        let year_of_era = (day_of_era - leaps) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        Self {
            year: 400 * era + year_of_era + u64::from(month <= 2),
            month: usize::try_from(month).unwrap_or(1),
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
            millis: since.subsec_millis(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.007Z"),
            (1_735_689_599, "2024-12-31T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            let mut line = Vec::new();
            let at = UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7);
            write_rfc3339(at, &mut line);
            assert_eq!(line, expected.as_bytes());
        }
        let mut line = Vec::new();
        write_clf(UNIX_EPOCH + Duration::from_secs(971_186_136), &mut line);
        assert_eq!(line, b"[10/Oct/2000:13:55:36 +0000]");
        line.clear();
        write_clf(UNIX_EPOCH - Duration::from_secs(1), &mut line);
        assert_eq!(line, b"[01/Jan/1970:00:00:00 +0000]");
    }
}
