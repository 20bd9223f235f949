//! Whether a Python app can be imported: tried in a process of its own, by the interpreter and in the
//! environment that a host would have.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{self, Config, format_duration};
use crate::event_loop::spec::Spec;
use crate::package::{lacks_the_package, no_package};
use crate::question::{Meaning, Question};
use crate::sys::inquiry::{Answer, Inquiry};
use crate::sys::process::End;

/// What imports it, and says so.
const MODULE: &str = "_check";
const IMPORTED: &[u8] = b"imported\n";
const REFUSED: &[u8] = b"refused\n";

/// Why an app cannot be imported.
#[derive(Debug)]
pub struct Refusal {
    /// For people.
    pub text: String,
    /// The exit status of a start, where the app is to blame.
    pub status: Option<u8>,
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self { text, status: None }
    }
}

/// An app that is being imported.
pub type Import = Question<App>;

/// By what it is imported, and within how long.
#[derive(Debug)]
pub struct App {
    interpreter: PathBuf,
    limit: Duration,
}

impl Import {
    /// Begins, after the config file that is a program, if there is one, and as the user that workers
    /// run as. It may take as long as a worker's start.
    ///
    /// # Errors
    /// The interpreter cannot be run.
    pub fn begin(config: Config, interpreter: PathBuf) -> Result<Self, Refusal> {
        let limit = config.workers.boot_timeout;
        let spec = Spec::unbound(config, interpreter);
        let app = &spec.config.app;
        let mut args = config::run_module(MODULE).to_vec();
        args.push(app.program.clone());
        let env = spec.host_environment(1, spec.first_free_fd(), true);
        let umask = spec.config.security.umask;
        let inquiry = Inquiry::start(&spec.program, &args, env, &app.chdir, umask)
            .map_err(|error| format!("error: cannot run {}: {error}", spec.program.display()))?;
        let interpreter = spec.program;
        Ok(Self::new(inquiry, limit, App { interpreter, limit }))
    }
}

impl Meaning for App {
    /// What was said meanwhile, or what is wrong.
    type Outcome = Result<String, Refusal>;

    fn conclude(&self, answer: &Answer, is_late: bool) -> Self::Outcome {
        let said = String::from_utf8_lossy(&answer.error);
        let said = config::visible_lines(said.trim_end());
        let with = |text: &str| Refusal::from(format!("{said}\n{text}").trim_start().to_owned());
        match answer.end {
            _ if is_late => {
                let limit = format_duration(self.limit);
                Err(with(&format!(
                    "error: importing the app took longer than {limit}\n  = help: raise `workers.boot_timeout`, within which a worker has to start"
                )))
            }
            End::Exited(0) if answer.output.starts_with(IMPORTED) => Ok(said),
            End::Exited(status) if answer.output.starts_with(REFUSED) => Err(Refusal {
                text: said,
                status: u8::try_from(status).ok(),
            }),
            End::Exited(_) if lacks_the_package(&said) => Err(no_package(&self.interpreter).into()),
            End::Exited(status) => Err(with(&format!(
                "error: the app ended the process that imported it, with exit status {status}"
            ))),
            End::Killed(signal, _) => {
                let signal = crate::sys::signals::name(signal);
                Err(with(&format!(
                    "error: the process that imported the app was killed: {signal}"
                )))
            }
        }
    }
}
