//! The state of a task: so that it is polled by one thread at a time and misses no wake-up.

use super::sync::{AtomicU8, Ordering};

const IDLE: u8 = 0;
/// In the queue.
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
/// Running, and woken meanwhile.
const NOTIFIED: u8 = 3;
const DONE: u8 = 4;

pub(crate) struct TaskState(AtomicU8);

impl TaskState {
    /// Of a task that is being put into the queue.
    pub(crate) fn queued() -> Self {
        Self(AtomicU8::new(QUEUED))
    }

    /// Somebody wakes the task. `true` if the caller has to put it into the queue.
    #[must_use]
    pub(crate) fn wake(&self) -> bool {
        let woken = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| match state {
                IDLE => Some(QUEUED),
                RUNNING => Some(NOTIFIED),
                DONE => None,
                // Written all the same: the poll that comes sees what the waker has done.
                _ => Some(state),
            });
        woken == Ok(IDLE)
    }

    /// The task comes from the queue and is about to be polled.
    pub(crate) fn begin(&self) {
        self.0.swap(RUNNING, Ordering::AcqRel);
    }

    /// The poll is over and the task is not. `true` if the caller has to put it into the queue.
    #[must_use]
    pub(crate) fn pause(&self) -> bool {
        let paused = self
            .0
            .compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire);
        if paused.is_err() {
            self.0.swap(QUEUED, Ordering::AcqRel);
        }
        paused.is_err()
    }

    /// The task is over.
    pub(crate) fn finish(&self) {
        self.0.store(DONE, Ordering::Release);
    }
}
