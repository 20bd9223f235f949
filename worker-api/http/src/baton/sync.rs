//! The primitives of the hand-over, in one place: `tests/model.rs` puts loom's in their stead.

pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
pub(super) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use std::time::Duration;

/// Waits on `condition`, but not much longer than `time`; `guard` is of the mutex.
pub(super) fn wait_for<'a, T>(
    condition: &Condvar,
    _: &'a Mutex<T>,
    guard: MutexGuard<'a, T>,
    time: Duration,
) -> MutexGuard<'a, T> {
    condition
        .wait_timeout(guard, time)
        .unwrap_or_else(PoisonError::into_inner)
        .0
}
