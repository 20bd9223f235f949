//! Flags over environment over file over defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Config;
use super::checks;
use super::draft::Draft;
use super::environment;
use super::file::ConfigFile;
use super::origin::{Origin, Place, Text};
use super::problem::{Problem, Problems};
use super::python::Evaluated;
use super::raw::{Item, Raw};
use super::script::Script;
use super::settings::{self, Setting, Support};

/// Everything that settings can come from; the same sources can be loaded again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The config file (`-c`); read anew by each [`load`].
    pub file: Option<PathBuf>,
    /// The environment; see [`environment`](super::environment()).
    pub env: BTreeMap<String, String>,
    /// Flags in the order given.
    pub flags: Vec<Flag>,
    /// `APP`.
    pub app: Option<String>,
    /// What follows `--`; comes after the file's `args`.
    pub args: Vec<String>,
    /// Settings may be valid without a program, as `gracefork check` allows.
    pub app_optional: bool,
    /// Flags of gunicorn that change nothing here.
    pub idle_flags: Vec<&'static str>,
    /// `GUNICORN_CMD_ARGS`, or what is wrong with it; for Python apps alone.
    pub gunicorn: Option<Result<GunicornArgs, String>>,
    /// What the config program answered, where there is one.
    pub evaluated: Option<Evaluated>,
}

/// A command line that stands in a variable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GunicornArgs {
    /// The config file; that of the command line itself is over it.
    pub file: Option<PathBuf>,
    /// Flags in the order given.
    pub flags: Vec<Flag>,
    /// `APP`.
    pub app: Option<String>,
    /// Flags of gunicorn that change nothing here.
    pub idle_flags: Vec<&'static str>,
}

impl GunicornArgs {
    /// The variable's name.
    pub const VARIABLE: &'static str = "GUNICORN_CMD_ARGS";
}

/// A setting given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Path of the setting: `workers.count`.
    pub path: &'static str,
    /// What was written.
    pub value: String,
    /// The flag's name: `--workers`.
    pub name: &'static str,
}

/// Valid settings, and where each came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What is allowed but probably not meant; for the log.
    pub warnings: Vec<String>,
    pub(crate) draft: Draft,
    pub(crate) origins: BTreeMap<&'static str, Place>,
}

impl Loaded {
    /// Where the setting of this path came from; unknown paths are nobody's.
    #[must_use]
    pub fn origin(&self, path: &str) -> &Origin {
        self.origins
            .get(path)
            .map_or(&Origin::Default, |place| &place.origin)
    }
}

/// Reads, lays over each other and checks all settings.
///
/// # Errors
///
/// Everything that is wrong, not only the first: unreadable file, syntax,
/// unknown and unsupported keys, values that do not fit, alone or together.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    checks::finish(lay(sources), sources)
}

/// Lays all sources over each other. The variable that stands for gunicorn's
/// command line is read for Python apps alone, which the rest must tell first.
pub(crate) fn lay(sources: &Sources) -> Layers {
    let layers = lay_with(sources, None);
    let mut layers = match &sources.gunicorn {
        Some(Ok(args)) if layers.hosts_python() => lay_with(sources, Some(args)),
        Some(Err(reason)) if layers.hosts_python() => {
            let mut layers = layers;
            let headline = format!("invalid `{}`", GunicornArgs::VARIABLE);
            layers
                .problems
                .push(Problem::new(format!("{headline}: {reason}")));
            layers
        }
        _ => layers,
    };
    if sources.file.is_none() {
        layers.find_usual_file();
    }
    let config = &mut layers.draft.python.config.0;
    *config = config.take().map(Script::absolute);
    layers
}

fn lay_with(sources: &Sources, gunicorn: Option<&GunicornArgs>) -> Layers {
    let mut layers = Layers::with_defaults();
    if let Some(evaluated) = &sources.evaluated {
        layers.evaluated(evaluated);
    }
    let variable = GunicornArgs::VARIABLE;
    match (&sources.file, gunicorn.and_then(|args| args.file.as_ref())) {
        (Some(path), _) => layers.file(path, Text::Flag("--config", &path.to_string_lossy())),
        (None, Some(path)) => layers.file(path, Text::Env(variable, &path.to_string_lossy())),
        (None, None) => {}
    }
    environment::read_common(&sources.env, &mut layers);
    if let Some(args) = gunicorn {
        layers.flags(&args.flags, Some(variable));
        if let Some(app) = &args.app {
            layers.word("app", app, Text::Env(variable, app));
        }
    }
    environment::read(&sources.env, &mut layers);
    layers.flags(&sources.flags, None);
    if let Some(app) = &sources.app {
        layers.word("app", app, Text::Flag("APP", app));
    }
    if !sources.args.is_empty() {
        layers
            .draft
            .config
            .app
            .args
            .extend(sources.args.iter().cloned());
        let line = sources.args.join(" ");
        layers
            .origins
            .insert("args", Text::Flag("--", &line).place(&(0..line.len())));
    }
    environment::read_port(&sources.env, &mut layers);
    layers.find_module(sources.env.get("PATH").map(String::as_str));
    layers
}

