//! Signals to the master, and from it to its workers.

use std::io;
use std::os::fd::AsFd;

use nix::libc;
use rustix::process::{Pid, Signal, kill_process_group, pidfd_send_signal};
use signal_hook::consts::{
    SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};

pub use signal_hook_mio::v1_0::Signals;

/// Every signal that the master answers.
const ANSWERED: [i32; 10] = [
    SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGTTIN, SIGTTOU, SIGWINCH, SIGUSR1, SIGUSR2, SIGCHLD,
];

/// Take the signals of this process into a mio event source.
///
/// # Errors
/// When a handler cannot be installed.
pub fn subscribe() -> io::Result<Signals> {
    Signals::new(ANSWERED)
}

/// Take what has come so far; whether it says to stop, before there is anything to stop.
pub fn is_told_to_stop(signals: &mut Signals) -> bool {
    signals
        .pending()
        .any(|signal| matches!(signal, SIGTERM | SIGINT | SIGQUIT))
}

/// Send a signal to a worker, and to nobody else if it is gone.
///
/// # Errors
/// Those of pidfd_send_signal(2); a worker that is dead already is none.
pub fn send(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let Some(signal) = Signal::from_named_raw(signal) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    match pidfd_send_signal(pidfd, signal) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        sent => Ok(sent?),
    }
}

/// Kill everything in the process group that a worker leads. To be called
/// before the worker is reaped: until then its pid is nobody else's.
///
/// # Errors
/// Those of kill(2); an empty group is none.
pub fn kill_group(leader: Pid) -> io::Result<()> {
    match kill_process_group(leader, Signal::KILL) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        sent => Ok(sent?),
    }
}

/// Send a signal to everything in the process group that a worker leads or led.
///
/// # Errors
/// Those of kill(2); an empty group is one.
pub fn send_to_group(leader: Pid, signal: i32) -> io::Result<()> {
    let signal = nix::sys::signal::Signal::try_from(signal)?;
    let leader = nix::unistd::Pid::from_raw(Pid::as_raw(Some(leader)));
    Ok(nix::sys::signal::killpg(leader, signal)?)
}

/// The name of a signal, for people: `SIGSEGV`.
#[must_use]
pub fn name(signal: i32) -> String {
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&signal) => {
            format!("SIGRTMIN+{}", signal - libc::SIGRTMIN())
        }
        Err(_) => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        assert_eq!(name(libc::SIGSEGV), "SIGSEGV");
        assert_eq!(name(libc::SIGRTMIN() + 3), "SIGRTMIN+3");
        assert_eq!(name(0), "signal 0");
    }
}
