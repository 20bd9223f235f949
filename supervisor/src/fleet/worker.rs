//! The master's view of one worker.

use std::time::Duration;

use super::action::Cause;
use super::event::{Generation, WorkerId};
use super::moment::Moment;
use super::policy::Level;
use super::respawn::Lineage;

/// A worker, from the order to start it until it is reaped.
#[derive(Debug, Clone)]
pub struct Worker {
    pub(super) id: WorkerId,
    pub(super) slot: usize,
    pub(super) generation: Generation,
    pub(super) level: Level,
    /// Its level is learnt from what it says.
    pub(super) learns: bool,
    pub(super) state: State,
    pub(super) spawned: Moment,
    pub(super) ready_at: Option<Moment>,
    /// Why it was told to leave, and when.
    pub(super) leaving: Option<(Cause, Moment)>,
    /// It is to be replaced, and serves until its replacement is Ready.
    pub(super) recycle: Option<Cause>,
    pub(super) lineage: Lineage,
    /// It reports when it has served so many requests; 0 is never.
    pub(super) max_requests: u64,
    /// It said `HELLO=1`: its handlers are in place.
    pub(super) greeted: bool,
    /// It asked not to be replaced.
    pub(super) fatal: bool,
    /// What it was started with: it must send `WATCHDOG=1` within so long.
    pub(super) hang_timeout: Option<Duration>,
    /// When the next `WATCHDOG=1` is due, once there was a first.
    pub(super) watchdog: Option<Moment>,
    /// It takes SIGTERM as "mark unhealthy".
    pub(super) term_immediately: bool,
    pub(super) status: Option<String>,
    /// It has not said `UNHEALTHY=1` since it said `READY=1`.
    pub(super) healthy: bool,
    /// When it got Ready, or healthy again after that.
    pub(super) healthy_at: Option<Moment>,
    /// When it turned unhealthy for the first time, until nobody waits for it any more.
    pub(super) sick_since: Option<Moment>,
}

/// What is awaited of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// To get Ready, before `give_up`.
    Booting { give_up: Moment },
    /// Nothing: it serves.
    Ready,
    /// To report drained, or to exit, before `force_at`.
    Leaving { force_at: Moment },
    /// To exit, before `force_at`; it has nothing in flight any more.
    Drained { force_at: Moment },
    /// To tell what it aborted and exit, before `kill_at`.
    Aborting { kill_at: Moment },
    /// To be reaped: it was killed.
    Killed,
}

impl Worker {
    /// Its identity.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// Its row in the scoreboard.
    #[must_use]
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// The configuration it runs by.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What it can say and be told, as far as it has shown.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// When it was ordered.
    #[must_use]
    pub fn spawned(&self) -> Moment {
        self.spawned
    }

    /// Its own last words about itself (`STATUS=`).
    #[must_use]
    pub fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    /// Whether its last word about its health was a good one.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// Whether it is Ready, and says that it is well.
    pub(super) fn is_fit(&self) -> bool {
        self.is_ready() && self.healthy
    }

    /// How many workers died in its place before it, one after the other.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.lineage.restarts
    }

    /// It was told to go, or killed.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        !matches!(self.state, State::Booting { .. } | State::Ready)
    }

    /// It serves, and was not told to go.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// The name of its state, as logs, metrics and `/status` show it.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match (self.state, self.leaving) {
            (State::Booting { .. }, _) => "booting",
            (State::Ready, _) => "ready",
            (State::Leaving { .. }, Some((Cause::Shutdown, _))) => "draining",
            (State::Leaving { .. }, _) => "retiring",
            (State::Drained { .. }, _) => "drained",
            (State::Aborting { .. }, _) => "aborting",
            (State::Killed, _) => "killed",
        }
    }

    pub(super) fn is_booting(&self) -> bool {
        matches!(self.state, State::Booting { .. })
    }

    /// How long it has been Ready, or was until now.
    pub(super) fn ready_for(&self, now: Moment) -> Option<Duration> {
        self.ready_at.map(|since| now - since)
    }

    /// The next moment at which something about this worker is due by itself.
    pub(super) fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Booting { give_up } => Some(give_up),
            State::Ready => self.watchdog,
            State::Leaving { force_at } | State::Drained { force_at } => Some(force_at),
            State::Aborting { kill_at } => Some(kill_at),
            State::Killed => None,
        }
    }
}
