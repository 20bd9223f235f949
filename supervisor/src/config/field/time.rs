//! Settings that last.

use std::time::Duration;

use super::super::raw::{Item, Raw};
use super::super::settings::Setting;
use super::super::units::{format_duration, parse_duration};
use super::{Fault, Field};

impl Field for Duration {
    fn read(&mut self, item: &Item, setting: &Setting) -> Result<(), Fault> {
        *self = duration(item, setting)?;
        Ok(())
    }

    fn describe(&self, setting: &Setting) -> String {
        match setting.limits.least {
            0 => "a duration".to_owned(),
            least => {
                let least = format_duration(Duration::from_millis(least));
                format!("a duration of {least} or more")
            }
        }
    }

    fn value_name(&self) -> &'static str {
        "DURATION"
    }

    fn show(&self) -> Option<String> {
        Some(format!("{:?}", format_duration(*self)))
    }
}

/// A duration; zero = off, and `0` needs no unit.
impl Field for Option<Duration> {
    fn read(&mut self, item: &Item, setting: &Setting) -> Result<(), Fault> {
        *self = match item.whole() {
            Some(0) => None,
            _ => Some(duration(item, setting)?).filter(|duration| !duration.is_zero()),
        };
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        r#"a duration ("0s" = off)"#.to_owned()
    }

    fn value_name(&self) -> &'static str {
        "DURATION"
    }

    fn show(&self) -> Option<String> {
        self.unwrap_or_default().show()
    }
}

/// A duration that is worked out from others when it is `"auto"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Automatic(pub(crate) Option<Duration>);

impl Field for Automatic {
    fn read(&mut self, item: &Item, setting: &Setting) -> Result<(), Fault> {
        self.0 = match item.text() {
            Some("auto") => None,
            _ => Some(duration(item, setting)?),
        };
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        r#""auto" or a duration"#.to_owned()
    }

    fn value_name(&self) -> &'static str {
        "DURATION"
    }

    fn show(&self) -> Option<String> {
        self.0
            .map_or(Some(r#""auto""#.to_owned()), |duration| duration.show())
    }
}

fn duration(item: &Item, setting: &Setting) -> Result<Duration, Fault> {
    if let (Some(number @ 0..), Raw::Whole(_) | Raw::Word(_)) = (item.whole(), &item.raw) {
        let quote = if matches!(item.raw, Raw::Whole(_)) {
            "\""
        } else {
            ""
        };
        let help = format!(
            "a duration needs its unit: {quote}{number}s{quote} for seconds, {quote}{number}ms{quote} for milliseconds"
        );
        return Err(Fault::default().help(help));
    }
    let parsed = item.text().and_then(parse_duration);
    let least = Duration::from_millis(setting.limits.least);
    parsed
        .filter(|duration| *duration >= least)
        .ok_or_else(Fault::default)
}
