//! How each type of a setting is read, described and shown.

mod list;
mod number;
mod text;
mod time;

use std::ops::Range;

use super::choice::Choice;
use super::raw::{Item, Raw};
use super::settings::Setting;

pub(crate) use text::Program;
pub(crate) use time::Automatic;

/// A place for one setting's value.
pub(crate) trait Field {
    /// Takes the value that was written, or says what is wrong with it.
    fn read(&mut self, item: &Item, setting: &Setting) -> Result<(), Fault>;

    /// What fits, for "expected ..." and the reference: `a duration`.
    fn describe(&self, setting: &Setting) -> String;

    /// What stands for the value in the help of the command line.
    fn value_name(&self) -> &'static str;

    /// The value as TOML; `None` when only leaving the key out says it.
    fn show(&self) -> Option<String>;
}

/// Why a value does not fit.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Fault {
    /// The part that is wrong, when it is not the whole value.
    pub(crate) span: Option<Range<usize>>,
    /// What fits; the setting's own "expected ..." when left out.
    pub(crate) label: Option<String>,
    /// What to write instead.
    pub(crate) help: Option<String>,
}

impl Fault {
    /// This value, and so ...
    pub(crate) fn at(item: &Item, label: impl Into<String>) -> Self {
        Self {
            span: Some(item.span.clone()),
            label: Some(label.into()),
            help: None,
        }
    }

    /// ... with a way out.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A value that stays off until somebody gives it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Given<T>(pub(crate) Option<T>);

impl<T: Field + Default> Field for Given<T> {
    fn read(&mut self, item: &Item, setting: &Setting) -> Result<(), Fault> {
        let mut value = T::default();
        value.read(item, setting)?;
        self.0 = Some(value);
        Ok(())
    }

    fn describe(&self, setting: &Setting) -> String {
        T::default().describe(setting)
    }

    fn value_name(&self) -> &'static str {
        T::default().value_name()
    }

    fn show(&self) -> Option<String> {
        self.0.as_ref()?.show()
    }
}

impl Field for bool {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        *self = match &item.raw {
            Raw::Bool(value) => *value,
            Raw::Word(word) => word.parse().map_err(|_| Fault::default())?,
            _ => return Err(Fault::default()),
        };
        Ok(())
    }

    fn describe(&self, _: &Setting) -> String {
        "true or false".to_owned()
    }

    fn value_name(&self) -> &'static str {
        "BOOL"
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl<T: Choice> Field for T {
    fn read(&mut self, item: &Item, _: &Setting) -> Result<(), Fault> {
        let value = match (item.whole(), item.text()) {
            (Some(number), _) => T::from_number(number),
            (None, Some(text)) => T::from_word(text),
            (None, None) => None,
        };
        if let Some(value) = value {
            *self = value;
            return Ok(());
        }
        let written = item.text().unwrap_or("");
        let near = super::suggest::nearest(written, T::WORDS.iter().map(|(word, _)| *word));
        let meant = near.map(|word| format!("did you mean {word:?}?"));
        Err(Fault {
            help: T::way_out(written).or(meant),
            ..Fault::default()
        })
    }

    fn describe(&self, _: &Setting) -> String {
        let words: Vec<_> = T::WORDS
            .iter()
            .map(|(word, _)| format!("{word:?}"))
            .collect();
        match words.as_slice() {
            [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
            _ => words.join(", "),
        }
    }

    fn value_name(&self) -> &'static str {
        "NAME"
    }

    fn show(&self) -> Option<String> {
        Some(format!("{:?}", self.word()))
    }
}
