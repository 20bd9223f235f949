//! Values as they were written, before a setting says what they should be.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

/// A value and where it stands in its text (a file, a variable, a flag).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    /// What was written.
    pub(crate) raw: Raw,
    /// Bytes of the text that it covers.
    pub(crate) span: Range<usize>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Raw {
    /// A string of a file.
    Text(String),
    /// The text of a variable or a flag: its type is the setting's.
    Word(String),
    /// A whole number.
    Whole(i128),
    /// `true` or `false`.
    Bool(bool),
    /// `[...]`, or a flag given more than once.
    List(Vec<Item>),
    /// `{...}`.
    Table(Vec<(String, Item)>),
    /// A float or a date, which no setting takes.
    Other,
}

impl Item {
    /// An untyped word that covers the whole of its text.
    pub(crate) fn word(text: &str) -> Self {
        Self {
            raw: Raw::Word(text.to_owned()),
            span: 0..text.len(),
        }
    }

    /// The value that TOML's parser found.
    pub(crate) fn from_toml(value: &Spanned<DeValue<'_>>) -> Self {
        let raw = match value.get_ref() {
            DeValue::String(text) => Raw::Text(text.clone().into_owned()),
            DeValue::Integer(number) => {
                i128::from_str_radix(number.as_str(), number.radix()).map_or(Raw::Other, Raw::Whole)
            }
            DeValue::Boolean(flag) => Raw::Bool(*flag),
            DeValue::Array(items) => Raw::List(items.iter().map(Self::from_toml).collect()),
            DeValue::Table(table) => {
                let entries = table.iter();
                let entries =
                    entries.map(|(key, value)| (key.get_ref().to_string(), Self::from_toml(value)));
                Raw::Table(entries.collect())
            }
            DeValue::Float(_) | DeValue::Datetime(_) => Raw::Other,
        };
        Self {
            raw,
            span: value.span(),
        }
    }

    /// The same value in a text with so many bytes more before it.
    pub(crate) fn shift(&mut self, bytes: usize) {
        self.span = self.span.start + bytes..self.span.end + bytes;
        if let Raw::List(items) = &mut self.raw {
            items.iter_mut().for_each(|item| item.shift(bytes));
        }
    }

    /// The value that a config program gave.
    pub(crate) fn from_json(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        let raw = match value {
            Value::String(text) => Raw::Text(text.clone()),
            Value::Number(number) => number.as_i128().map_or(Raw::Other, Raw::Whole),
            Value::Bool(flag) => Raw::Bool(*flag),
            Value::Array(items) => Raw::List(items.iter().map(Self::from_json).collect()),
            Value::Object(table) => {
                let entries = table.iter();
                Raw::Table(
                    entries
                        .map(|(key, value)| (key.clone(), Self::from_json(value)))
                        .collect(),
                )
            }
            Value::Null => Raw::Other,
        };
        Self { raw, span: 0..0 }
    }

    /// A list or table that is written in a variable or flag as in a file.
    pub(crate) fn embedded(&self) -> Option<Self> {
        let Raw::Word(word) = &self.raw else {
            return None;
        };
        let value = DeValue::parse(word).ok()?;
        let item = Self::from_toml(&value);
        matches!(item.raw, Raw::List(_) | Raw::Table(_)).then_some(item)
    }

    /// The string, whether typed by a file or not.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.raw {
            Raw::Text(text) | Raw::Word(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, whether typed by a file or not.
    pub(crate) fn whole(&self) -> Option<i128> {
        match &self.raw {
            Raw::Whole(number) => Some(*number),
            Raw::Word(word) if !word.starts_with('+') => word.parse().ok(),
            _ => None,
        }
    }

    /// The parts of a word between separators, each with its own place.
    pub(crate) fn split(&self, separator: fn(char) -> bool) -> Vec<Self> {
        let Raw::Word(word) = &self.raw else {
            return Vec::new();
        };
        let mut parts = Vec::new();
        for part in word.split(separator) {
            let start = self.span.start + (part.as_ptr() as usize - word.as_ptr() as usize);
            let trimmed = part.trim_start();
            let start = start + (part.len() - trimmed.len());
            let trimmed = trimmed.trim_end();
            if !trimmed.is_empty() {
                let span = start..start + trimmed.len();
                parts.push(Self {
                    raw: Raw::Word(trimmed.to_owned()),
                    span,
                });
            }
        }
        parts
    }
}
