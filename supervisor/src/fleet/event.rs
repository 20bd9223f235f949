//! What happens to the fleet.

use std::fmt;

use worker_api::message::Report;

use super::policy::Policy;

/// One worker process, from its spawn to its reaping; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);

/// Which configuration a worker runs by; goes up at each reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Something that happened, told to [`Fleet::handle`](super::Fleet::handle).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The master is up: boot.
    Started,
    /// SIGTERM: turn unhealthy, go on serving, drain, exit.
    Terminate,
    /// SIGINT: drain at once; the second one aborts.
    Interrupt,
    /// SIGQUIT: abort.
    Quit,
    /// A new configuration was read and holds: roll it out.
    Reload {
        /// The number of the new generation; higher than any before.
        generation: Generation,
        /// What the new generation is run by.
        policy: Box<Policy>,
    },
    /// A new configuration was asked for and is no good.
    ReloadRefused {
        /// What is wrong with it.
        reason: String,
    },
    /// SIGTTIN: one worker more.
    ScaleOut,
    /// SIGTTOU: one worker fewer.
    ScaleIn,
    /// SIGWINCH: retire every worker, keep the master.
    RetireAll,
    /// An ordered worker could not be started.
    SpawnFailed {
        /// The worker.
        worker: WorkerId,
        /// What went wrong.
        failure: SpawnFailure,
    },
    /// A worker said something.
    Reported {
        /// The worker.
        worker: WorkerId,
        /// Which way it came.
        carrier: Carrier,
        /// What it said.
        report: Report,
    },
    /// A worker is dead and reaped.
    Exited {
        /// The worker.
        worker: WorkerId,
        /// How it ended.
        death: Death,
    },
    /// The resident memory of a worker, as asked for by `Action::MeasureMemory`.
    Memory {
        /// The worker.
        worker: WorkerId,
        /// Resident bytes.
        bytes: u64,
    },
    /// What the pod has answered so far, as asked for by `Action::MeasureTraffic`.
    Traffic {
        /// Requests other than refused probes.
        served: u64,
        /// Health questions that were answered "unhealthy".
        refused: u64,
    },
    /// Nothing happened, but a deadline may be due.
    Tick,
}

/// The way a report came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// `NOTIFY_SOCKET`.
    Notify,
    /// The control channel.
    Control,
}

/// Why a worker could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpawnFailure {
    /// The app is not there, or cannot be executed: trying again is useless.
    App(String),
    /// What it is to be run by does not hold, a hook for instance: trying again is useless.
    Config(String),
    /// The system would not: no memory, no process left, no descriptor left.
    System(String),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It exited with this status.
    Exited(i32),
    /// A signal killed it.
    Killed {
        /// The signal's number.
        signal: i32,
        /// It left a core.
        core: bool,
        /// The kernel killed it because the cgroup was out of memory.
        oom: bool,
    },
}

impl Death {
    /// The signals that programs are told to stop by, and may die of when they
    /// have stopped: HUP, INT, QUIT, USR1, USR2, ALRM, TERM, WINCH (signal(7)).
    const POLITE: [i32; 8] = [1, 2, 3, 10, 12, 14, 15, 28];

    /// Whether the process was torn from its work: by a crash, by a kill.
    #[must_use]
    pub fn is_violent(self) -> bool {
        matches!(self, Death::Killed { signal, .. } if !Self::POLITE.contains(&signal))
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Death::Exited(status) => write!(f, "exit status {status}"),
            Death::Killed { oom: true, .. } => f.write_str("out of memory"),
            Death::Killed { signal, .. } => write!(f, "killed by signal {signal}"),
        }
    }
}
