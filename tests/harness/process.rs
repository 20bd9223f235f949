//! Processes seen from outside: by pidfd and start time, so that none is confused with a later one
//! of the same number, and by the marker that every descendant of a test's server inherits.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The environment variable that marks all processes of one test's server. Not `GRACEFORK_...`: those
/// are settings.
pub(crate) const MARKER: &str = "E2E_SERVER_ID";

/// One process.
pub(crate) struct Watched {
    pub(crate) pid: u32,
    started: u64,
    pidfd: OwnedFd,
}

/// What `/proc/PID/stat` says.
pub(crate) struct Stat {
    pub(crate) name: String,
    pub(crate) state: char,
    pub(crate) parent: u32,
    pub(crate) started: u64,
}

impl Watched {
    /// Takes hold of a running process; `None` when there is none of this number.
    pub(crate) fn open(pid: u32) -> Option<Watched> {
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let before = stat(pid)?.started;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).ok()?;
        // The same start time before and after: the descriptor is of the process that was read.
        let started = stat(pid)?.started;
        (before == started).then_some(Watched {
            pid,
            started,
            pidfd,
        })
    }

    /// Waits for the exit; the time it was seen, or `None` when it runs on after `limit`.
    pub(crate) fn wait_exit(&self, limit: Duration) -> Option<Instant> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok()?;
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return None,
                Ok(_) => return Some(Instant::now()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("poll of a pidfd: {error}"),
            }
        }
    }

    /// Whether it has ended *and* was reaped.
    pub(crate) fn is_gone(&self) -> bool {
        stat(self.pid).is_none_or(|now| now.started != self.started)
    }

    /// Sends a signal; a process that has ended is no error.
    pub(crate) fn signal(&self, signal: Signal) {
        match pidfd_send_signal(self.pidfd.as_fd(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => panic!("signal {signal:?} to {}: {error}", self.pid),
        }
    }
}

/// Reads `/proc/PID/stat`; `None` when there is no such process.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold blanks and parentheses itself.
    let (head, tail) = text.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    Some(Stat {
        name: head.split_once('(')?.1.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// All processes whose parent is `pid`, zombies too.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let mut found = all();
    found.retain(|&child| stat(child).is_some_and(|stat| stat.parent == pid));
    found
}

/// The children of `pid` that have ended and wait to be reaped.
pub(crate) fn zombies(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    found.retain(|&child| stat(child).is_some_and(|stat| stat.state == 'Z'));
    found
}

/// The running processes that carry the marker with this value.
pub(crate) fn marked(id: &str) -> Vec<u32> {
    let entry = format!("{MARKER}={id}");
    let mut found = all();
    found.retain(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|&byte| byte == 0)
            .any(|variable| variable == entry.as_bytes())
    });
    found
}

/// One line about a process, for a failure text.
pub(crate) fn describe(pid: u32) -> String {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    match stat(pid) {
        Some(stat) => format!(
            "{pid} ({}, state {}, parent {}): {command}",
            stat.name, stat.state, stat.parent
        ),
        None => format!("{pid} (gone)"),
    }
}

fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}
