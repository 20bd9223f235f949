//! The config file: from bytes to assignments of settings.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::load::Assignment;
use super::origin::{Origin, Text};
use super::problem::{Problem, Problems};
use super::raw::Item;
use super::settings::{self, Support};
use super::suggest;

/// No config file is longer; a wrong path (a log, a core) should not be read whole.
const LARGEST: u64 = 1 << 20;

/// A file's name, as the user gave it, and its text.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    name: String,
    content: String,
}

impl ConfigFile {
    /// Reads the file, or says why it cannot be a config.
    pub(crate) fn read(path: &Path) -> Result<Self, Problem> {
        let name = path.display().to_string();
        let unreadable =
            |why: String| Problem::new(format!("cannot read the config file `{name}`: {why}"));
        let kind = std::fs::metadata(path).map(|about| about.file_type());
        if kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket()) {
            let why = "it can be read only once".to_owned();
            let help = "it is read more than once, and again at each reload: name a file";
            return Err(unreadable(why).help(help));
        }
        let file = File::open(path).map_err(|error| {
            let problem = unreadable(error.to_string());
            match (error.kind(), std::env::current_dir()) {
                (ErrorKind::NotFound, Ok(here)) if path.is_relative() => {
                    problem.help(format!("the path starts at {}", here.display()))
                }
                _ => problem,
            }
        })?;
        let mut bytes = Vec::new();
        let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
        read.map_err(|error| unreadable(error.to_string()))?;
        if bytes.len() as u64 > LARGEST {
            let why = "it is larger than 1 MiB, is it the right file?";
            return Err(unreadable(why.to_owned()));
        }
        let content = String::from_utf8(bytes).map_err(|error| {
            let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
                .split(|b| *b == b'\n')
                .count();
            unreadable(format!("line {line} is not UTF-8"))
        })?;
        Ok(Self { name, content })
    }

    /// The text that the spans of its assignments point into.
    pub(crate) fn text(&self) -> Text<'_> {
        Text::File(&self.name, &self.content)
    }

    /// Every setting that the file gives, and everything wrong with its shape.
    ///
    /// After a syntax error nothing but syntax errors is told: what the parser
    /// made of the rest would be guesses.
    pub(crate) fn assignments(&self, problems: &mut Problems) -> Vec<Assignment> {
        let (document, errors) = DeTable::parse_recoverable(&self.content);
        let mut told = None;
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            let place = self.text().place(&span);
            // What follows on the same line is mostly the same mistake once more.
            let line = match place.origin {
                Origin::File { line, .. } => Some(line),
                _ => None,
            };
            if told != line {
                problems.push(Problem::new("this is not valid TOML").at(place, error.message()));
            }
            told = line;
        }
        let mut found = Vec::new();
        if errors.is_empty() {
            self.walk("", document.get_ref(), &mut found, problems);
        }
        found
    }

    fn walk(
        &self,
        section: &str,
        table: &DeTable<'_>,
        found: &mut Vec<Assignment>,
        problems: &mut Problems,
    ) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            let path = if section.is_empty() {
                name.to_owned()
            } else {
                format!("{section}.{name}")
            };
            if let Some(setting) = settings::find(&path) {
                match setting.support {
                    Support::Now(_) => found.push(Assignment {
                        setting,
                        item: Item::from_toml(value),
                    }),
                    Support::Later => problems.push(self.later(&format!("`{path}`"), &key.span())),
                }
            } else if !settings::is_section(&path) {
                let headline = format!("unknown key `{path}`");
                let label = suggest::for_unknown_key(section, name);
                problems.push(self.problem(&headline, &key.span(), &label));
            } else if settings::is_later_section(&path) {
                problems.push(self.later(&format!("`[{path}]`"), &key.span()));
            } else if let DeValue::Table(inner) = value.get_ref() {
                self.walk(&path, inner, found, problems);
            } else {
                problems.push(self.not_a_section(&path, value));
            }
        }
    }

    fn not_a_section(&self, path: &str, value: &Spanned<DeValue<'_>>) -> Problem {
        let headline = format!("`{path}` is a section");
        let label = format!("expected keys below [{path}]");
        let problem = self.problem(&headline, &value.span(), &label);
        let list = matches!(value.get_ref(), DeValue::Array(_));
        match suggest::by_gunicorn_name(path) {
            Some(setting) if !list => {
                problem.help(format!("gunicorn's `{path}` is `{}` here", setting.path))
            }
            _ => problem,
        }
    }

    fn later(&self, what: &str, span: &Range<usize>) -> Problem {
        self.problem(&format!("{what} is not supported yet"), span, "remove it")
    }

    fn problem(&self, headline: &str, span: &Range<usize>, label: &str) -> Problem {
        Problem::new(headline).at(self.text().place(span), label)
    }
}
