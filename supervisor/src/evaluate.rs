//! Config files that are programs: run by the app's interpreter, never by the master.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::config::{self, App, Evaluated, Sources, Unevaluated};
use crate::event_loop::spec;
use crate::package::{lacks_the_package, no_package};
use crate::question::{Meaning, Question};
use crate::sys::inquiry::{Answer, Inquiry};
use crate::sys::process::End;

/// How long a config file may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What evaluates it; the package brings it.
const MODULE: &str = "_config";

/// What prints it as TOML.
const MIGRATION: &str = "_migrate";

/// Tells the package where to import from, before all other places.
const PYTHON_PATH: &str = "GRACEFORK_PYTHON_PATH";

/// The program that prints the config file which these sources name as TOML.
///
/// # Errors
/// What is wrong, for people: with the sources, the interpreter, or the file.
pub fn migration(sources: &Sources) -> Result<Command, String> {
    let found = config::unevaluated(sources).map_err(|problems| problems.to_string())?;
    let written = sources.file.as_deref().unwrap_or(Path::new(""));
    let config = found.ok_or_else(|| {
        let name = written.display();
        format!(
            "error: `{name}` is no gunicorn config file\n  = help: name one that ends in .py, or file:FILE or python:MODULE"
        )
    })?;
    let (interpreter, _) = interpreter(&config)?;
    let mut program = Command::new(interpreter);
    program.args(config::run_module(MIGRATION)).arg(written);
    let path = config::search_path(&config.path, &config.chdir);
    program.env(PYTHON_PATH, path);
    Ok(program)
}

/// What runs a config program, and as which app: where, and with which environment.
fn interpreter(config: &Unevaluated) -> Result<(PathBuf, App), String> {
    let app = App {
        program: String::new(),
        args: Vec::new(),
        chdir: config.chdir.clone(),
        env: config.env.iter().cloned().collect(),
    };
    let found = spec::interpreter(&config.executable, config.by_default, &app);
    let found = found.map_err(|problem| problem.to_string())?;
    let found = std::path::absolute(&found).unwrap_or(found);
    Ok((found, app))
}

/// A config file that is being evaluated.
pub type Evaluation = Question<ConfigFile>;

/// What is evaluated, and by what.
#[derive(Debug)]
pub struct ConfigFile {
    name: String,
    interpreter: PathBuf,
}

impl Evaluation {
    /// Begin, if these sources name such a file.
    ///
    /// # Errors
    /// What is wrong, for people: with the other sources, the interpreter, or the file.
    pub fn begin(sources: &Sources) -> Result<Option<Self>, String> {
        let found = config::unevaluated(sources).map_err(|problems| problems.to_string())?;
        let Some(config) = found else {
            return Ok(None);
        };
        let name = config.script.to_string();
        if config.script.path().is_some_and(|path| !path.is_file()) {
            return Err(format!(
                "error: cannot read the config file `{name}`: there is no such file"
            ));
        }
        let (interpreter, app) = interpreter(&config)?;
        let mut args = config::run_module(MODULE).to_vec();
        args.push(name.clone());
        let mut env = spec::foreign_environment(&app);
        // What it imports may lie beside the app, though.
        let folders = [config.path.as_slice(), &[PathBuf::new()]].concat();
        let path = config::search_path(&folders, &config.chdir);
        env.push((PYTHON_PATH.into(), path));
        // As gunicorn does: what the file reads lies where gracefork was started.
        let inquiry = Inquiry::start(&interpreter, &args, env, Path::new("."), None)
            .map_err(|error| format!("error: cannot run {}: {error}", interpreter.display()))?;
        Ok(Some(Self::new(
            inquiry,
            LIMIT,
            ConfigFile { name, interpreter },
        )))
    }
}

impl Meaning for ConfigFile {
    /// The answer of the file and what it said beside it, or what is wrong, for people.
    type Outcome = Result<(Evaluated, String), String>;

    fn conclude(&self, answer: &Answer, is_late: bool) -> Self::Outcome {
        let said = String::from_utf8_lossy(&answer.error).trim_end().to_owned();
        let said = config::visible_lines(&said);
        let name = &self.name;
        match answer.end {
            _ if is_late => {
                let limit = LIMIT.as_secs();
                Err(format!(
                    "error: the config file `{name}` took longer than {limit} s"
                ))
            }
            End::Exited(0) => {
                let evaluated = Evaluated {
                    name: name.clone(),
                    answer: String::from_utf8_lossy(&answer.output).into_owned(),
                };
                Ok((evaluated, said))
            }
            End::Exited(_) if lacks_the_package(&said) => Err(no_package(&self.interpreter)),
            End::Exited(status) if said.is_empty() => Err(format!(
                "error: the config file `{name}` ended with exit status {status}"
            )),
            // The package says it as we would; behind a traceback, if there is one.
            End::Exited(_) if said.lines().any(|line| line.starts_with("error: ")) => Err(said),
            End::Exited(_) => Err(format!("error: the config file `{name}` fails\n{said}")),
            End::Killed(signal, _) => {
                let signal = crate::sys::signals::name(signal);
                Err(format!(
                    "error: the config file `{name}` was killed: {signal}"
                ))
            }
        }
    }
}
