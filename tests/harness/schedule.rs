//! Who runs beside whom: a scenario that measures times or loads the machine runs alone.
//!
//! libtest runs tests side by side. A requirement of 200 ms cannot be measured while a neighbour
//! starts 200 workers on the same two cores, so such a test takes [`alone`]; all others share.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Who has a turn, and who waits for one.
pub(crate) struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

/// Held while a test runs beside others (every `Server` holds one) or, from [`alone`], by itself.
pub(crate) struct Turn {
    schedule: &'static Schedule,
    alone: bool,
}

struct State {
    sharing: usize,
    alone: bool,
    waiting_alone: usize,
    waiting_to_share: usize,
}

static SCHEDULE: Schedule = Schedule::new();

thread_local! {
    /// Turns that this test's thread holds: the second one must not wait for a stranger.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Waits until no other test runs a server, and keeps them waiting until it is dropped.
pub(crate) fn alone() -> Turn {
    SCHEDULE.alone()
}

/// Waits until no test runs alone.
pub(crate) fn share() -> Turn {
    SCHEDULE.share()
}

impl Schedule {
    pub(crate) const fn new() -> Schedule {
        let state = State {
            sharing: 0,
            alone: false,
            waiting_alone: 0,
            waiting_to_share: 0,
        };
        Schedule {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn alone(&'static self) -> Turn {
        assert_eq!(
            HELD.get(),
            0,
            "alone() comes before the first server of a test"
        );
        let mut state = self.lock();
        state.waiting_alone += 1;
        while state.alone || state.sharing > 0 {
            state = self.wait(state);
        }
        state.waiting_alone -= 1;
        state.alone = true;
        HELD.set(1);
        Turn {
            schedule: self,
            alone: true,
        }
    }

    pub(crate) fn share(&'static self) -> Turn {
        if HELD.get() == 0 {
            let mut state = self.lock();
            state.waiting_to_share += 1;
            while state.alone || state.waiting_alone > 0 {
                state = self.wait(state);
            }
            state.waiting_to_share -= 1;
            state.sharing += 1;
        }
        HELD.set(HELD.get() + 1);
        Turn {
            schedule: self,
            alone: false,
        }
    }

    pub(crate) fn waiting_alone(&self) -> usize {
        self.lock().waiting_alone
    }

    pub(crate) fn waiting_to_share(&self) -> usize {
        self.lock().waiting_to_share
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
        let mut state = self.schedule.lock();
        if self.alone {
            state.alone = false;
        } else if HELD.get() == 0 {
            state.sharing -= 1;
        }
        self.schedule.changed.notify_all();
    }
}
