//! Time as the core sees it: how long the master has run.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time, counted from the start of the master.
///
/// The core never reads a clock; whoever calls it says what time it is, so a
/// simulation can run years in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(Duration);

impl Moment {
    /// The start of the master.
    pub const START: Moment = Moment(Duration::ZERO);

    /// The moment `elapsed` after the start.
    #[must_use]
    pub const fn at(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// How long after the start this is.
    #[must_use]
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, length: Duration) -> Moment {
        Moment(self.0.saturating_add(length))
    }
}

impl Sub<Moment> for Moment {
    type Output = Duration;

    fn sub(self, earlier: Moment) -> Duration {
        self.since(earlier)
    }
}
