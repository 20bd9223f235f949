//! What surrounds the calls of a handler.

use std::time::Duration;

/// What a runtime with a lock of its own, such as Python, adds to the threads that make its calls.
/// Nothing, unless it says otherwise.
pub trait Surroundings: Send + Sync + 'static {
    /// The life of a thread that makes calls: all that it does, from here on, is `life`.
    fn live(&self, life: &mut (dyn FnMut() + Send)) {
        life();
    }

    /// The calling thread is about to wait, or to look after other things than calls: it lets go of
    /// what others may need. Called in the middle of a call too, where that waits for its client;
    /// whoever needs it takes it again afterwards.
    fn rest(&self) {}

    /// A call that has not moved for so long hangs: it did not return, and sent or read nothing.
    /// The time in which it waits for its client does not count.
    fn hang_timeout(&self) -> Option<Duration> {
        None
    }

    /// A call hangs; told once for each, on a thread that runs no call. Connections wait meanwhile.
    /// With `all`, as many calls hang as may run at once: no other one can be made.
    fn hung(&self, all: bool) {
        let _ = all;
    }
}

impl Surroundings for () {}
