//! Typed settings: what a user wrote, made valid at the edge.
//!
//! [`load`] lays flags over environment over file over defaults and gives a
//! [`Loaded`] whose [`Config`] holds no value that the rest of the program has
//! to doubt, or all [`Problems`] at once. Each setting is declared once, in
//! `settings.rs`; parsing, errors, help, reference and template come from there.

mod app;
mod bind;
mod checks;
mod choice;
mod draft;
mod environment;
mod field;
mod file;
mod load;
mod origin;
mod owner;
mod print;
mod problem;
mod python;
mod raw;
#[cfg(test)]
mod reference;
mod script;
pub(crate) mod settings;
mod shutdown;
mod suggest;
#[cfg(test)]
mod tests;
mod toml_text;
mod units;
mod uvicorn;
pub(crate) mod visible;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use worker_api::AllowedIps;

pub use app::find_program;
pub use bind::BindAddress;
pub use choice::{Level, LogFormat, LogLevel, StopSignal};
pub use environment::environment;
pub use load::{Flag, GunicornArgs, Loaded, Sources, load};
pub use origin::Origin;
pub use owner::Owner;
pub use problem::{Problem, Problems};
pub use python::{
    Evaluated, Interface, Lifespan, Loop, Unevaluated, find_interpreter, run_module, search_path,
    unevaluated,
};
pub use script::Script;
pub(crate) use units::format_duration;
pub(crate) use visible::visible_lines;

/// Every setting, valid by itself and together with the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What the workers run.
    pub app: App,
    /// Where clients connect.
    pub listen: Listen,
    /// How many workers, and what they owe the master.
    pub workers: Workers,
    /// How long each part of a shutdown may last.
    pub shutdown: Shutdown,
    /// How a new generation replaces the old one.
    pub reload: Reload,
    /// What probes ask, and where.
    pub health: Health,
    /// What native workers do with HTTP connections.
    pub http: Http,
    /// Where and how the master logs.
    pub log: Log,
    /// Where the master writes its pid; relative to where it was started.
    pub pidfile: Option<PathBuf>,
    /// How the app is hosted, if it is a Python app.
    pub python: Option<Python>,
    /// What workers may do.
    pub security: Security,
}

/// The program that every worker executes.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// A path (relative to `chdir`), or a name to look up in `PATH`; of a Python
    /// app `module:attribute`. Empty only where [`Sources::app_optional`] allowed it.
    pub program: String,
    /// Arguments, with `{fd}`, `{port}` and `{worker}` not replaced yet.
    pub args: Vec<String>,
    /// Working directory of the workers: absolute, and there when it was loaded.
    pub chdir: PathBuf,
    /// Variables added to the environment of the workers.
    pub env: BTreeMap<String, String>,
}

/// The sockets that the master binds.
#[derive(Debug, Clone, PartialEq)]
pub struct Listen {
    /// Addresses without duplicates, at least one, in the order given.
    pub bind: Vec<BindAddress>,
    /// Length of the kernel's queue of connections not accepted yet.
    pub backlog: u32,
}

/// The fleet of workers.
#[derive(Debug, Clone, PartialEq)]
pub struct Workers {
    /// How many workers run.
    pub count: WorkerCount,
    /// The pod is ready from so many Ready workers on; 1 or more, at most `count`.
    pub min_ready: usize,
    /// App calls at once in one worker; 1 or more.
    pub threads: usize,
    /// How a worker tells that it is Ready and drained.
    pub level: Level,
    /// A plain worker counts as Ready when it has lived so long.
    pub ready_after: Duration,
    /// What tells a plain or notify worker to stop.
    pub stop_signal: StopSignal,
    /// Send SIGTERM when lameduck begins and `stop_signal` at drain.
    pub term_immediately: bool,
    /// A worker that is not Ready after so long is given up.
    pub boot_timeout: Duration,
    /// A worker that shows no life for so long is killed; `None` = never.
    pub hang_timeout: Option<Duration>,
    /// A worker is recycled after so many requests; `None` = never.
    pub max_requests: Option<NonZeroU64>,
    /// Up to so many requests more, drawn for each worker.
    pub max_requests_jitter: u64,
    /// A worker is recycled when it has lived so long; `None` = never.
    pub max_lifetime: Option<Duration>,
    /// A worker is recycled above so many bytes resident; `None` = never.
    pub max_rss: Option<u64>,
    /// A Python app is imported once, by the host that forks the workers.
    pub preload: bool,
    /// What happens when workers die.
    pub restart: Restart,
}

/// How many workers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerCount {
    /// As many as the CPU quota of the cgroup allows.
    Auto,
    /// So many: 1 to 512.
    Fixed(usize),
}

