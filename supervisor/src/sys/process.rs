//! Children: reaping them, adopting orphans, leaving none behind.
#![expect(
    unsafe_code,
    reason = "the safe wrappers of waitid(2) know neither the pid nor all signals"
)]

use std::hash::BuildHasher;
use std::io;
use std::time::{Duration, Instant};

use nix::libc;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus};

/// Become the parent of every descendant whose own parent dies. PID 1 is that anyway.
///
/// # Errors
/// Those of prctl(2) `PR_SET_CHILD_SUBREAPER`.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// A number that is different in each process, from the system's randomness.
#[must_use]
pub fn chance() -> u64 {
    std::hash::RandomState::new().hash_one(0)
}

/// How a process ended, by wait(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it; the flag says that it left a core.
    Killed(i32, bool),
}

impl End {
    /// As wait(2) encodes it.
    #[must_use]
    pub fn raw(self) -> i32 {
        match self {
            End::Exited(status) => (status & 0xff) << 8,
            End::Killed(signal, core) => signal | if core { CORE } else { 0 },
        }
    }
}

/// `WCOREFLAG` of wait(2).
const CORE: i32 = 0x80;

/// Whether this is a child of ours, dead or alive, that is not reaped yet.
#[must_use]
pub fn is_child(pid: Pid) -> bool {
    wait_without_reaping(libc::P_PID, Pid::as_raw(Some(pid)).unsigned_abs()).is_some()
}

/// Whether this child of ours is dead, and not reaped yet.
#[must_use]
pub fn has_ended(child: Pid) -> bool {
    wait_without_reaping(libc::P_PID, Pid::as_raw(Some(child)).unsigned_abs())
        .is_some_and(|dead| dead.is_some())
}

/// The next child that is dead and not reaped yet. It stays so.
#[must_use]
pub fn next_dead() -> Option<Pid> {
    // "No children" is an answer, not an error.
    wait_without_reaping(libc::P_ALL, 0).flatten()
}

/// `None` when there is no such child; in it the one that is dead, if any is.
fn wait_without_reaping(kind: libc::idtype_t, id: libc::id_t) -> Option<Option<Pid>> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: an all-zero siginfo_t is valid, waitid(2) writes to nothing else,
    // and what it says of a child has a pid; it stays zero when none is dead.
    unsafe {
        let mut child: libc::siginfo_t = std::mem::zeroed();
        let found = libc::waitid(kind, id, &raw mut child, flags) == 0;
        found.then(|| Pid::from_raw(child.si_pid()))
    }
}

/// How this child of ours ended that is dead, and not reaped yet.
#[must_use]
pub fn end_of_dead(child: Pid) -> Option<End> {
    let id = WaitId::Pid(child);
    let flags = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = rustix::process::waitid(id, flags).ok()??;
    match status.terminating_signal() {
        Some(signal) => Some(End::Killed(signal, status.dumped())),
        None => status.exit_status().map(End::Exited),
    }
}

/// Whether the process group of this dead leader has others in it that live, by proc(5) `stat`.
#[must_use]
pub fn has_others_in_group(leader: Pid) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = processes.filter_map(|process| std::fs::read(process.path().join("stat")).ok());
    stats
        .into_iter()
        .any(|stat| lives_in_group(&String::from_utf8_lossy(&stat), leader))
}

/// Whether a process of this `stat` is in the group, and lives: one whose first thread has ended does
/// for as long as another has not, although its state is that of a dead one.
fn lives_in_group(stat: &str, leader: Pid) -> bool {
    // The name before them may hold anything, brackets and blanks included.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // By their numbers in proc(5), of which the third is the first one here.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or_default();
    let number = |text: &str| text.parse().unwrap_or(0);
    let has_ended = matches!(field(3), "Z" | "X") && number(field(20)) <= 1;
    !has_ended && number(field(5)) == Pid::as_raw(Some(leader))
}

/// Whether a process has a handler for this signal, by proc(5) `status`. One that cannot be looked at
/// counts as having one.
#[must_use]
pub fn catches(pid: Pid, signal: i32) -> bool {
    let path = format!("/proc/{}/status", Pid::as_raw(Some(pid)));
    let status = std::fs::read_to_string(path).unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = u32::try_from(signal - 1).ok();
    bit.zip(mask)
        .is_none_or(|(bit, mask)| mask.checked_shr(bit).unwrap_or(0) & 1 == 1)
}

