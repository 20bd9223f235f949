//! The numbers that the core decides by.

use std::num::NonZeroU64;
use std::time::Duration;

/// How much a worker can say and be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Signals only.
    Plain,
    /// Speaks `sd_notify`.
    Notify,
    /// Speaks the control channel and keeps a row of the scoreboard.
    Native,
}

impl Level {
    /// The level's name, as logs, metrics and `/status` show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Level::Plain => "plain",
            Level::Notify => "notify",
            Level::Native => "native",
        }
    }
}

/// All that one generation of workers is run by. A reload brings a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Workers to keep.
    pub count: usize,
    /// Ready workers that make the pod ready.
    pub min_ready: usize,
    /// The level of the workers; `None` learns it from what they say.
    pub level: Option<Level>,
    /// A plain worker counts as Ready when it has lived so long; a new
    /// generation is trusted when its first Ready worker has.
    pub ready_after: Duration,
    /// A worker must be Ready within so long.
    pub boot_timeout: Duration,
    /// A worker that has sent `WATCHDOG=1` must go on doing so within so long.
    pub hang_timeout: Option<Duration>,
    /// Plain and notify workers take SIGTERM as "mark unhealthy".
    pub term_immediately: bool,
    /// What makes a worker be replaced in its old age.
    pub recycle: Recycle,
    /// How crashes are answered.
    pub restart: Restart,
    /// How the pod goes down.
    pub shutdown: Shutdown,
    /// Replacements that may boot at once during a reload.
    pub surge: usize,
    /// How long a retired native worker keeps idle connections that could not be told yet.
    pub retire_bound: Duration,
}

/// Limits on a worker's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recycle {
    /// Requests, as counted by native workers.
    pub max_requests: Option<NonZeroU64>,
    /// Up to so many are added to `max_requests`, by chance, a worker.
    pub max_requests_jitter: u64,
    /// Age since Ready.
    pub max_lifetime: Option<Duration>,
    /// Resident memory in bytes.
    pub max_rss: Option<u64>,
}

/// How crashes are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// Wait before the second replacement in a row; it doubles from there.
    pub backoff: Duration,
    /// The longest wait; who is Ready for longer has a clean record again.
    pub backoff_max: Duration,
    /// Failed boots in a row that end a start.
    pub crash_limit: u32,
}

/// The lengths of the phases of a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// Unhealthy, and serving.
    pub lameduck: Duration,
    /// Lameduck ends early after so long with nothing but refused probes.
    pub lameduck_quiet: Option<Duration>,
    /// Refused probes that lameduck must have seen before it may end early.
    pub failure_threshold: u32,
    /// Health turns only so long after SIGTERM.
    pub unready_delay: Duration,
    /// Time for in-flight work.
    pub drain_timeout: Duration,
    /// What is left of the grace period for aborting and reaping.
    pub kill_margin: Duration,
}

impl Shutdown {
    /// How long a worker that was told to abort may take to count and tell
    /// what it aborted, before it is killed.
    #[must_use]
    pub fn abort_grace(&self) -> Duration {
        (self.kill_margin / 2).min(Duration::from_secs(1))
    }
}
