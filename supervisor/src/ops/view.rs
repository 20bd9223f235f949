//! What the master shows of itself: the snapshot behind `/livez`, `/readyz`, `/status` and `/metrics`.
//!
//! `/status` is [`View`] as JSON, indented, in the order of the fields below. Every duration is a
//! decimal number of seconds (to the millisecond) in a field that ends in `_seconds`; what is
//! unknown is `null`, never left out:
//!
//! ```json
//! {
//!   "phase": "ready",
//!   "live": true,
//!   "ready": true,
//!   "generation": 2,
//!   "target": 1,
//!   "ready_workers": 1,
//!   "uptime_seconds": 61.5,
//!   "last_reload": { "generation": 2, "outcome": "done", "reason": null, "age_seconds": 4.25 },
//!   "hosts": [
//!     { "pid": 4700, "generation": 2, "state": "ready", "age_seconds": 4.5, "rss_bytes": 10485760 }
//!   ],
//!   "workers": [
//!     {
//!       "slot": 0, "pid": 4711, "generation": 2, "level": "native", "state": "ready",
//!       "healthy": true, "in_flight": 1, "connections": 3, "requests": 120,
//!       "responses": { "1xx": 0, "2xx": 117, "3xx": 0, "4xx": 2, "5xx": 0 },
//!       "refused": 0, "aborted": 0, "received_bytes": 14400, "sent_bytes": 15640,
//!       "oldest_requests": [{ "method": "GET", "path": "/report", "age_seconds": 0.7 }],
//!       "age_seconds": 4.1, "restarts": 0, "status": null, "rss_bytes": 9437184
//!     }
//!   ]
//! }
//! ```

use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use worker_api::Latency;

/// The classes of an HTTP status, in the order of every `responses` array.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// How much of a [`View`] an answer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// All but what has to be read of each process.
    Counts,
    /// The memory of each process as well.
    Memory,
}

/// One moment of the pod, as the ops listener tells it.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// The phase of the pod: `boot`, `ready`, `lameduck`, `drain`, `force` or `exit`.
    pub phase: &'static str,
    /// What `/livez` says: the master works and nothing is being forced.
    pub live: bool,
    /// What `/readyz` says: new traffic is welcome.
    pub ready: bool,
    /// The generation that new workers are started in; goes up at each reload.
    pub generation: u64,
    /// How many workers there should be.
    pub target: usize,
    /// How many workers are Ready.
    pub ready_workers: usize,
    /// Time since the master started.
    #[serde(rename = "uptime_seconds", serialize_with = "seconds")]
    pub uptime: Duration,
    /// The reload that runs, or else the last one that ended; none if there was none yet.
    pub last_reload: Option<ReloadView>,
    /// Every host of a Python app that is not reaped yet.
    pub hosts: Vec<HostView>,
    /// Every worker that is not reaped yet.
    pub workers: Vec<WorkerView>,
}

/// One host: the fork server of a generation.
#[derive(Clone, Debug, Serialize)]
pub struct HostView {
    /// Its process id.
    pub pid: u32,
    /// The generation whose workers it forks.
    pub generation: u64,
    /// `booting`, `ready`, `leaving` or `killed`.
    pub state: &'static str,
    /// Time since it was started.
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    pub age: Duration,
    /// Resident memory in bytes, if it was asked for and could be read.
    pub rss_bytes: Option<u64>,
}

/// How the latest reload went.
#[derive(Clone, Debug, Serialize)]
pub struct ReloadView {
    /// The generation that it was to bring up.
    pub generation: u64,
    /// `in_progress`, `done`, `refused` (the new config is wrong), `rolled_back`, or `abandoned` (the
    /// pod was told to stop, or another reload came, meanwhile).
    pub outcome: &'static str,
    /// Why it was refused or rolled back.
    pub reason: Option<String>,
    /// Time since it began.
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    pub age: Duration,
}

/// One worker. The counts come from its row in the scoreboard, so they are what it says of itself
/// (and zero for a worker that is not native).
#[derive(Clone, Debug, Serialize)]
pub struct WorkerView {
    /// Its place in the fleet, kept by its replacement.
    pub slot: usize,
    /// Its process id.
    pub pid: u32,
    /// The generation it was started in.
    pub generation: u64,
    /// `plain`, `notify` or `native`.
    pub level: &'static str,
    /// `booting`, `ready`, `retiring`, `draining`, `drained`, `aborting` or `killed`.
    pub state: &'static str,
    /// Whether its own health answers well.
    pub healthy: bool,
    /// Requests that run now.
    pub in_flight: u64,
    /// Connections that are open now.
    pub connections: u64,
    /// Requests since it started.
    pub requests: u64,
    /// Responses since it started, by class: 1xx, 2xx, 3xx, 4xx, 5xx.
    #[serde(serialize_with = "by_class")]
    pub responses: [u64; 5],
    /// What it refused ahead of the app since it started.
    pub refused: u64,
    /// Requests that it had to abort since it started.
    pub aborted: u64,
    /// Bytes that it has read from clients.
    pub received_bytes: u64,
    /// Bytes that it has written to clients.
    pub sent_bytes: u64,
    /// How long its answered requests took; in `/metrics` alone.
    #[serde(skip)]
    pub latency: Latency,
    /// Lines of the access log that it could not write; in `/metrics` alone.
    #[serde(skip)]
    pub log_lines_dropped: u64,
    /// The requests that run for longest, at most a few, the oldest first.
    pub oldest_requests: Vec<RequestView>,
    /// Time since it was started.
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    pub age: Duration,
    /// How often this slot's worker was replaced after a crash.
    pub restarts: u32,
    /// The last `STATUS=` that it sent.
    pub status: Option<String>,
    /// Resident memory in bytes, if it was asked for and could be read.
    pub rss_bytes: Option<u64>,
}

/// A request that a worker runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestView {
    /// Its method.
    pub method: String,
    /// The beginning of its path, never its query.
    pub path: String,
    /// Time since it began.
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    pub age: Duration,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_millis() as f64 / 1000.0)
}

fn by_class<S: Serializer>(responses: &[u64; 5], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(CLASSES.len()))?;
    for (class, count) in CLASSES.iter().zip(responses) {
        map.serialize_entry(class, count)?;
    }
    map.end()
}
