//! Errors as people read them: file, line, caret, and what would fit.

use std::fmt;

use super::origin::{Origin, Place};
use super::visible::visible;

/// Lines longer than this are cut around what is wrong.
const LINE_MAX: usize = 120;

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    headline: String,
    place: Option<Box<Place>>,
    label: String,
    help: Option<String>,
}

impl Problem {
    /// What is wrong.
    pub(crate) fn new(headline: impl Into<String>) -> Self {
        Self {
            headline: headline.into(),
            place: None,
            label: String::new(),
            help: None,
        }
    }

    /// Where, and what would fit there.
    pub(crate) fn at(mut self, place: Place, label: impl Into<String>) -> Self {
        self.place = Some(Box::new(place));
        self.label = label.into();
        self
    }

    /// What to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Where in the file, so that errors can be told in its order; others come after.
    fn position(&self) -> (bool, usize, usize) {
        match self.place.as_ref().map(|place| &place.origin) {
            Some(Origin::File { line, column, .. }) => (false, *line, *column),
            _ => (true, 0, 0),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", visible(&self.headline))?;
        let mut margin = 1;
        if let Some(place) = &self.place {
            margin = write_place(f, place, &visible(&self.label))?;
        } else if !self.label.is_empty() {
            write!(f, ": {}", visible(&self.label))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n{:margin$} = help: {}", "", visible(help))?;
        }
        Ok(())
    }
}

/// Writes the block below the headline; the width of its margin comes back.
fn write_place(
    f: &mut fmt::Formatter<'_>,
    place: &Place,
    label: &str,
) -> Result<usize, fmt::Error> {
    let number = match &place.origin {
        Origin::File { name, line, column } => {
            write!(f, "\n  --> {}:{line}:{column}", visible(name))?;
            line.to_string()
        }
        Origin::Env(name) => {
            write!(f, "\n  --> environment variable {}", visible(name))?;
            " ".to_owned()
        }
        Origin::Flag(_) => {
            write!(f, "\n  --> command line")?;
            " ".to_owned()
        }
        Origin::Default | Origin::Derived(_) | Origin::Script(_) => {
            write!(f, "\n  --> {}: {label}", place.origin)?;
            return Ok(1);
        }
    };
    let margin = number.len();
    let (before, marked, after) = window(place);
    let indent = before.chars().count();
    let carets = marked.chars().count().max(1);
    write!(f, "\n{number} | {before}{marked}{after}")?;
    write!(
        f,
        "\n{:margin$} | {:indent$}{} {label}",
        "",
        "",
        "^".repeat(carets)
    )?;
    Ok(margin)
}

/// The line in three parts, safe to print and not too long.
fn window(place: &Place) -> (String, String, String) {
    let (line, marked) = (&place.line, &place.marked);
    let before: Vec<char> = visible(&line[..marked.start]).chars().collect();
    let wrong: Vec<char> = visible(&line[marked.clone()]).chars().collect();
    let after: Vec<char> = visible(&line[marked.end..]).chars().collect();
    let cut = |part: &[char], room: usize| -> String {
        let shown = part.iter().take(room).collect::<String>();
        if part.len() > room {
            shown + "..."
        } else {
            shown
        }
    };
    let skipped = before.len().saturating_sub(LINE_MAX / 2);
    let lead = if skipped > 0 { "..." } else { "" };
    let before = lead.to_owned() + &before[skipped..].iter().collect::<String>();
    (before, cut(&wrong, LINE_MAX), cut(&after, LINE_MAX / 2))
}

/// All that is wrong, in the order of the file, then variables, flags and sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// Adds one more.
    pub(crate) fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many things are wrong.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The same, ready to be told.
    pub(crate) fn sorted(mut self) -> Self {
        self.list.sort_by_key(Problem::position);
        self
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self {
            list: vec![problem],
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            let gap = if index > 0 { "\n\n" } else { "" };
            write!(f, "{gap}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::super::origin::Text;
    use super::*;

    #[test]
    fn carets_stand_under_what_is_wrong_even_beside_hidden_characters() {
        let content = "a = 1\n\tk\u{1b} = \"\u{7}x\" # \u{202e}\r\n";
        let start = content.find('"').unwrap();
        let place = Text::File("f\u{1b}.toml", content).place(&(start..start + 4));
        let text = Problem::new("invalid `k\u{1b}`")
            .at(place, "expected \u{8}")
            .to_string();
        let shown = r#"error: invalid `k\u{1b}`
  --> f\u{1b}.toml:2:7
2 |  k\u{1b} = "\u{7}x" # \u{202e}
  |            ^^^^^^^^ expected \u{8}"#;
        assert_eq!(text, shown);
    }

    #[test]
    fn a_long_line_is_cut_around_what_is_wrong() {
        let content = format!("{}!{}", "a".repeat(10_000), "b".repeat(10_000));
        let place = Text::File("f", &content).place(&(10_000..10_001));
        let text = Problem::new("x").at(place, "here").to_string();
        assert!(text.len() < 500, "{text}");
        assert!(text.contains("a!b"), "{text}");
    }
}
