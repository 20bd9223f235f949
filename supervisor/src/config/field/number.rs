//! Settings that count.

use std::num::NonZeroU64;

use super::super::WorkerCount;
use super::super::raw::Item;
use super::super::settings::Setting;
use super::super::units::{format_size, parse_size};
use super::{Fault, Field};

/// The same three answers for every width of number.
macro_rules! number_fields {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn read(&mut self, item: &Item, setting: &Setting) -> Result<(), Fault> {
                *self = number(item, setting)?;
                Ok(())
            }

            fn describe(&self, setting: &Setting) -> String {
                describe_number(setting)
            }

            fn value_name(&self) -> &'static str {
                "NUMBER"
            }

            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}

number_fields!(u16, u32, u64, usize);

/// File mode bits, in octal; not set until given.
impl Field for Option<u32> {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        let digits = item.text().ok_or_else(Fault::default)?;
        let digits = digits.strip_prefix("0o").unwrap_or(digits);
        let octal =
            (1..=4).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
        let bits = u32::from_str_radix(digits, 8)
            .ok()
            .filter(|bits| octal && *bits <= 0o777);
        *self = Some(bits.ok_or_else(Fault::default)?);
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        "octal digits in quotes".to_owned()
    }

    fn value_name(&self) -> &'static str {
        "MASK"
    }

    fn show(&self) -> Option<String> {
        self.map(|bits| format!("\"{bits:03o}\""))
    }
}

impl Field for Option<NonZeroU64> {
    fn read(&mut self, item: &Item, setting: &Setting) -> Result<(), Fault> {
        *self = NonZeroU64::new(number(item, setting)?);
        Ok(())
    }

    fn describe(&self, setting: &Setting) -> String {
        format!("{} (0 = off)", describe_number(setting))
    }

    fn value_name(&self) -> &'static str {
        "NUMBER"
    }

    fn show(&self) -> Option<String> {
        Some(self.map_or(0, NonZeroU64::get).to_string())
    }
}

impl Field for WorkerCount {
    fn read(&mut self, item: &Item, setting: &Setting) -> Result<(), Fault> {
        *self = match item.text() {
            Some("auto") => Self::Auto,
            _ => Self::Fixed(number(item, setting)?),
        };
        Ok(())
    }

    fn describe(&self, setting: &Setting) -> String {
        format!(r#""auto" or {}"#, describe_number(setting))
    }

    fn value_name(&self) -> &'static str {
        "NUMBER"
    }

    fn show(&self) -> Option<String> {
        Some(match self {
            Self::Auto => r#""auto""#.to_owned(),
            Self::Fixed(count) => count.to_string(),
        })
    }
}

/// A size in bytes; 0 = off.
impl Field for Option<u64> {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        let size = match item.whole() {
            Some(0) => Some(0),
            Some(number @ 1..) => {
                return Err(Fault::default().help(format!(
                    r#"a size needs its unit: "{number}MiB", or "{number}B" for bytes"#
                )));
            }
            Some(_) => None,
            None => item.text().and_then(parse_size),
        };
        *self = Some(size.ok_or_else(Fault::default)?).filter(|bytes| *bytes > 0);
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        "a size (0 = off)".to_owned()
    }

    fn value_name(&self) -> &'static str {
        "SIZE"
    }

    fn show(&self) -> Option<String> {
        Some(self.map_or("0".to_owned(), |bytes| format!("{:?}", format_size(bytes))))
    }
}

fn number<N: TryFrom<u64>>(item: &Item, setting: &Setting) -> Result<N, Fault> {
    let inside = |number: &u64| setting.limits.contains(*number);
    let number = item
        .whole()
        .and_then(|number| u64::try_from(number).ok())
        .filter(inside);
    number
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| {
            // In the file; elsewhere a number needs no quotes.
            let quoted = item.whole().is_none()
                && item.text().is_some_and(|text| text.parse::<u64>().is_ok());
            let help = quoted.then(|| "write the number without quotes".to_owned());
            Fault {
                help,
                ..Fault::default()
            }
        })
}

fn describe_number(setting: &Setting) -> String {
    let limits = setting.limits;
    match (limits.least, limits.most) {
        (0, u64::MAX) => "a whole number".to_owned(),
        (least, u64::MAX) => format!("a whole number, {least} or more"),
        (least, most) => format!("a whole number from {least} to {most}"),
    }
}
