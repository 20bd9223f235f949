//! The ops listener's `/status`, as the tests read it.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) phase: String,
    pub(crate) ready: bool,
    pub(crate) generation: u64,
    pub(crate) target: usize,
    pub(crate) ready_workers: usize,
    pub(crate) last_reload: Option<LastReload>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) workers: Vec<Worker>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Host {
    pub(crate) pid: u32,
    pub(crate) generation: u64,
    pub(crate) state: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LastReload {
    pub(crate) generation: u64,
    pub(crate) outcome: String,
    pub(crate) reason: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Worker {
    pub(crate) slot: usize,
    pub(crate) pid: Option<u32>,
    pub(crate) generation: u64,
    pub(crate) level: String,
    pub(crate) state: String,
    pub(crate) healthy: bool,
    pub(crate) in_flight: u64,
    pub(crate) connections: u64,
    pub(crate) requests: u64,
    pub(crate) age_seconds: f64,
    pub(crate) restarts: u64,
    pub(crate) status: Option<String>,
}

impl Status {
    /// The pids of all workers, ready or not, in the order of their slots.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.workers
            .iter()
            .filter_map(|worker| worker.pid)
            .collect()
    }

    /// The pids of the workers that are Ready.
    pub(crate) fn ready_pids(&self) -> Vec<u32> {
        let ready = self.workers.iter().filter(|worker| worker.is("ready"));
        ready.filter_map(|worker| worker.pid).collect()
    }
}

impl Worker {
    /// Whether the worker is in `state`; the case of the word is no promise.
    pub(crate) fn is(&self, state: &str) -> bool {
        self.state.eq_ignore_ascii_case(state)
    }
}
