//! Where a value came from, and the text that shows it.

use std::fmt;
use std::ops::Range;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave it.
    Default,
    /// Worked out from other values, as this says.
    Derived(String),
    /// A config file.
    File {
        /// The file as it was named.
        name: String,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// A config file that is a program: which line gave it is not known.
    Script(String),
    /// An environment variable of this name.
    Env(String),
    /// A command-line flag of this name, `APP`, or what follows `--`.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Derived(how) => write!(f, "default: {how}"),
            Self::File { name, line, .. } => write!(f, "{name}:{line}"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Script(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// An origin and the line to show for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where it is.
    pub(crate) origin: Origin,
    /// The line as it was written; empty when there is none to show.
    pub(crate) line: String,
    /// The bytes of `line` that carets go under.
    pub(crate) marked: Range<usize>,
}

impl Place {
    /// A place that has no line to show.
    pub(crate) fn of(origin: Origin) -> Self {
        Self {
            origin,
            line: String::new(),
            marked: 0..0,
        }
    }
}

/// The text that values were found in: turns spans into places.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Text<'a> {
    /// The declaration itself.
    Default,
    /// A config file's name and content.
    File(&'a str, &'a str),
    /// The name of a config file that is a program.
    Script(&'a str),
    /// A variable's name and value.
    Env(&'a str, &'a str),
    /// A flag's name and value.
    Flag(&'a str, &'a str),
}

impl Text<'_> {
    /// The place of these bytes; a span that does not fit is cut to what does.
    pub(crate) fn place(&self, span: &Range<usize>) -> Place {
        match self {
            Self::Default => Place::of(Origin::Default),
            Self::Script(name) => Place::of(Origin::Script((*name).to_owned())),
            Self::File(name, content) => in_file(name, content, span),
            Self::Env(name, value) => {
                in_line(Origin::Env((*name).to_owned()), name, '=', value, span)
            }
            Self::Flag(name, value) => {
                in_line(Origin::Flag((*name).to_owned()), name, ' ', value, span)
            }
        }
    }
}

fn in_file(name: &str, content: &str, span: &Range<usize>) -> Place {
    let start = floor(content, span.start);
    let end = floor(content, span.end).max(start);
    let begin = content[..start]
        .rfind('\n')
        .map_or(0, |newline| newline + 1);
    let stop = content[start..]
        .find('\n')
        .map_or(content.len(), |newline| start + newline);
    let line = content[begin..stop].trim_end_matches('\r');
    let mark = |at: usize| (at - begin).min(line.len());
    let origin = Origin::File {
        name: name.to_owned(),
        line: content[..begin].matches('\n').count() + 1,
        column: content[begin..start].chars().count() + 1,
    };
    Place {
        origin,
        line: line.to_owned(),
        marked: mark(start)..mark(end),
    }
}

fn in_line(origin: Origin, name: &str, joint: char, value: &str, span: &Range<usize>) -> Place {
    let shift = name.len() + joint.len_utf8();
    let (start, end) = (floor(value, span.start), floor(value, span.end));
    Place {
        origin,
        line: format!("{name}{joint}{value}"),
        marked: shift + start..shift + end,
    }
}

/// The last character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}
