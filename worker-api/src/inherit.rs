//! What the master hands over at the start: descriptors and numbers, named in the environment.
//!
//! It is taken once in a process, and only when `LISTEN_PID` says that it is meant for this very
//! process: the variables stay in the environment (to remove them is not sound in a program with
//! threads), and the check is what keeps a child of the worker from taking them for its own. A fork
//! server takes it for the workers that it forks, see [`Handover`].
#![expect(unsafe_code, reason = "makes owned descriptors of inherited numbers")]

use std::collections::BTreeSet;
#[cfg(test)]
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, FdFlags};

use crate::listener::Listener;
use crate::settings::Settings;

/// The first inherited descriptor, as in `sd_listen_fds(3)`.
const FIRST_FD: RawFd = 3;

/// What is wrong with the descriptors or the environment that a worker was started with.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// A process has one worker; it was made already.
    #[error("this process has made its worker already")]
    AlreadyTaken,
    /// A variable has a value that its readers cannot understand.
    #[error("the environment variable {name} has the value {value:?}, which does not fit")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
    },
    /// A variable that must come with the others is not there.
    #[error("the environment variable {0} is missing")]
    Missing(&'static str),
    /// An inherited descriptor is not open, or not what it should be.
    #[error("the inherited descriptor {fd} cannot be used: {source}")]
    Descriptor {
        /// Its number.
        fd: RawFd,
        /// What the kernel says.
        source: io::Error,
    },
}

/// Where variables are looked up. Each is looked up for itself: a copy of the whole environment would
/// be written to memory that a forked worker shares with the process that forked it.
pub(crate) enum Env {
    OfProcess,
    #[cfg(test)]
    Made(HashMap<String, OsString>),
}

/// What was handed over; empty without a master.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) master: Option<Supervised>,
}

/// What only gracefork's master hands over.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub(crate) slot: usize,
    pub(crate) generation: u64,
    pub(crate) control: OwnedFd,
    pub(crate) scoreboard: OwnedFd,
}

/// What a fork server was handed for the workers that it will fork: listeners, scoreboard and
/// settings.
///
/// They stay open across `fork`, so each child has them too, and makes its worker from them with
/// [`WorkerBuilder::forked`](crate::WorkerBuilder::forked). They close at `exec`.
///
/// ```
/// assert!(worker_api::Handover::take().is_err(), "this process was not started by a master");
/// ```
#[derive(Debug)]
pub struct Handover {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) scoreboard: OwnedFd,
    pub(crate) settings: Settings,
}

impl Handover {
    /// Takes over what the environment names: `LISTEN_FDS`, `LISTEN_FDNAMES`,
    /// `GRACEFORK_SCOREBOARD_FD` and what [`Settings`] names, in the fork server or, as it has not
    /// done so, in a child of it. `LISTEN_PID` is not looked at, since it can only name the fork
    /// server.
    ///
    /// # Errors
    /// This is no fork server of gracefork's, it (or the process that forked it) has come here before,
    /// or a setting has a value that it cannot have.
    pub fn take() -> Result<Self, InheritError> {
        claim()?;
        Self::of(&Env::OfProcess)
    }

    /// The addresses of the listeners, in the config's order; none for a Unix socket.
    #[must_use]
    pub fn addresses(&self) -> Vec<Option<SocketAddr>> {
        self.listeners.iter().map(Listener::address).collect()
    }

    fn of(env: &Env) -> Result<Self, InheritError> {
        let settings = Settings::from_env(env)?;
        let mut hands = Hands {
            may_close_at_exec: true,
            ..Hands::default()
        };
        let listeners = take_listeners(env, &mut hands)?;
        let scoreboard = hands.adopt(env.required("GRACEFORK_SCOREBOARD_FD")?)?;
        Ok(Self {
            listeners,
            scoreboard,
            settings,
        })
    }
}

/// Lets the first caller in a process pass.
pub(crate) fn claim() -> Result<(), InheritError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    match TAKEN.swap(true, Ordering::AcqRel) {
        false => Ok(()),
        true => Err(InheritError::AlreadyTaken),
    }
}

/// Takes everything that is meant for this process; nothing when `LISTEN_PID` names another one.
pub(crate) fn take(env: &Env) -> Result<Inherited, InheritError> {
    if env.number::<u32>("LISTEN_PID").ok().flatten() != Some(std::process::id()) {
        return Ok(Inherited::default());
    }
    let mut hands = Hands::default();
    let listeners = take_listeners(env, &mut hands)?;
    let master = match env.number("GRACEFORK_CONTROL_FD")? {
        Some(control) => Some(Supervised {
            slot: env.required("GRACEFORK_WORKER")?,
            generation: env.required("GRACEFORK_GENERATION")?,
            scoreboard: hands.adopt(env.required("GRACEFORK_SCOREBOARD_FD")?)?,
            control: hands.adopt(control)?,
        }),
        None => None,
    };
    Ok(Inherited { listeners, master })
}

fn take_listeners(env: &Env, hands: &mut Hands) -> Result<Vec<Listener>, InheritError> {
    let names = env.text("LISTEN_FDNAMES")?.unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    let count = match env.number::<RawFd>("LISTEN_FDS")?.unwrap_or(0) {
        count @ 0..=1024 => count,
        _ => return Err(env.bad("LISTEN_FDS")),
    };
    let mut listeners = Vec::new();
    for fd in FIRST_FD..FIRST_FD + count {
        let name = names.next().unwrap_or("unknown").to_owned();
        let listener = Listener::from_fd(hands.adopt(fd)?, name);
        listeners.push(listener.map_err(|source| InheritError::Descriptor { fd, source })?);
    }
    Ok(listeners)
}

