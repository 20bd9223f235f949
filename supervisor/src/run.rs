//! From the command line to the exit status. The only room that prints.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use crate::cli::{self, Command};
use crate::config::{self, GunicornArgs, Loaded, Sources};
use crate::evaluate::{self, Evaluation};
use crate::event_loop::spec::{PrepareError, find, prepare, unused};
use crate::event_loop::{EventLoop, Setup};
use crate::fleet::ExitStatus;
use crate::import::{Import, Refusal};
use crate::logging;
use crate::sys::listener::Inherited;
use crate::sys::pidfile::PidFile;
use crate::sys::process::adopt_orphans;
use crate::sys::signals::{self, Signals};

/// Bad usage, a bad configuration, or an address that cannot be bound.
const REFUSED: u8 = 1;

/// Do what the command line says.
#[must_use]
pub fn run() -> ExitCode {
    // First of all, before anything is opened: what was handed to us.
    let inherited = Inherited::from_environment();
    let done = match cli::parse(std::env::args_os()) {
        Err(usage) if usage.status == 0 => {
            say(&usage.text);
            Ok(ExitCode::SUCCESS)
        }
        Err(usage) => Err(Failure {
            text: usage.text,
            status: usage.status,
        }),
        Ok(Command::Run(sources)) => supervise(with_environment(sources), inherited),
        Ok(Command::Check(sources)) => check(&with_environment(sources)),
        Ok(Command::Config(sources)) => print_config(&with_environment(sources)),
        Ok(Command::Migrate(sources)) => migrate(&with_environment(sources)),
    };
    done.unwrap_or_else(|failure| {
        tell!("{}", failure.text.trim_end());
        ExitCode::from(failure.status)
    })
}

/// As `eprintln!`, which would panic where nobody can read it.
macro_rules! tell {
    ($($words:tt)*) => {
        let _ = writeln!(io::stderr(), $($words)*);
    };
}
use tell;

/// Prints an answer. Whoever has read enough of it may close the pipe.
fn say(answer: &str) {
    let mut stdout = io::stdout().lock();
    let told = stdout
        .write_all(answer.as_bytes())
        .and_then(|()| stdout.flush());
    if let Err(error) = told
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        tell!("error: cannot write to standard output: {error}");
    }
}

/// What is told before the program ends without having run.
struct Failure {
    text: String,
    status: u8,
}

impl Failure {
    fn refused(text: impl ToString) -> Self {
        Self {
            text: text.to_string(),
            status: REFUSED,
        }
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        let status = if matches!(error, PrepareError::App(_)) {
            ExitStatus::AppLoad.code()
        } else {
            REFUSED
        };
        Self {
            text: error.to_string(),
            status,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(Refusal { text, status }: Refusal) -> Self {
        let status = status.unwrap_or(REFUSED);
        Self { text, status }
    }
}

fn with_environment(sources: Sources) -> Sources {
    let env = config::environment();
    let variable = env
        .get(GunicornArgs::VARIABLE)
        .filter(|text| !text.trim().is_empty());
    Sources {
        gunicorn: variable.map(|text| cli::parse_gunicorn_args(text)),
        env,
        ..sources
    }
}

/// The sources with the answer of the config file that is a program; `None`
/// when a signal ended the program meanwhile.
fn evaluated(sources: &Sources, signals: &mut Signals) -> Result<Option<Sources>, Failure> {
    let begun = Evaluation::begin(sources).map_err(Failure::refused)?;
    let Some(evaluation) = begun else {
        return Ok(Some(sources.clone()));
    };
    let waited = evaluation.wait(signals).map_err(|error| {
        Failure::refused(format!("error: the config file cannot be read: {error}"))
    })?;
    let Some(outcome) = waited else {
        return Ok(None);
    };
    let (answer, said) = outcome.map_err(Failure::refused)?;
    if !said.is_empty() {
        tell!("{said}");
    }
    Ok(Some(Sources {
        evaluated: Some(answer),
        ..sources.clone()
    }))
}

/// From here on a signal that ends the program does so in order.
fn subscribed() -> Result<Signals, Failure> {
    signals::subscribe()
        .map_err(|error| Failure::refused(format!("error: no signal handlers: {error}")))
}

fn told_to_stop() -> Failure {
    Failure::refused("error: ended by a signal before it was done")
}

/// Everything that `sources` give.
fn load(sources: &Sources, signals: &mut Signals) -> Result<Loaded, Failure> {
    let sources = evaluated(sources, signals)?.ok_or_else(told_to_stop)?;
    config::load(&sources).map_err(Failure::refused)
}

/// `gracefork APP`: load, bind, run.
fn supervise(sources: Sources, mut inherited: Inherited) -> Result<ExitCode, Failure> {
    // From here on SIGTERM is an order to exit 0, however long the rest takes.
    let mut signals = subscribed()?;
    let Some(whole) = evaluated(&sources, &mut signals)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let loaded = config::load(&whole).map_err(Failure::refused)?;
    let warnings = loaded.warnings.clone();
    let spec = prepare(loaded, &[], &mut inherited)?;
    let log = logging::start(&spec.config.log).map_err(|error| {
        Failure::refused(format!(
            "error: the log file cannot be opened (`log.file`): {error}"
        ))
    })?;
    for warning in warnings.into_iter().chain(unused(&inherited, &spec)) {
        tracing::warn!("{warning}");
    }
    let pidfile = spec.config.pidfile.as_deref().map(PidFile::create);
    // Until the last worker has gone.
    let _pidfile = pidfile
        .transpose()
        .map_err(|error| Failure::refused(format!("error: {error}")))?;
    if let Err(error) = adopt_orphans() {
        tracing::warn!("processes whose parent dies will not be adopted: {error}");
    }
    let master = EventLoop::new(Setup {
        sources,
        spec,
        signals,
        inherited,
        log,
    })
    .map_err(|error| Failure::refused(format!("error: {error}")))?;
    let status = master
        .run()
        .map_err(|error| Failure::refused(format!("error: the event loop broke: {error}")))?;
    Ok(ExitCode::from(status.code()))
}

/// `gracefork check`: as a start would, but nothing is bound. A Python app is imported.
fn check(sources: &Sources) -> Result<ExitCode, Failure> {
    let mut signals = subscribed()?;
    let loaded = load(sources, &mut signals)?;
    for warning in &loaded.warnings {
        tell!("warning: {warning}");
    }
    if !loaded.config.app.program.is_empty() {
        let found = find(&loaded).map_err(Failure::refused)?;
        if loaded.config.python.is_some() {
            let import = Import::begin(loaded.config.clone(), found)?;
            let waited = import.wait(&mut signals).map_err(|error| {
                Failure::refused(format!("error: the app cannot be imported: {error}"))
            })?;
            let said = waited.ok_or_else(told_to_stop)??;
            if !said.is_empty() {
                tell!("{said}");
            }
        }
    }
    say(&format!("{}\n", loaded.summary()));
    Ok(ExitCode::SUCCESS)
}

/// `gracefork config`: every value, and where it came from.
fn print_config(sources: &Sources) -> Result<ExitCode, Failure> {
    let loaded = load(sources, &mut subscribed()?)?;
    say(&loaded.to_toml());
    Ok(ExitCode::SUCCESS)
}

/// `gracefork migrate`: the package knows how, and takes this process' place.
fn migrate(sources: &Sources) -> Result<ExitCode, Failure> {
    let mut migration = evaluate::migration(sources).map_err(Failure::refused)?;
    let error = migration.exec();
    let interpreter = migration.get_program().display();
    Err(Failure::refused(format!(
        "error: cannot run {interpreter}: {error}"
    )))
}
