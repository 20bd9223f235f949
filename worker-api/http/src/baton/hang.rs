//! Which calls have not moved for too long. It costs a call two stores, and wakes nobody up unless
//! a call lasts: whoever waits for the kernel meanwhile does so no longer than to its time.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One clock for each thread that makes calls.
pub(super) struct Clocks {
    limit: Option<u64>,
    /// So many calls may run at once.
    permits: usize,
    clocks: Mutex<Vec<Arc<Clock>>>,
}

/// When the call of a thread last moved, in nanoseconds of the [`Timers`](super::timers::Timers);
/// or one of the times below, that cannot be.
#[derive(Debug, Default)]
struct Clock(AtomicU64);

/// There is no call.
const NONE: u64 = 0;
/// It waits for its client.
const WAITS: u64 = u64::MAX;
/// It hangs, as was said already.
const TOLD: u64 = u64::MAX - 1;

thread_local! {
    static MINE: OnceCell<Arc<Clock>> = const { OnceCell::new() };
}

impl Clocks {
    pub(super) fn new(limit: Option<Duration>, permits: usize) -> Self {
        let limit = limit.map(|limit| u64::try_from(limit.as_nanos()).unwrap_or(TOLD));
        Self {
            limit,
            permits,
            clocks: Mutex::default(),
        }
    }

    /// This thread will make calls.
    pub(super) fn join(&self) {
        if self.limit.is_some() {
            let clock = Arc::new(Clock::default());
            self.lock().push(Arc::clone(&clock));
            // The first time is the only one.
            MINE.with(|mine| drop(mine.set(clock)));
        }
    }

    /// How long the kernel may be waited for at time `now`: until a call may hang.
    pub(super) fn left(&self, now: u64) -> Option<Duration> {
        let limit = self.limit?;
        let clocks = self.lock();
        let left = clocks.iter().filter_map(|clock| {
            match clock.0.load(Ordering::Relaxed) {
                NONE => None,
                // It goes on without a word.
                WAITS | TOLD => Some(limit),
                since => Some(since.saturating_add(limit).saturating_sub(now)),
            }
        });
        left.min().map(Duration::from_nanos)
    }

    /// Which calls are found to hang at time `now`.
    pub(super) fn hung(&self, now: u64) -> Hung {
        let Some(limit) = self.limit else {
            return Hung::default();
        };
        let (mut new, mut known) = (0, 0);
        for clock in &*self.lock() {
            match clock.0.load(Ordering::Relaxed) {
                NONE | WAITS => {}
                TOLD => known += 1,
                since if now.saturating_sub(since) >= limit && clock.turn(since, TOLD) => new += 1,
                _ => {}
            }
        }
        let all = new + known >= self.permits;
        Hung { new, all }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Clock>>> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hung {
    /// How many calls hang that did not before.
    pub(super) new: usize,
    /// Whether with these no other call can be made.
    pub(super) all: bool,
}

impl Clock {
    /// `false` if it has moved meanwhile.
    fn turn(&self, before: u64, after: u64) -> bool {
        self.0
            .compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

/// For a call that lasts for as long as its client wants.
#[derive(Debug)]
pub struct Patience(Option<Arc<Clock>>);

impl Patience {
    /// The call does not hang, until it has something to do with its request again or ends. From any
    /// thread, while the call is made.
    pub fn take(&self) {
        if let Some(clock) = &self.0 {
            clock.0.store(WAITS, Ordering::Relaxed);
        }
    }
}

/// That of the call of this thread.
pub(super) fn patience() -> Patience {
    Patience(MINE.with(|mine| mine.get().cloned()))
}

/// The call of this thread begins, or moves on, at time `now`.
pub(super) fn moves(now: u64) {
    set(now.clamp(NONE + 1, TOLD - 1));
}

/// This thread makes no call, and will not make one before it says so.
pub(super) fn ends() {
    set(NONE);
}

/// The call of this thread waits for its client.
pub(super) fn waits() {
    set(WAITS);
}

fn set(time: u64) {
    MINE.with(|mine| {
        if let Some(clock) = mine.get() {
            clock.0.store(time, Ordering::Relaxed);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_nanos(100);

    fn clocks(limit: Option<Duration>) -> Clocks {
        let clocks = Clocks::new(limit, 1);
        clocks.join();
        clocks
    }

    fn count_hung(clocks: &Clocks, now: u64) -> usize {
        clocks.hung(now).new
    }

    #[test]
    fn a_call_hangs_when_it_has_not_moved_for_so_long_and_it_is_told_once() {
        let clocks = clocks(Some(LIMIT));
        assert_eq!((clocks.left(1), count_hung(&clocks, 1)), (None, 0));
        moves(10);
        assert_eq!(clocks.left(30), Some(Duration::from_nanos(80)));
        moves(50);
        assert_eq!((count_hung(&clocks, 149), count_hung(&clocks, 150)), (0, 1));
        assert_eq!(
            (clocks.left(151), count_hung(&clocks, 400)),
            (Some(LIMIT), 0)
        );
        ends();
        assert_eq!((clocks.left(400), count_hung(&clocks, 400)), (None, 0));
    }

    #[test]
    fn a_call_that_waits_for_its_client_does_not_hang_but_is_looked_at_again() {
        let clocks = clocks(Some(LIMIT));
        moves(1);
        waits();
        assert_eq!(
            (clocks.left(900), count_hung(&clocks, 900)),
            (Some(LIMIT), 0)
        );
        moves(1000);
        assert_eq!(count_hung(&clocks, 1100), 1);
    }

    #[test]
    fn all_hang_when_as_many_do_as_may_run_at_once() {
        let clocks = Clocks::new(Some(LIMIT), 2);
        let calls = |first: u64, second: u64| {
            let of = [first, second].map(|time| Arc::new(Clock(AtomicU64::new(time))));
            *clocks.lock() = of.to_vec();
        };
        calls(1, 60);
        assert_eq!(clocks.hung(120), Hung { new: 1, all: false });
        assert_eq!(clocks.hung(160), Hung { new: 1, all: true });
        calls(1, NONE);
        assert_eq!(clocks.hung(120), Hung { new: 1, all: false });
        assert_eq!(clocks.hung(500), Hung::default(), "the other one has ended");
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_look_at() {
        let clocks = clocks(None);
        moves(1);
        assert_eq!((clocks.left(900), count_hung(&clocks, 900)), (None, 0));
    }
}
