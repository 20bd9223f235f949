//! The threads that do not hold the baton and run no call: all rest but one, which watches.

use std::time::Duration;

use super::handover::{Baton, Look, Sight};
use super::sync::{AtomicU32, Condvar, Mutex, MutexGuard, Ordering, PoisonError, wait_for};

/// A call that has lasted so long goes on without the baton.
const LONG: Duration = Duration::from_millis(1);
/// So often somebody looks whether there is one, while calls come and go.
const ROUND: Duration = Duration::from_millis(2);
/// Nobody looks sooner than this.
const SOON: Duration = Duration::from_micros(50);

pub(crate) struct Crew {
    seats: Mutex<Seats>,
    /// For those that rest.
    summoned: Condvar,
    /// For the one that watches.
    poked: Condvar,
    /// 1 while the only thread that makes calls wants the baton back.
    claimed: AtomicU32,
    /// For that one.
    given: Condvar,
    limit: usize,
}

struct Seats {
    /// Watchers that were asked for and are not there yet; at most one.
    summons: usize,
    resting: usize,
    threads: usize,
    /// A call is about to wait for something that only the holder of the baton can bring.
    urgent: bool,
    /// Who has claimed the baton holds it.
    has_it: bool,
    over: bool,
}

impl Crew {
    /// At most `limit` threads, two or more; the caller starts the first two.
    pub(crate) fn new(limit: usize) -> Self {
        let seats = Seats {
            summons: 0,
            resting: 0,
            threads: 2,
            urgent: false,
            has_it: false,
            over: false,
        };
        Self {
            seats: Mutex::new(seats),
            summoned: Condvar::new(),
            poked: Condvar::new(),
            claimed: AtomicU32::new(0),
            given: Condvar::new(),
            limit,
        }
    }

    /// Asks for a watcher. `true` if the caller has to start a thread for it. Where all threads
    /// that may be are there and none rests, one is on its way back from a call.
    #[must_use]
    pub(crate) fn summon(&self) -> bool {
        let mut seats = self.lock();
        seats.summons += 1;
        if seats.resting >= seats.summons {
            self.summoned.notify_one();
        } else if seats.threads < self.limit {
            seats.threads += 1;
            return true;
        }
        false
    }

    /// The thread that [`summon`](Self::summon) asked for could not be started.
    pub(crate) fn not_started(&self, baton: &Baton) {
        let mut seats = self.lock();
        seats.threads -= 1;
        seats.summons -= 1;
        baton.unwatch();
    }

    /// Has the baton taken at once if it is free: a call is about to wait for its holder.
    pub(crate) fn poke(&self, baton: &Baton) {
        if baton.is_free() {
            self.lock().urgent = true;
            self.poked.notify_one();
        }
    }

    /// Rests and watches until the baton is this thread's. `false` when all is over. `age` tells for
    /// how long a call has run, if one does.
    pub(crate) fn wait_for_baton(&self, baton: &Baton, age: impl Fn() -> Duration) -> bool {
        let mut seats = self.lock();
        loop {
            seats.resting += 1;
            while seats.summons == 0 && !seats.over {
                seats = self
                    .summoned
                    .wait(seats)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            seats.resting -= 1;
            if seats.over {
                return false;
            }
            seats.summons -= 1;
            let mut sight = Sight::none();
            loop {
                let look = match std::mem::take(&mut seats.urgent) {
                    true => baton.seize(),
                    false => baton.look(&mut sight, || age() >= LONG),
                };
                let time = match look {
                    Look::Took => return true,
                    Look::Rest => break,
                    Look::Again { calling: true } => LONG.saturating_sub(age()).max(SOON),
                    Look::Again { calling: false } => ROUND,
                };
                seats = wait_for(&self.poked, &self.seats, seats, time);
                if seats.over {
                    return false;
                }
            }
        }
    }

    /// Waits until the holder of the baton, who does nothing but watch and hold, has given it to this
    /// thread; `wake` ends its wait for the kernel. `false` when all is over.
    pub(crate) fn claim(&self, wake: impl FnOnce()) -> bool {
        self.claimed.store(1, Ordering::Release);
        wake();
        let mut seats = self.lock();
        while !seats.has_it && !seats.over {
            seats = self
                .given
                .wait(seats)
                .unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut seats.has_it)
    }

    /// Whether the holder of the baton is to give it to somebody.
    pub(crate) fn is_claimed(&self) -> bool {
        self.claimed.load(Ordering::Acquire) != 0
    }

    /// The holder gives the baton to whoever has claimed it.
    pub(crate) fn give(&self) {
        self.claimed.store(0, Ordering::Relaxed);
        self.lock().has_it = true;
        self.given.notify_one();
    }

    /// Sends all threads home.
    pub(crate) fn end(&self) {
        self.lock().over = true;
        self.summoned.notify_all();
        self.poked.notify_all();
        self.given.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
