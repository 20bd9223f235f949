//! Python apps: what makes an app one, and the config files that are programs.
//!
//! Nothing runs here. [`unevaluated`] says which program is a part of the
//! configuration; whoever ran it hands its answer in with the sources.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::app;
use super::choice::Choice;
use super::load::{self, Layers, Sources};
use super::origin::{Origin, Place, Text};
use super::problem::{Problem, Problems};
use super::raw::Item;
use super::script::Script;
use super::settings::{self, Support};
use super::{App, Level, Python, checks};

/// The settings that only a Python app has.
const OF_PYTHON: [&str; 11] = [
    "python.config",
    "python.path",
    "python.interface",
    "python.loop",
    "python.lifespan",
    "python.root_path",
    "python.ws_max_message_size",
    "python.ws_ping_interval",
    "python.ws_close_grace",
    "python.executable",
    "workers.preload",
];

/// What `module` stands for without an attribute, as in gunicorn.
const USUAL_ATTRIBUTE: &str = "application";

/// Read where no config file is named, as gunicorn does.
const USUAL_FILE: &str = "gunicorn.conf.py";

/// What an app is called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// Found out from the app.
    Auto,
    /// PEP 3333.
    Wsgi,
    /// ASGI 3.
    Asgi,
    /// The same, for who comes from uvicorn's worker classes: they do not hold gunicorn's limits against
    /// a request's head.
    Uvicorn,
}

impl Interface {
    /// What the host is told.
    #[must_use]
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Uvicorn => Self::Asgi.name(),
            other => other.name(),
        }
    }
}

impl Choice for Interface {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("wsgi", Self::Wsgi),
        ("asgi", Self::Asgi),
        ("uvicorn", Self::Uvicorn),
    ];

    /// gunicorn's worker classes are known too, by the last part of their names.
    fn from_word(word: &str) -> Option<Self> {
        match word.rsplit(['.', ':', '#']).next().unwrap_or(word) {
            "auto" => Some(Self::Auto),
            "wsgi" | "sync" | "gthread" | "SyncWorker" | "ThreadWorker" => Some(Self::Wsgi),
            "asgi" | "ASGIWorker" => Some(Self::Asgi),
            "uvicorn" | "UvicornWorker" | "UvicornH11Worker" => Some(Self::Uvicorn),
            _ => None,
        }
    }

    fn way_out(word: &str) -> Option<String> {
        let word = word.to_lowercase();
        let has_no_place = ["gevent", "eventlet", "tornado"]
            .iter()
            .any(|name| word.contains(name));
        let help = "use gthread with `--threads 8` or so; an app that needs its own event loop is better off as asgi, or with its own server as the program: gracefork PROGRAM -- --fd {fd}";
        let own = "leave a class of your own out: the app tells how it is called. gunicorn's sync, gthread and asgi and uvicorn's classes are understood, and in a config file (-c) what a class made from uvicorn's says in CONFIG_KWARGS";
        let help = if has_no_place { help } else { own };
        (has_no_place || word.contains('.')).then(|| help.to_owned())
    }
}

/// The event loop of an ASGI app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loop {
    /// uvloop where it is installed.
    Auto,
    /// The standard library's.
    Asyncio,
    /// uvloop.
    Uvloop,
}

impl Choice for Loop {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("asyncio", Self::Asyncio),
        ("uvloop", Self::Uvloop),
    ];
}

/// Whether an ASGI app is told of its start and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifespan {
    /// As far as the app listens.
    Auto,
    /// It must listen.
    On,
    /// It is not told.
    Off,
}

impl Choice for Lifespan {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
}

impl Interface {
    /// The word for it, as workers take it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.word()
    }
}

impl Loop {
    /// The word for it, as workers take it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.word()
    }
}

impl Lifespan {
    /// The word for it, as workers take it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.word()
    }
}

/// A config program that must be run before the settings are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unevaluated {
    /// The program.
    pub script: Script,
    /// The interpreter, as far as it is known without the program.
    pub executable: PathBuf,
    /// Whether nobody chose it.
    pub by_default: bool,
    /// Where workers run; the program itself runs where gracefork was started.
    pub chdir: PathBuf,
    /// Folders to import from, before all others; they begin at `chdir`.
    pub path: Vec<PathBuf>,
    /// Variables added to its environment.
    pub env: Vec<(String, String)>,
}

