//! Deadlines: every wait of a test ends, with a text that says what was awaited.

use std::time::{Duration, Instant};

/// How long anything may take that has no requirement of its own; generous, because the machine may
/// be slow and busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// How often a condition is looked at that nobody can report by an event.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// Looks until `probe` gives a value; `None` once `limit` is over.
pub(crate) fn poll<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

/// Waits until `condition` holds; panics with `what` when it does not within [`LIMIT`].
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    if poll(LIMIT, || condition().then_some(())).is_none() {
        panic!("within {LIMIT:?} this did not happen: {what}");
    }
}
