//! Whether a Python app can be imported: tried in a process of its own, by the interpreter and in the
//! environment that a host would have.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::config::{self, Config, format_duration};
use crate::event_loop::spec::Spec;
use crate::package::{lacks_the_package, no_package};
use crate::sys::inquiry::{Answer, Inquiry};
use crate::sys::process::End;

/// What imports it, and says so.
const MODULE: &str = "_check";
const IMPORTED: &[u8] = b"imported\n";

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

/// Imports the app, after the config file that is a program, if there is one, and as the user that
/// workers run as. It may take as long as a worker's start. What was said meanwhile is returned.
///
/// # Errors
/// What is wrong with the app, its interpreter, or the system.
pub fn import(config: Config, interpreter: PathBuf) -> Result<String, Refusal> {
    let limit = config.workers.boot_timeout;
    let spec = Spec::unbound(config, interpreter);
    let app = &spec.config.app;
    let mut args = config::run_module(MODULE).to_vec();
    args.push(app.program.clone());
    let env = spec.host_environment(1, spec.first_free_fd(), true);
    let umask = spec.config.security.umask;
    let inquiry = Inquiry::start(&spec.program, &args, env, &app.chdir, umask)
        .map_err(|error| format!("error: cannot run {}: {error}", spec.program.display()))?;
    let (answer, is_late) = wait(inquiry, limit)
        .map_err(|error| format!("error: cannot wait for {}: {error}", spec.program.display()))?;
    let said = String::from_utf8_lossy(&answer.error);
    let said = config::visible_lines(said.trim_end());
    if is_late {
        let limit = format_duration(limit);
        return Err(Refusal::from(format!(
            "{said}\nerror: importing the app took longer than {limit}\n  = help: raise `workers.boot_timeout`, within which a worker has to start"
        )));
    }
    let with = |text: String| Refusal::from(format!("{said}\n{text}"));
    match answer.end {
        End::Exited(0) if answer.output == IMPORTED => Ok(said),
        End::Exited(1) if lacks_the_package(&said) => Err(no_package(&spec.program).into()),
        // The package says it as we would; behind a traceback, if there is one.
        End::Exited(status) if said.lines().any(|line| line.starts_with("error: ")) => {
            Err(Refusal {
                text: said,
                status: u8::try_from(status).ok(),
            })
        }
        End::Exited(status) => Err(with(format!(
            "error: the app ended the process that imported it, with exit status {status}"
        ))),
        End::Killed(signal, _) => {
            let signal = crate::sys::signals::name(signal);
            Err(with(format!(
                "error: the process that imported the app was killed: {signal}"
            )))
        }
    }
}

/// Until it has ended, or is killed since it takes longer than `limit`.
fn wait(mut inquiry: Inquiry, limit: Duration) -> rustix::io::Result<(Answer, bool)> {
    let deadline = Instant::now() + limit;
    let mut is_late = false;
    loop {
        if let Some(answer) = inquiry.advance() {
            return Ok((answer, is_late));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() && !is_late {
            is_late = true;
            inquiry.kill();
        }
        let timeout = Timespec::try_from(left).ok().filter(|_| !is_late);
        let mut sources: Vec<_> = inquiry
            .sources()
            .map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN))
            .collect();
        match poll(&mut sources, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