/// What a config program answered: the object that `python -m gracefork._config` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluated {
    /// The program's name.
    pub name: String,
    /// Its answer, in JSON.
    pub answer: String,
}

/// The answer in parts.
#[derive(Debug, serde::Deserialize)]
struct Answer {
    #[serde(default)]
    settings: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    app: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

/// The config program that these sources name, if there is one.
///
/// # Errors
/// What is wrong with the sources already.
pub fn unevaluated(sources: &Sources) -> Result<Option<Unevaluated>, Problems> {
    let mut layers = load::lay(sources);
    checks::chdir(&mut layers);
    if !layers.problems.is_empty() {
        return Err(layers.problems.sorted());
    }
    let draft = layers.draft;
    let Some(script) = draft.python.config.0 else {
        return Ok(None);
    };
    let by_default = matches!(
        layers.origins.get("python.executable"),
        None | Some(Place {
            origin: Origin::Default,
            ..
        })
    );
    Ok(Some(Unevaluated {
        script,
        executable: draft.python.executable,
        by_default,
        chdir: draft.config.app.chdir,
        path: draft.python.path,
        env: draft.config.app.env.into_iter().collect(),
    }))
}

/// The arguments that have Python run the `main` of a module of the package. Not by `-m`, which has
/// Python look into the working directory first: a `types.py` there would be taken for Python's own.
#[must_use]
pub fn run_module(module: &str) -> [String; 2] {
    let code = format!(
        "import sys\nif sys.path[:1] == ['']: del sys.path[0]\nfrom gracefork.{module} import main\nsys.exit(main(sys.argv[1:]))"
    );
    ["-c".to_owned(), code]
}

/// Folders to import from as the package takes them, absolute, with colons between.
#[must_use]
pub fn search_path(folders: &[PathBuf], chdir: &Path) -> OsString {
    let folders = folders.iter().map(|folder| chdir.join(folder));
    // A colon in a name was refused when it was read.
    std::env::join_paths(folders).unwrap_or_default()
}

/// Finds an interpreter as [`find_program`](super::find_program) does; where
/// nobody chose it, one in the folder of gracefork itself comes first, for
/// that is where `pip install` has put both.
///
/// # Errors
/// When there is none.
pub fn find_interpreter(
    executable: &Path,
    by_default: bool,
    app: &App,
    beside: Option<&Path>,
    path: Option<&str>,
) -> Result<PathBuf, Problem> {
    let neighbour = beside.map(|folder| folder.join(executable));
    if let Some(found) = neighbour.filter(|found| by_default && found.is_file()) {
        return Ok(found);
    }
    let program = executable.display().to_string();
    let interpreter = App {
        program: program.clone(),
        ..app.clone()
    };
    app::find_program(&interpreter, path).map_err(|_| {
        Problem::new(format!("there is no Python interpreter `{program}`"))
            .help("install one, or name it: `python.executable`, a path or a name in PATH")
    })
}

impl Layers {
    /// Lays the answer of a config program over what is there.
    pub(crate) fn evaluated(&mut self, evaluated: &Evaluated) {
        let name = &evaluated.name;
        let answer: Answer = match serde_json::from_str(&evaluated.answer) {
            Ok(answer) => answer,
            Err(error) => {
                let headline = format!("the config program `{name}` gave no settings: {error}");
                return self.problems.push(Problem::new(headline).help(
                    "what it prints must go to standard error; is the package gracefork of this release?",
                ));
            }
        };
        self.warnings.extend(answer.warnings);
        if let Some(app) = &answer.app {
            self.script_value("app", &serde_json::Value::from(app.as_str()), name);
        }
        for (path, value) in &answer.settings {
            self.script_value(path, value, name);
        }
    }

    fn script_value(&mut self, path: &str, value: &serde_json::Value, name: &str) {
        let text = Text::Script(name);
        match settings::find(path) {
            Some(setting) => self.assign(setting, &Item::from_json(value), text),
            None => {
                let problem = Problem::new(format!("unknown key `{path}`"));
                let label = "the package gracefork is of another release";
                self.problems.push(problem.at(text.place(&(0..0)), label));
            }
        }
    }

