//! What a setting is, and the one table that declares them all.
//!
//! Errors, suggestions, help, `docs/settings.md`, `config/gracefork.toml` and
//! the names of flags and variables are all made from these declarations.

mod app;
mod later;
mod python;
mod security;
mod serving;
mod shutdown;
mod workers;

use super::draft::Draft;
use super::field::Field;

/// One key of the config file, declared once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// Dotted path in the file: `workers.count`.
    pub(crate) path: &'static str,
    /// Where its value goes.
    pub(crate) support: Support,
    /// TOML of the default; empty when it is off until given.
    pub(crate) default: &'static str,
    /// TOML of a value that somebody may want.
    pub(crate) example: &'static str,
    /// What it does, in a sentence or two.
    pub(crate) doc: &'static str,
    /// Numbers, or milliseconds, that make sense.
    pub(crate) limits: Limits,
    /// Command-line flags, the one to show first; gunicorn's where it has one.
    pub(crate) flags: &'static [&'static str],
    /// The flag may be given several times, and all count.
    pub(crate) repeatable: bool,
    /// On the command line a bare number is seconds, as gunicorn has it.
    pub(crate) seconds: bool,
    /// The variable besides `GRACEFORK_*` that is read.
    pub(crate) variable: Option<&'static str>,
    /// gunicorn's name for it, when that is another.
    pub(crate) gunicorn: Option<&'static str>,
}

/// Whether this release has the part that a setting belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Support {
    /// It has: the value goes here.
    Now(fn(&mut Draft) -> &mut dyn Field),
    /// Not yet: known, and refused.
    Later,
}

/// The range of a number, or of a duration in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The smallest that fits.
    pub(crate) least: u64,
    /// The largest that fits.
    pub(crate) most: u64,
}

impl Limits {
    const ANY: Self = Self::least(0);

    const fn least(least: u64) -> Self {
        Self {
            least,
            most: u64::MAX,
        }
    }

    const fn between(least: u64, most: u64) -> Self {
        Self { least, most }
    }

    /// Whether the number fits.
    pub(crate) fn contains(self, number: u64) -> bool {
        (self.least..=self.most).contains(&number)
    }
}

/// A wait that must not be none at all.
const SOME_TIME: Limits = Limits::least(1);

/// The most workers that one master runs.
const MOST_WORKERS: u64 = 512;

/// The most app calls that one worker makes at once; each is a thread.
const MOST_THREADS: u64 = 1024;

/// What a declaration leaves out.
const UNSAID: Setting = Setting {
    path: "",
    support: Support::Later,
    default: "",
    example: "",
    doc: "",
    limits: Limits::ANY,
    flags: &[],
    repeatable: false,
    seconds: false,
    variable: None,
    gunicorn: None,
};

/// How the variables that set something begin.
pub(crate) const PREFIX: &str = "GRACEFORK_";

/// The sections in the order of a file, with what they are about.
pub(crate) const SECTIONS: &[(&str, &str)] = &[
    ("", "What runs."),
    ("listen", "Where clients connect."),
    ("workers", "How many workers, and what they owe the master."),
    ("workers.restart", "What happens when workers die."),
    ("shutdown", "How long each part of a shutdown may last."),
    (
        "shutdown.probe",
        "What the cluster's readiness probe is set to, if there is one.",
    ),
    ("reload", "How a new generation replaces the old one."),
    ("health", "What probes ask, and where."),
    ("http", "What native workers do with connections."),
    ("log", "The master's own log, and the log of requests."),
    ("python", "How Python apps are hosted; for no other."),
    ("security", "What workers may do."),
];

/// Every setting.
pub(crate) fn all() -> impl Iterator<Item = &'static Setting> + Clone {
    let supported = app::SETTINGS
        .iter()
        .chain(workers::SETTINGS)
        .chain(shutdown::SETTINGS);
    supported
        .chain(serving::SETTINGS)
        .chain(python::SETTINGS)
        .chain(security::SETTINGS)
        .chain(later::SETTINGS)
}

/// The setting of this path.
pub(crate) fn find(path: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.path == path)
}

/// The supported settings that stand directly in a section.
pub(crate) fn supported_in(section: &str) -> impl Iterator<Item = &'static Setting> {
    let supported = all().filter(|setting| matches!(setting.support, Support::Now(_)));
    supported.filter(move |setting| setting.section() == section)
}

/// Whether a path is a section: it has settings below it.
pub(crate) fn is_section(path: &str) -> bool {
    path.is_empty() || all().any(|setting| below(setting.path, path).is_some())
}

/// Whether all settings of a section belong to parts that are not built yet.
pub(crate) fn is_later_section(path: &str) -> bool {
    let mut inside = all().filter(|setting| below(setting.path, path).is_some());
    inside.all(|setting| matches!(setting.support, Support::Later))
}

/// What of `path` comes below `section`.
pub(crate) fn below<'a>(path: &'a str, section: &str) -> Option<&'a str> {
    if section.is_empty() {
        return Some(path);
    }
    path.strip_prefix(section)?.strip_prefix('.')
}

impl Setting {
    /// The section it stands in; empty at the top of the file.
    pub(crate) fn section(&self) -> &'static str {
        self.path
            .rsplit_once('.')
            .map_or("", |(section, _)| section)
    }

    /// Its name within the section.
    pub(crate) fn key(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, key)| key)
    }

    /// The variable that sets it: `GRACEFORK_WORKERS_COUNT`.
    pub(crate) fn env_name(&self) -> String {
        format!("{PREFIX}{}", self.path.replace('.', "_").to_uppercase())
    }

    /// What fits, for example: the end of "expected ...".
    pub(crate) fn expected(&self) -> String {
        let what = self.describe();
        // A choice names all its words already, and nobody needs an example of true.
        let number = self.example.starts_with(|c: char| c.is_ascii_digit());
        if !number && what.contains(self.example) {
            return what;
        }
        format!("{what}, for example {}", self.example)
    }

    /// What stands for the value in the help: `DURATION`.
    pub(crate) fn value_name(&self) -> &'static str {
        match self.support {
            Support::Now(field) => field(&mut Draft::blank()).value_name(),
            Support::Later => "VALUE",
        }
    }

    /// The type, for people: `a duration`.
    pub(crate) fn describe(&self) -> String {
        match self.support {
            Support::Now(field) => field(&mut Draft::blank()).describe(self),
            Support::Later => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_is_declared_twice() {
        let names = all().flat_map(|setting| {
            let flags = setting.flags.iter().map(|flag| (*flag).to_owned());
            let variables = setting.variable.iter().map(|name| (*name).to_owned());
            flags
                .chain(variables)
                .chain([setting.path.to_owned(), setting.env_name()])
        });
        let names: Vec<_> = names.collect();
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), distinct.len());
    }

    #[test]
    fn every_supported_setting_stands_in_a_listed_section() {
        let listed: usize = SECTIONS
            .iter()
            .map(|(section, _)| supported_in(section).count())
            .sum();
        let supported = all().filter(|setting| matches!(setting.support, Support::Now(_)));
        assert_eq!(listed, supported.count());
    }

    #[test]
    fn every_declaration_says_what_it_does_in_a_sentence() {
        for setting in all() {
            assert!(setting.doc.ends_with('.'), "{}", setting.path);
            assert!(!setting.example.is_empty(), "{}", setting.path);
        }
    }
}
