//! The command line: arguments only, no files, no environment.
//!
//! The shape is clap's; the flags that set something come from the declarations
//! of the settings, with their help. Flags of gunicorn whose part is not built
//! yet are known, so that they are refused by name.

mod flags;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::visible::visible_lines;
use crate::config::{GunicornArgs, Sources};
use flags::SettingFlags;

/// What the user wants done, and with which settings.
///
/// The sources lack the environment: that is the caller's to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run the app.
    Run(Sources),
    /// Check the settings.
    Check(Sources),
    /// Print the settings and where they came from.
    Config(Sources),
    /// Print the gunicorn config file that the sources name as TOML.
    Migrate(Sources),
}

/// Why there is nothing to do: help, the version, or a command line that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// What to print: to standard output when `status` is 0, else to standard error.
    pub text: String,
    /// Exit status: 0 for help and version, 1 for bad usage.
    pub status: u8,
}

/// Reads the command line, the program's own name first.
///
/// # Errors
///
/// [`Usage`] when the user asked for help or the version, or made a mistake.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Usage> {
    let matches = CommandLine::command().try_get_matches_from(args);
    let line = matches.and_then(|matches| CommandLine::from_arg_matches(&matches));
    let CommandLine { options, action } = line.map_err(|error| usage(&error))?;
    let command = match action {
        None if options.print_config => Command::Config(options.sources(true)),
        None if options.check_config => Command::Check(options.sources(true)),
        None => Command::Run(options.sources(false)),
        Some(Action::Check(more)) => Command::Check(options.over(more).sources(true)),
        Some(Action::Config(more)) => Command::Config(options.over(more).sources(true)),
        Some(Action::Migrate { file }) => {
            let mut sources = options.sources(true);
            sources.file = Some(file);
            Command::Migrate(sources)
        }
    };
    match &command {
        Command::Run(Sources { app: Some(app), .. }) if LATER_COMMANDS.contains(&app.as_str()) => {
            let text = format!(
                "error: `gracefork {app}` is not supported yet\n  = help: for a program of that name write ./{app}\n"
            );
            Err(Usage { text, status: 1 })
        }
        _ => Ok(command),
    }
}

/// Reads what stands in `GUNICORN_CMD_ARGS`, by the same flags.
///
/// # Errors
/// What is wrong with it, for people.
pub fn parse_gunicorn_args(text: &str) -> Result<GunicornArgs, String> {
    let words = shlex::split(text).ok_or("a quote is not closed")?;
    let words = std::iter::once("gracefork".to_owned()).chain(words);
    let matches = CommandLine::command().try_get_matches_from(words);
    let line = matches.and_then(|matches| CommandLine::from_arg_matches(&matches));
    let line = line.map_err(|error| {
        let text = usage(&error).text;
        let first = text.lines().next().unwrap_or_default();
        first.trim_start_matches("error: ").to_owned()
    })?;
    let Options {
        config,
        settings,
        app,
        args,
        check_config,
        print_config,
    } = line.options;
    if line.action.is_some() || !args.is_empty() || check_config || print_config {
        return Err("only flags that set something can stand in it".to_owned());
    }
    Ok(GunicornArgs {
        file: config,
        flags: settings.flags,
        app,
        idle_flags: settings.idle,
    })
}

/// Names that commands of later releases have: no app may take them meanwhile.
const LATER_COMMANDS: [&str; 7] = [
    "status", "top", "reload", "scale", "retire", "shutdown", "k8s",
];

const EXAMPLES: &str = "\
Examples:
  gracefork ./server                                    your program, on its inherited socket
  gracefork -b :8000 -w 4 main:app                      your Python app, WSGI or ASGI
  gracefork -c gunicorn_config.py main:app              as gunicorn would
  gracefork -b :8000 -w 4 uvicorn -- --fd {fd} main:app
  gracefork -c gracefork.toml                           everything in the file
  gracefork check -c gracefork.toml                     is the file right?
  gracefork config -c gracefork.toml                    every value, and where it came from
  gracefork migrate gunicorn_config.py                  the same settings, as TOML

A flag is over GRACEFORK_* variables, they are over the file. Durations are written 30s, 1m30s or
250ms; a bare number is seconds.";

/// Run a server's workers and lose no request when they stop or reload.
#[derive(Debug, Parser)]
#[command(
    name = "gracefork",
    version,
    args_override_self = true,
    disable_help_subcommand = true,
    override_usage = "gracefork [OPTIONS] APP [-- ARGS]\n       gracefork [OPTIONS] check|config [APP] [-- ARGS]\n       gracefork migrate FILE",
    after_help = EXAMPLES
)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check the settings and say what they amount to.
    #[command(args_override_self = true)]
    Check(Options),
    /// Print every effective setting and where it came from.
    #[command(args_override_self = true)]
    Config(Options),
    /// Print a gunicorn config file as TOML.
    Migrate {
        /// The config file, in gunicorn's Python.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Options {
    /// The config file: TOML, or gunicorn's Python.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// gunicorn's name for the command check.
    #[arg(long, hide = true)]
    check_config: bool,
    /// gunicorn's name for the command config.
    #[arg(long, hide = true)]
    print_config: bool,
    #[command(flatten)]
    settings: SettingFlags,
    /// What runs: a program (a path, or a name found in PATH), or a Python app module:attribute.
    #[arg(value_name = "APP")]
    app: Option<String>,
    /// Its arguments; {fd}, {port} and {worker} are replaced.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

impl Options {
    /// What stood before the subcommand, with what follows it on top.
    fn over(mut self, after: Self) -> Self {
        self.config = after.config.or(self.config);
        self.app = after.app.or(self.app);
        self.settings.flags.extend(after.settings.flags);
        self.settings.idle.extend(after.settings.idle);
        self.args.extend(after.args);
        self
    }

    fn sources(self, app_optional: bool) -> Sources {
        Sources {
            file: self.config,
            flags: self.settings.flags,
            idle_flags: self.settings.idle,
            app: self.app,
            args: self.args,
            app_optional,
            ..Sources::default()
        }
    }
}

fn usage(error: &clap::Error) -> Usage {
    let asked = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    // clap repeats arguments as they were given.
    Usage {
        text: visible_lines(&error.to_string()),
        status: u8::from(!asked),
    }
}

#[cfg(test)]
mod tests;
