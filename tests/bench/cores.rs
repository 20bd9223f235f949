//! Who runs on which processor.

use std::fs;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Two processors that do not disturb each other: one for the server, one for its clients.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) load: usize,
}

impl Cores {
    /// Two of those that this process may use.
    pub(crate) fn pick() -> Cores {
        let allowed = sched_getaffinity(None).unwrap();
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        match (cores.next(), cores.next()) {
            (Some(server), Some(load)) => Cores { server, load },
            _ => panic!("server and load need a processor each, and there is one"),
        }
    }
}

/// Puts all threads of a process, and those that they start, on one processor.
pub(crate) fn pin(pid: u32, core: usize) {
    for entry in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let name = entry.unwrap().file_name();
        let thread = name.to_str().and_then(|name| name.parse().ok());
        sched_setaffinity(thread.and_then(Pid::from_raw), &only(core)).unwrap();
    }
}

/// Has this thread, and what it starts meanwhile, run on one processor.
pub(crate) fn on<R>(core: usize, run: impl FnOnce() -> R) -> R {
    let before = sched_getaffinity(None).unwrap();
    sched_setaffinity(None, &only(core)).unwrap();
    let result = run();
    sched_setaffinity(None, &before).unwrap();
    result
}

fn only(core: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(core);
    set
}