/// A value for a setting.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) setting: &'static Setting,
    pub(crate) item: Item,
}

/// The settings while layer after layer is put on.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) draft: Draft,
    pub(crate) origins: BTreeMap<&'static str, Place>,
    pub(crate) problems: Problems,
    pub(crate) warnings: Vec<String>,
}

impl Layers {
    fn with_defaults() -> Self {
        let mut layers = Self {
            draft: Draft::blank(),
            origins: BTreeMap::new(),
            problems: Problems::default(),
            warnings: Vec::new(),
        };
        for setting in settings::all().filter(|setting| !setting.default.is_empty()) {
            match toml::de::DeValue::parse(setting.default) {
                Ok(value) => layers.assign(setting, &Item::from_toml(&value), Text::Default),
                Err(error) => layers.problems.push(Problem::new(error.message())),
            }
        }
        layers
    }

    /// A config file: one in TOML is read, a program is only named.
    fn file(&mut self, path: &Path, named_by: Text<'_>) {
        if let Some(name) = path.to_str().filter(|name| Script::is_meant(name)) {
            return self.word("python.config", name, named_by);
        }
        let file = match ConfigFile::read(path) {
            Ok(file) => file,
            Err(problem) => return self.problems.push(problem),
        };
        for Assignment { setting, item } in file.assignments(&mut self.problems) {
            self.assign(setting, &item, file.text());
        }
    }

    /// Several uses of a repeatable flag are one list; of other flags the last
    /// counts. They may stand in a variable.
    fn flags(&mut self, flags: &[Flag], variable: Option<&str>) {
        let mut lists: BTreeMap<&str, (&str, String, Vec<Item>)> = BTreeMap::new();
        for flag in flags {
            let Some(setting) = settings::find(flag.path) else {
                continue;
            };
            if !setting.repeatable {
                self.flag(
                    setting,
                    flag.name,
                    &flag.value,
                    Item::word(&flag.value),
                    variable,
                );
                continue;
            }
            let (name, line, items) =
                lists
                    .entry(flag.path)
                    .or_insert((flag.name, String::new(), Vec::new()));
            if !items.is_empty() {
                line.push_str(&format!(" {name} "));
            }
            let start = line.len();
            line.push_str(&flag.value);
            items.push(Item {
                raw: Raw::Word(flag.value.clone()),
                span: start..line.len(),
            });
        }
        for (path, (name, line, items)) in lists {
            let item = Item {
                raw: Raw::List(items),
                span: 0..line.len(),
            };
            if let Some(setting) = settings::find(path) {
                self.flag(setting, name, &line, item, variable);
            }
        }
    }

    fn flag(
        &mut self,
        setting: &'static Setting,
        name: &str,
        line: &str,
        mut item: Item,
        variable: Option<&str>,
    ) {
        match variable {
            None => self.assign(setting, &item, Text::Flag(name, line)),
            Some(variable) => {
                item.shift(name.len() + 1);
                self.assign(
                    setting,
                    &item,
                    Text::Env(variable, &format!("{name} {line}")),
                );
            }
        }
    }

    /// Sets the setting of this path from a variable or flag.
    pub(crate) fn word(&mut self, path: &str, word: &str, text: Text<'_>) {
        if let Some(setting) = settings::find(path) {
            self.assign(setting, &Item::word(word), text);
        }
    }

    /// Keeps in mind how a value came about.
    pub(crate) fn note(&mut self, path: &'static str, how: &str) {
        self.origins
            .insert(path, Place::of(Origin::Derived(how.to_owned())));
    }

    pub(crate) fn assign(&mut self, setting: &'static Setting, item: &Item, text: Text<'_>) {
        let Support::Now(field) = setting.support else {
            let headline = format!("`{}` is not supported yet", setting.path);
            self.problems
                .push(Problem::new(headline).at(text.place(&item.span), "remove it"));
            return;
        };
        match field(&mut self.draft).read(item, setting) {
            Ok(()) => {
                self.origins.insert(setting.path, text.place(&item.span));
            }
            Err(fault) => {
                let place = text.place(fault.span.as_ref().unwrap_or(&item.span));
                let label = fault
                    .label
                    .unwrap_or_else(|| format!("expected {}", setting.expected()));
                let problem = Problem::new(format!("invalid `{}`", setting.path)).at(place, label);
                self.problems.push(match fault.help {
                    Some(help) => problem.help(help),
                    None => problem,
                });
            }
        }
    }
}