    /// Whether the app is one that a host imports.
    pub(crate) fn hosts_python(&self) -> bool {
        let app = &self.draft.app.0;
        app::is_python(app) || (!app.contains('/') && self.chosen_for_python().is_some())
    }

    /// `pkg.module` alone stands for its `application`, as in gunicorn, where the working directory
    /// has such a module and `path` no such program.
    pub(crate) fn find_module(&mut self, path: Option<&str>) {
        let draft = &mut self.draft;
        let app = App {
            program: draft.app.0.clone(),
            ..draft.config.app.clone()
        };
        let is_module = app::is_module(&app.program, &app.chdir);
        if is_module && app::find_program(&app, path).is_err() {
            draft.app.0.push_str(&format!(":{USUAL_ATTRIBUTE}"));
        }
    }

    /// The first value that only a Python app has a use for.
    fn chosen_for_python(&self) -> Option<Place> {
        let differs = |path: &&str| {
            let setting = settings::find(path);
            setting.is_some_and(|setting| match setting.support {
                Support::Now(field) => {
                    let shown = field(&mut self.draft.clone()).show();
                    shown.unwrap_or_default() != setting.default
                }
                Support::Later => false,
            })
        };
        let mut chosen = OF_PYTHON.iter().filter(|path| differs(path));
        chosen.find_map(|path| self.first_given(&[path]))
    }

    /// gunicorn's own config file, where none is named. It may name the app.
    pub(crate) fn find_usual_file(&mut self) {
        let given = self.first_given(&["python.config"]).is_some();
        let may_be = self.draft.app.0.is_empty() || self.hosts_python();
        if !given && may_be && Path::new(USUAL_FILE).is_file() {
            self.draft.python.config.0 = Some(Script::from(USUAL_FILE));
            let found = Origin::Derived("found in the working directory".to_owned());
            self.origins.insert("python.config", Place::of(found));
        }
    }
}

/// Checks what belongs to a Python app, and gives it its final form.
pub(crate) fn settle(layers: &mut Layers, app_optional: bool) {
    let draft = &mut layers.draft;
    let app = &mut draft.app.0;
    if !app.is_empty() && !app.contains(':') {
        app.push_str(&format!(":{USUAL_ATTRIBUTE}"));
    }
    let app = app.clone();
    draft.config.python = Some(Python {
        executable: draft.python.executable.clone(),
        interface: draft.python.interface,
        event_loop: draft.python.event_loop,
        lifespan: draft.python.lifespan,
        root_path: draft.python.root_path.clone(),
        ws_max_message_size: draft.python.ws_max_message_size,
        ws_ping_interval: draft.python.ws_ping_interval,
        ws_close_grace: draft.python.ws_close_grace,
        path: draft.python.path.clone(),
        config: draft.python.config.0.clone(),
    });
    let level = draft.config.workers.level;
    draft.config.workers.level = Level::Native;
    let has_args = !draft.config.app.args.is_empty();
    if app.is_empty() && !app_optional {
        let problem = Problem::new("no app given");
        layers.problems.push(problem.help(
            "name it as module:attribute, for example `gracefork main:app`, or set wsgi_app in the config file",
        ));
    } else if !app.is_empty() && !app::is_python(&app) {
        let label = "expected module:attribute, for example main:app";
        layers.conflict(
            "invalid `app`",
            &["app"],
            label,
            "a file main.py is the module main",
        );
    }
    if !matches!(level, Level::Auto | Level::Native) {
        let help = "leave it out: workers of a Python app are native";
        layers.conflict(
            "invalid `workers.level`",
            &["workers.level"],
            "this is a Python app",
            help,
        );
    }
    if has_args {
        let help = "leave them out, or call a factory: 'main:make(1)'";
        layers.conflict(
            "a Python app takes no arguments",
            &["args"],
            "these are for programs",
            help,
        );
    }
}

/// What was given for a Python app, and what of gunicorn's flags: a program has no use for them.
pub(crate) fn refuse(layers: &mut Layers) {
    if let Some(place) = layers.chosen_for_python() {
        let program = &layers.draft.app.0;
        let headline = format!("the app `{program}` is a program, not a Python app");
        let problem = Problem::new(headline).at(place, "this is for Python apps");
        layers
            .problems
            .push(problem.help("remove it, or name the app as module:attribute"));
    }
}
