//! A worker's first process that does not outlive its stop signal, while others of its group do: a
//! shell that starts the server and passes no signal on.
//!
//! They are told to stop as it was, and the worker is gone when the last of them is. So they have
//! the same time to finish as any worker.

use rustix::process::Pid;
use tracing::info;

use crate::fleet::WorkerId;
use crate::sys::process::{self, End};
use crate::sys::signals;

use super::EventLoop;

impl EventLoop {
    /// Whether a worker whose first process is dead, and not reaped yet, lives on in others. Reaps
    /// the first one then.
    pub(super) fn has_survivors(&mut self, id: WorkerId) -> bool {
        let Some(process) = self.crew.get_mut(id) else {
            return false;
        };
        let pid = process.pid;
        let End::Killed(signal, _) = process::end_of_dead(pid).unwrap_or(End::Exited(0)) else {
            return false;
        };
        // One that catches it and dies of it all the same has finished, as many servers do.
        let obeyed = process.uncaught == Some(signal) && !process.killed;
        // Told before it is reaped: until then its number is nobody else's.
        if !obeyed || !process::has_others_in_group(pid) {
            return false;
        }
        if signals::send_to_group(pid, signal).is_err() {
            return false;
        }
        process.outlived = process::reap(pid);
        let (slot, pid) = (process.slot, Pid::as_raw(Some(pid)));
        let signal = signals::name(signal);
        info!(
            slot,
            pid,
            signal,
            "the worker's first process is gone, and what it started is told to stop: a shell passes no signal on (start the server by exec)"
        );
        true
    }

    /// Something has happened: is a worker gone with the last of its group, or since it was killed?
    pub(super) fn look_after_survivors(&mut self) {
        let over: Vec<(WorkerId, End)> = self
            .crew
            .iter_mut()
            .filter_map(|(id, process)| Some((id, process.outlived?, process)))
            .filter(|(_, _, it)| it.killed || !process::has_others_in_group(it.pid))
            .map(|(id, end, _)| (id, end))
            .collect();
        for (id, end) in over {
            self.bury(id, end);
        }
    }
}
