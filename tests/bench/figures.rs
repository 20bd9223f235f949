//! What `/proc` says of a process.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::harness::wait::{LIMIT, poll};

/// `/proc/PID/smaps_rollup`, in bytes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Memory {
    /// Its own pages, and of shared ones its share.
    pub(crate) pss: f64,
    /// All its pages that are in memory.
    pub(crate) rss: f64,
    /// Pages that it wrote and shares with nobody.
    pub(crate) private_dirty: f64,
    /// Heap and stacks: not of a file.
    pub(crate) anonymous: f64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Memory {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let field =
            |name| 1024.0 * number(&text, name).unwrap_or_else(|| panic!("no {name} in {path}"));
        Memory {
            pss: field("Pss:"),
            rss: field("Rss:"),
            private_dirty: field("Private_Dirty:"),
            anonymous: field("Anonymous:"),
        }
    }

    /// Once it has been the same for two seconds: the master waits for one until it unmaps what its
    /// start took.
    pub(crate) fn settled(pid: u32) -> Memory {
        let mut last = Memory::of(pid);
        let settled = poll(LIMIT, || {
            thread::sleep(Duration::from_secs(2));
            let before = std::mem::replace(&mut last, Memory::of(pid));
            (before.rss == last.rss).then_some(last)
        });
        settled.unwrap_or(last)
    }
}

/// Voluntary and involuntary context switches of all threads: each is one wake-up at most.
pub(crate) fn switches(pid: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_thread = |entry: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(entry.unwrap().path().join("status")).unwrap();
        let count = |name| number(&text, name).unwrap_or_else(|| panic!("no {name}"));
        count("voluntary_ctxt_switches:") + count("nonvoluntary_ctxt_switches:")
    };
    threads.map(of_thread).sum()
}

/// Time on a processor, in the kernel too, of all threads that run; `None` once it has ended, or
/// where the kernel does not count it.
pub(crate) fn processor_time(pid: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let of_thread = |entry: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(entry.ok()?.path().join("schedstat")).ok()?;
        text.split(' ')
            .next()?
            .parse()
            .ok()
            .map(Duration::from_nanos)
    };
    threads.map(of_thread).sum()
}

/// How many descriptors it has open.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The number behind `name` at the beginning of a line.
fn number(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].split_whitespace().next()?.parse().ok()
}