impl Env {
    /// For tests: these variables, meant for this process unless they say otherwise.
    #[cfg(test)]
    pub(crate) fn of(variables: &[(&str, &str)]) -> Self {
        let pid = std::process::id().to_string();
        let mine = [("LISTEN_PID", pid.as_str())];
        let all = mine.iter().chain(variables);
        let pairs = all.map(|(name, value)| ((*name).to_owned(), value.into()));
        Self::Made(pairs.collect())
    }

    fn value(&self, name: &str) -> Option<OsString> {
        match self {
            Self::OfProcess => std::env::var_os(name),
            #[cfg(test)]
            Self::Made(variables) => variables.get(name).cloned(),
        }
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>, InheritError> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        value
            .into_string()
            .map(Some)
            .map_err(|value| InheritError::Variable {
                name,
                value: value.to_string_lossy().into_owned(),
            })
    }

    pub(crate) fn number<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, InheritError> {
        let Some(value) = self.text(name)? else {
            return Ok(None);
        };
        match value.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(InheritError::Variable { name, value }),
        }
    }

    fn required<T: FromStr>(&self, name: &'static str) -> Result<T, InheritError> {
        self.number(name)?.ok_or(InheritError::Missing(name))
    }

    pub(crate) fn bad(&self, name: &'static str) -> InheritError {
        let value = self.value(name).unwrap_or_default();
        let value = value.to_string_lossy().into_owned();
        InheritError::Variable { name, value }
    }
}

/// Remembers which descriptors were adopted, so that none gets two owners.
#[derive(Default)]
struct Hands {
    taken: BTreeSet<RawFd>,
    /// A fork server keeps what it was handed from the programs that it starts.
    may_close_at_exec: bool,
}

impl Hands {
    fn adopt(&mut self, fd: RawFd) -> Result<OwnedFd, InheritError> {
        let refuse = |source: io::Error| InheritError::Descriptor { fd, source };
        if fd < FIRST_FD || !self.taken.insert(fd) {
            return Err(refuse(io::ErrorKind::InvalidInput.into()));
        }
        // SAFETY: fd is not -1, and the borrow is used for fcntl alone, which answers EBADF when
        // the number is not open.
        let probe = unsafe { BorrowedFd::borrow_raw(fd) };
        let flags = rustix::io::fcntl_getfd(probe).map_err(|errno| refuse(errno.into()))?;
        if flags.contains(FdFlags::CLOEXEC) && !self.may_close_at_exec {
            // What was handed down survived an exec; this one was opened here, by somebody else.
            return Err(refuse(io::ErrorKind::InvalidInput.into()));
        }
        rustix::io::fcntl_setfd(probe, FdFlags::CLOEXEC).map_err(|errno| refuse(errno.into()))?;
        // SAFETY: the number is open (fcntl worked) and came through our exec, so that nobody in
        // this process opened it: what Rust opens closes on exec. A fork server, which is Python,
        // says by the environment that it has these open for its workers. `claim` lets a process,
        // with those that it forks, come here once, and `taken` lets a number come here once.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Another descriptor for what this process has open under a number, as dup(2) makes it. It is
/// closed by exec.
///
/// For what a library keeps for itself, such as a runtime's epoll: whatever has the number at the
/// time is what the new descriptor stands for.
///
/// # Errors
/// EBADF if nothing is open under the number, EMFILE if there are too many.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: the number is not -1, and the borrow is used for fcntl alone, which answers EBADF
    // when it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    borrowed.try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(variables: &[(&str, &str)]) -> String {
        take(&Env::of(variables)).unwrap_err().to_string()
    }

    #[test]
    fn what_is_meant_for_another_process_is_left_alone() {
        let all = [
            ("LISTEN_FDS", "1"),
            ("GRACEFORK_CONTROL_FD", "4"),
            ("GRACEFORK_SCOREBOARD_FD", "5"),
        ];
        for pid in ["1", "0", "-1", "", "x", "99999999999"] {
            let mut variables = vec![("LISTEN_PID", pid)];
            variables.extend(all);
            let taken = take(&Env::of(&variables)).unwrap();
            assert!(taken.listeners.is_empty() && taken.master.is_none());
        }
        assert!(take(&Env::Made(HashMap::new())).unwrap().master.is_none());
    }

    #[test]
    fn what_does_not_fit_is_told_by_name_and_value() {
        for count in ["x", "-1", "1025", "99999999999"] {
            let error = refused(&[("LISTEN_FDS", count)]);
            assert!(
                error.contains("LISTEN_FDS") && error.contains(count),
                "{error}"
            );
        }
        let control = ("GRACEFORK_CONTROL_FD", "900");
        assert!(refused(&[control]).contains("GRACEFORK_WORKER is missing"));
        let slot = ("GRACEFORK_WORKER", "0");
        assert!(refused(&[control, slot]).contains("GRACEFORK_GENERATION is missing"));
        assert!(refused(&[control, ("GRACEFORK_WORKER", "one")]).contains("\"one\""));
        let generation = ("GRACEFORK_GENERATION", "0");
        let error = refused(&[control, slot, generation]);
        assert!(
            error.contains("GRACEFORK_SCOREBOARD_FD is missing"),
            "{error}"
        );
        for fd in ["900", "-1", "0", "2"] {
            let scoreboard = ("GRACEFORK_SCOREBOARD_FD", fd);
            let error = refused(&[control, slot, generation, scoreboard]);
            assert!(error.contains(&format!("descriptor {fd} ")), "{error}");
        }
    }
}
