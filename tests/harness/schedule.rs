//! Who runs beside whom: a scenario that measures times or loads the machine runs alone.
//!
//! libtest runs tests side by side. A requirement of 200 ms cannot be measured while a neighbour
//! starts 200 workers on the same two cores, so such a test takes [`alone`]; all others share.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Held while a test runs beside others (every `Server` holds one) or, from [`alone`], by itself.
pub(crate) struct Turn {
    alone: bool,
}

#[derive(Default)]
struct State {
    sharing: usize,
    alone: bool,
    waiting_alone: usize,
}

static STATE: Mutex<State> = Mutex::new(State {
    sharing: 0,
    alone: false,
    waiting_alone: 0,
});
static CHANGED: Condvar = Condvar::new();

thread_local! {
    /// Turns that this test's thread holds: the second one must not wait for a stranger.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Waits until no other test runs a server, and keeps them waiting until it is dropped.
pub(crate) fn alone() -> Turn {
    assert_eq!(
        HELD.get(),
        0,
        "alone() comes before the first server of a test"
    );
    let mut state = lock();
    state.waiting_alone += 1;
    while state.alone || state.sharing > 0 {
        state = CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state.waiting_alone -= 1;
    state.alone = true;
    HELD.set(1);
    Turn { alone: true }
}

/// Waits until no test runs alone.
pub(crate) fn share() -> Turn {
    if HELD.get() == 0 {
        let mut state = lock();
        while state.alone || state.waiting_alone > 0 {
            state = CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.sharing += 1;
    }
    HELD.set(HELD.get() + 1);
    Turn { alone: false }
}

impl Drop for Turn {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
        let mut state = lock();
        if self.alone {
            state.alone = false;
        } else if HELD.get() == 0 {
            state.sharing -= 1;
        }
        CHANGED.notify_all();
    }
}

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
