//! What the core wants done, and what it wants said.

use std::time::Duration;

use worker_api::message::Command;
use worker_api::scoreboard::PodPhase;

use super::event::{Death, Generation, SpawnFailure, WorkerId};
use super::policy::Level;

/// Something to be done, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a worker; answered by `SpawnFailed` when that is not possible.
    Spawn(Order),
    /// Tell a native worker.
    Command {
        /// The worker.
        worker: WorkerId,
        /// What to tell it.
        command: Command,
    },
    /// Signal a worker.
    Signal {
        /// The worker.
        worker: WorkerId,
        /// With what.
        signal: Signal,
    },
    /// Write the phase where every worker reads it.
    SetPhase(PodPhase),
    /// Write the pod's health where every worker reads it.
    SetPodHealthy(bool),
    /// Have the kernel answer nobody who asks for a new connection; who was answered may finish.
    TurnAway,
    /// Close the master's copies of the listening sockets.
    CloseListeners,
    /// Measure the resident memory of each Ready worker; answered by `Memory`.
    MeasureMemory,
    /// Add up what the pod has answered; answered by `Traffic`.
    MeasureTraffic,
    /// Log and count.
    Tell(Notice),
    /// Every worker is gone: exit.
    Exit(ExitStatus),
}

/// A worker to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Its identity.
    pub worker: WorkerId,
    /// Its row in the scoreboard.
    pub slot: usize,
    /// The configuration it runs by.
    pub generation: Generation,
    /// After so many requests a native worker reports that its time has come; 0 is never.
    pub max_requests: u64,
}

/// The signals that the core sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The configured `stop_signal`.
    Stop,
    /// SIGTERM, for the app's own handler.
    Term,
    /// SIGABRT, so that a hung worker can leave a trace.
    Abort,
    /// SIGKILL, to the worker's whole process group.
    Kill,
}

/// The exit status of the master. The numbers 0, 1, 3 and 4 are gunicorn's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// Everything that was begun was finished.
    Clean,
    /// What the app is run by does not hold.
    Config,
    /// A worker could not boot at start.
    WorkerBoot,
    /// The app could not be loaded at start.
    AppLoad,
    /// Work had to be aborted.
    Aborted,
}

impl ExitStatus {
    /// The number for the parent process.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            ExitStatus::Clean => 0,
            ExitStatus::Config => 1,
            ExitStatus::WorkerBoot => 3,
            ExitStatus::AppLoad => 4,
            ExitStatus::Aborted => 5,
        }
    }
}

/// Why a worker leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Its generation was replaced.
    Reload,
    /// Its generation was no good.
    Rollback,
    /// There are more workers than wanted.
    ScaleIn,
    /// It served `max_requests`.
    MaxRequests,
    /// It reached `max_lifetime`.
    MaxLifetime,
    /// It outgrew `max_rss`.
    MaxRss,
    /// The pod goes down.
    Shutdown,
    /// It was not Ready within `boot_timeout`.
    BootTimeout,
    /// It stopped sending `WATCHDOG=1`.
    Hung,
    /// It said by itself that it stops.
    OwnWill,
}

impl Cause {
    /// The cause's name, as logs and metrics show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Reload => "reload",
            Cause::Rollback => "rollback",
            Cause::ScaleIn => "scale_in",
            Cause::MaxRequests => "max_requests",
            Cause::MaxLifetime => "max_lifetime",
            Cause::MaxRss => "max_rss",
            Cause::Shutdown => "shutdown",
            Cause::BootTimeout => "boot_timeout",
            Cause::Hung => "hung",
            Cause::OwnWill => "own_will",
        }
    }
}

/// Something that a person or a metric should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The pod entered a phase.
    PhaseChanged {
        /// The phase.
        phase: PodPhase,
        /// How long it lasts at most, where that is bounded.
        limit: Option<Duration>,
    },
    /// A worker is Ready.
    WorkerReady {
        /// The worker.
        worker: WorkerId,
        /// What it turned out to be.
        level: Level,
        /// From its spawn.
        after: Duration,
    },
    /// A worker was told to leave while the pod lives on.
    WorkerRetired {
        /// The worker.
        worker: WorkerId,
        /// Why.
        cause: Cause,
    },
    /// A worker turned unhealthy, or healthy again, while the pod serves.
    WorkerHealth {
        /// The worker.
        worker: WorkerId,
        /// What it is now.
        healthy: bool,
    },
    /// A worker reported that it has drained.
    WorkerDrained {
        /// The worker.
        worker: WorkerId,
        /// Requests in its whole life.
        served: u64,
        /// Requests that it cut off.
        aborted: u64,
    },
    /// A worker that was told to leave has left.
    WorkerLeft {
        /// The worker.
        worker: WorkerId,
        /// Why it was told.
        cause: Cause,
        /// How it ended.
        death: Death,
        /// From being told to being gone.
        took: Duration,
    },
    /// A worker died that nobody told to.
    WorkerDied {
        /// The worker.
        worker: WorkerId,
        /// How it ended.
        death: Death,
        /// It had been Ready.
        was_ready: bool,
        /// From its spawn.
        age: Duration,
    },
    /// A worker could not be started.
    SpawnFailed {
        /// The worker.
        worker: WorkerId,
        /// Why.
        failure: SpawnFailure,
    },
    /// A dead worker will be replaced.
    Respawn {
        /// Deaths in a row.
        crashes: u32,
        /// From now.
        delay: Duration,
    },
    /// A worker asked not to be replaced.
    Fatal {
        /// The worker.
        worker: WorkerId,
        /// Its words.
        reason: String,
    },
    /// A worker missed a deadline and is being ended by force.
    Forced {
        /// The worker.
        worker: WorkerId,
        /// Why it had to go.
        cause: Cause,
        /// Somebody asked for it: no deadline was missed.
        ordered: bool,
        /// It had said that it was drained, so that nothing is lost.
        drained: bool,
        /// Killed, or first asked to abort.
        kill: bool,
    },
    /// The start is given up.
    StartFailed {
        /// Failed boots in a row.
        failures: u32,
        /// How the master will exit.
        status: ExitStatus,
    },
    /// A rollout began.
    ReloadStarted {
        /// The new generation.
        generation: Generation,
    },
    /// A rollout is complete.
    ReloadDone {
        /// The new generation.
        generation: Generation,
        /// From its beginning.
        took: Duration,
    },
    /// A reload ended before it was done.
    ReloadAbandoned {
        /// The generation that it was to bring up.
        generation: Generation,
        /// What came in between.
        why: &'static str,
    },
    /// A reload was not begun.
    ReloadRefused {
        /// Why.
        reason: String,
    },
    /// The new generation is no good; the old one stays.
    RolledBack {
        /// The generation that failed.
        generation: Generation,
        /// The generation that stays.
        to: Generation,
        /// Why.
        reason: String,
    },
    /// The number of workers to keep was changed.
    TargetChanged {
        /// Workers to keep.
        target: usize,
    },
    /// A request to change the fleet came at a time when it cannot be met.
    Ignored {
        /// What was asked.
        what: &'static str,
        /// Why it is not done.
        why: &'static str,
    },
}