/// Reap one child; `None` when it still lives or is not ours.
#[must_use]
pub fn reap(pid: Pid) -> Option<End> {
    let (_, status) = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG).ok()??;
    Some(end_of(status))
}

fn end_of(status: WaitStatus) -> End {
    match status.terminating_signal() {
        Some(signal) => End::Killed(signal, status.as_raw() & CORE != 0),
        None => End::Exited(status.exit_status().unwrap_or(0)),
    }
}

/// Kill and reap whatever is still a child of this process, but for
/// `strangers`; returns how many had to be killed. One that ends by itself meanwhile had not.
pub fn kill_children(strangers: &[Pid], deadline: Instant) -> usize {
    let mut killed = 0;
    loop {
        while let Some(dead) = next_dead().filter(|dead| !strangers.contains(dead)) {
            let _ = reap(dead);
        }
        let left: Vec<Pid> = children()
            .into_iter()
            .filter(|child| !strangers.contains(child))
            .collect();
        for &child in &left {
            // A child is a zombie at worst until it is reaped: the pid is its own.
            let _ = rustix::process::kill_process(child, Signal::KILL);
            killed += usize::from(was_killed(wait_for(child, deadline)));
        }
        // Their own children become ours.
        if left.is_empty() || Instant::now() >= deadline {
            return killed;
        }
    }
}

fn was_killed(end: Option<End>) -> bool {
    matches!(end, Some(End::Killed(signal, _)) if signal == Signal::KILL.as_raw())
}

fn wait_for(child: Pid, deadline: Instant) -> Option<End> {
    if let Ok(pidfd) = rustix::process::pidfd_open(child, PidfdFlags::empty()) {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        let timeout = rustix::event::Timespec::try_from(left).ok();
        let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref());
    }
    reap(child)
}

/// The children of this process. Those that are there before it starts any
/// came with it, from whoever was this process before its exec.
#[must_use]
pub fn children() -> Vec<Pid> {
    let list = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    list.split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .filter_map(Pid::from_raw)
        .collect()
}

/// Whether this process has a controlling terminal (tty(4)).
#[must_use]
pub fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Resident memory of a process in bytes, by proc(5) `statm`.
#[must_use]
pub fn resident_bytes(pid: Pid) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", Pid::as_raw(Some(pid)))).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn pid_of(child: &std::process::Child) -> Pid {
        Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "reaping them is what is tested")]
    fn ends_are_told_apart() {
        let exits = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        assert!(wait_for_end(&exits) == End::Exited(7));
        let dies = Command::new("sh")
            .args(["-c", "kill -TERM $$"])
            .spawn()
            .unwrap();
        assert!(wait_for_end(&dies) == End::Killed(15, false));
    }

    fn wait_for_end(child: &std::process::Child) -> End {
        let pidfd = rustix::process::pidfd_open(pid_of(child), PidfdFlags::empty()).unwrap();
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
        reap(pid_of(child)).unwrap()
    }

    #[test]
    fn who_lives_in_a_group_is_told_by_its_state_and_its_threads() {
        let stat = |state: &str, group: i32, threads: i32| {
            let rest = "7 0 -1 4194304 1 0 0 0 1 2 0 0 20 0";
            format!("12 (a) b) {state} 1 {group} {rest} {threads} 0 900 1 2 3")
        };
        let leader = Pid::from_raw(40).unwrap();
        assert!(lives_in_group(&stat("S", 40, 1), leader));
        assert!(!lives_in_group(&stat("S", 41, 1), leader));
        assert!(!lives_in_group(&stat("Z", 40, 1), leader));
        assert!(!lives_in_group(&stat("X", 40, 0), leader));
        // Its first thread has ended before another one.
        assert!(lives_in_group(&stat("Z", 40, 2), leader));
        assert!(!lives_in_group("", leader));
    }

    #[test]
    fn memory_is_measured() {
        assert!(resident_bytes(rustix::process::getpid()).unwrap() > 100_000);
    }
}
