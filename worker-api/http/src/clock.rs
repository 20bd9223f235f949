//! What time it is, for accounts that need not be more exact than a turn of the driver's loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use worker_api::scoreboard::monotonic_now;

/// Of what requests began and ended. A clone is another look at the same clock.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// The kernel's, asked each time.
    Kernel,
    /// When the driver last asked it, see [`Hand`].
    Turn(Hand),
}

/// A driver's own clock: it stands still until it is [set](Self::set).
#[derive(Clone, Debug)]
pub(crate) struct Hand(Arc<AtomicU64>);

impl Clock {
    /// The time on the clock of [`monotonic_now`].
    pub(crate) fn now(&self) -> Duration {
        match self {
            Self::Kernel => monotonic_now(),
            Self::Turn(hand) => Duration::from_nanos(hand.nanos()),
        }
    }
}

impl Hand {
    /// It shows the time of now.
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(kernel_nanos())))
    }

    /// Asks the kernel what time it is, in nanoseconds on the clock of [`monotonic_now`].
    pub(crate) fn set(&self) -> u64 {
        let now = kernel_nanos();
        // Threads meet here: the time does not go back.
        self.0.fetch_max(now, Ordering::Relaxed);
        now
    }

    /// How long ago somebody last asked.
    pub(crate) fn age(&self) -> Duration {
        Duration::from_nanos(kernel_nanos().saturating_sub(self.nanos()))
    }

    /// What it was when somebody last asked.
    pub(crate) fn nanos(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn kernel_nanos() -> u64 {
    u64::try_from(monotonic_now().as_nanos()).unwrap_or(u64::MAX)
}