/// How dead workers are replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct Restart {
    /// Wait before the second replacement in a row; doubles from then on.
    pub backoff: Duration,
    /// The wait grows no longer than this; at least `backoff`.
    pub backoff_max: Duration,
    /// So many failures in a row before the first Ready end the start; 1 or more.
    pub crash_limit: u32,
}

/// The time budget of a shutdown.
///
/// `lameduck + drain_timeout + kill_margin <= grace_period` always holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Shutdown {
    /// When whoever sent SIGTERM follows up with SIGKILL.
    pub grace_period: Duration,
    /// How long the pod says unhealthy and still serves ("auto" is resolved).
    pub lameduck: Duration,
    /// Quiet time that ends lameduck early; `None` = off.
    pub lameduck_quiet: Option<Duration>,
    /// How long after SIGTERM the pod still says healthy.
    pub unready_delay: Duration,
    /// How long requests in flight may take once the pod drains.
    pub drain_timeout: Duration,
    /// Time kept back to force and reap what is left before the SIGKILL.
    pub kill_margin: Duration,
    /// What the readiness probe is set to, when it was told.
    pub probe: Option<Probe>,
}

/// The numbers of the cluster's readiness probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Time from one probe to the next (`periodSeconds`).
    pub period: Duration,
    /// Failures in a row until traffic stops (`failureThreshold`); 1 or more.
    pub failure_threshold: u32,
    /// How long one probe waits for its answer (`timeoutSeconds`).
    pub timeout: Duration,
}

/// How a new generation replaces the old one.
#[derive(Debug, Clone, PartialEq)]
pub struct Reload {
    /// How many new workers boot at once; 1 or more.
    pub surge: usize,
}

/// What probes ask, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// The ops listener; `None` = off.
    pub listen: Option<SocketAddr>,
    /// Path that native workers answer before the app; `None` = off.
    pub path: Option<String>,
    /// Status of an unhealthy answer: 400 to 599.
    pub unhealthy_status: u16,
}

/// What native workers do with HTTP connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// How long a request's head may take to arrive.
    pub header_timeout: Duration,
    /// How long a request's body may stand still; `None` = for ever.
    pub body_timeout: Option<Duration>,
    /// How long a response may wait for room to be written; `None` = for ever.
    pub write_timeout: Option<Duration>,
    /// A worker with so many connections accepts no more; 1 or more.
    pub max_connections: usize,
    /// Bytes of a request's first line; 0 = as many as can be.
    pub limit_request_line: usize,
    /// Fields of a request's head; 0 = as many as can be.
    pub limit_request_fields: usize,
    /// Bytes of one field; 0 = the default.
    pub limit_request_field_size: usize,
    /// Bytes of a request's body; `None` = without limit.
    pub max_body: Option<u64>,
    /// Proxies whose word about clients is taken.
    pub forwarded_allow_ips: AllowedIps,
    /// Balancers whose PROXY headers are believed.
    pub proxy_allow_ips: AllowedIps,
    /// Whether connections may begin with a PROXY header.
    pub proxy_protocol: bool,
}

/// The master's own log, and the workers' of requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// Events of this level and above.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
    /// Where lines go.
    pub file: LogFile,
    /// Where native workers log requests.
    pub access: AccessLog,
    /// How a logged request looks.
    pub access_format: AccessFormat,
}

/// How a Python app is hosted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    /// The interpreter: a path (relative to `chdir`), or a name to look up.
    pub executable: PathBuf,
    /// What the app is called by.
    pub interface: Interface,
    /// The event loop of an ASGI app.
    pub event_loop: Loop,
    /// Whether an ASGI app is told of its start and end.
    pub lifespan: Lifespan,
    /// Where an ASGI app is mounted.
    pub root_path: Option<String>,
    /// Bytes of a WebSocket's longest message; 0: any number.
    pub ws_max_message_size: u64,
    /// After so much silence a WebSocket's peer is asked whether it is there; zero: never.
    pub ws_ping_interval: Duration,
    /// So long a WebSocket's peer has to say good-bye.
    pub ws_close_grace: Duration,
    /// Folders to import from, before all others; they begin at `chdir`.
    pub path: Vec<PathBuf>,
    /// The gunicorn config file.
    pub config: Option<Script>,
}

/// What workers may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// Who they run as; `None`: as the master does.
    pub owner: Option<Owner>,
    /// File mode bits that they never set; `None` leaves the master's.
    pub umask: Option<u32>,
}

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFile {
    /// Standard error, written "-".
    Stderr,
    /// A file, appended to and reopened on SIGUSR1.
    Path(PathBuf),
}

/// Where requests are logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output of the workers, written "-".
    Stdout,
    /// A file, appended to and reopened on SIGUSR1; relative to where the master was started.
    Path(PathBuf),
}

/// A format of the access log that every worker understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessFormat(pub(crate) String);

impl AccessFormat {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
