//! The settings while they are being collected.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use worker_api::AllowedIps;

use super::field::{Automatic, Given, Program};
use super::owner::{GroupId, UserId};
use super::python::{Interface, Lifespan, Loop};
use super::script::Script;
use super::{
    AccessFormat, AccessLog, App, Config, Health, Http, Level, Listen, Log, LogFile, LogFormat,
    LogLevel, Reload, Restart, Security, Shutdown, StopSignal, WorkerCount, Workers,
};

/// A [`Config`] whose values were read one by one and not held against each
/// other yet, beside what has no final form yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Draft {
    /// What needs no further thought.
    pub(crate) config: Config,
    /// The program; still empty when nobody named one.
    pub(crate) app: Program,
    /// Becomes `pidfile`.
    pub(crate) pidfile: Given<PathBuf>,
    /// Becomes `shutdown.lameduck`.
    pub(crate) lameduck: Automatic,
    /// Becomes `shutdown.drain_timeout`.
    pub(crate) drain_timeout: Automatic,
    /// Becomes `shutdown.probe`.
    pub(crate) probe: ProbeDraft,
    /// Becomes `python`, for a Python app.
    pub(crate) python: PythonDraft,
    /// Becomes `security.owner`.
    pub(crate) security: SecurityDraft,
}

/// The keys of `python`, whatever the app turns out to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PythonDraft {
    pub(crate) executable: PathBuf,
    pub(crate) interface: Interface,
    pub(crate) event_loop: Loop,
    pub(crate) lifespan: Lifespan,
    pub(crate) root_path: Option<String>,
    pub(crate) ws_max_message_size: u64,
    pub(crate) ws_ping_interval: Duration,
    pub(crate) ws_close_grace: Duration,
    pub(crate) path: Vec<PathBuf>,
    pub(crate) config: Given<Script>,
}

/// The keys of `security` that say who workers run as.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SecurityDraft {
    pub(crate) user: Given<UserId>,
    pub(crate) group: Given<GroupId>,
    pub(crate) initgroups: bool,
}

/// The keys of `shutdown.probe` that were given.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ProbeDraft {
    pub(crate) period: Given<Duration>,
    pub(crate) failure_threshold: Given<u32>,
    pub(crate) timeout: Given<Duration>,
}

impl Draft {
    /// Nothing read yet: the defaults are declared with the settings, not here.
    pub(crate) fn blank() -> Self {
        Self {
            config: blank_config(),
            app: Program::default(),
            pidfile: Given::default(),
            lameduck: Automatic::default(),
            drain_timeout: Automatic::default(),
            probe: ProbeDraft::default(),
            python: PythonDraft {
                executable: PathBuf::new(),
                interface: Interface::Auto,
                event_loop: Loop::Auto,
                lifespan: Lifespan::Auto,
                root_path: None,
                ws_max_message_size: 0,
                ws_ping_interval: Duration::ZERO,
                ws_close_grace: Duration::ZERO,
                path: Vec::new(),
                config: Given::default(),
            },
            security: SecurityDraft::default(),
        }
    }
}

fn blank_config() -> Config {
    Config {
        app: App {
            program: String::new(),
            args: Vec::new(),
            chdir: PathBuf::new(),
            env: BTreeMap::new(),
        },
        listen: Listen {
            bind: Vec::new(),
            backlog: 0,
        },
        workers: blank_workers(),
        shutdown: Shutdown {
            grace_period: Duration::ZERO,
            lameduck: Duration::ZERO,
            lameduck_quiet: None,
            unready_delay: Duration::ZERO,
            drain_timeout: Duration::ZERO,
            kill_margin: Duration::ZERO,
            probe: None,
        },
        reload: Reload { surge: 0 },
        health: Health {
            listen: None,
            path: None,
            unhealthy_status: 0,
        },
        http: blank_http(),
        log: Log {
            level: LogLevel::Info,
            format: LogFormat::Auto,
            file: LogFile::Stderr,
            access: AccessLog::Off,
            access_format: AccessFormat(String::new()),
        },
        pidfile: None,
        python: None,
        security: Security {
            owner: None,
            umask: None,
        },
    }
}

fn blank_http() -> Http {
    Http {
        keep_alive: Duration::ZERO,
        header_timeout: Duration::ZERO,
        body_timeout: None,
        write_timeout: None,
        max_connections: 0,
        limit_request_line: 0,
        limit_request_fields: 0,
        limit_request_field_size: 0,
        max_body: None,
        forwarded_allow_ips: AllowedIps::default(),
        proxy_allow_ips: AllowedIps::default(),
        proxy_protocol: false,
    }
}

fn blank_workers() -> Workers {
    Workers {
        count: WorkerCount::Auto,
        min_ready: 0,
        threads: 0,
        level: Level::Auto,
        ready_after: Duration::ZERO,
        stop_signal: StopSignal::Term,
        term_immediately: false,
        boot_timeout: Duration::ZERO,
        hang_timeout: None,
        max_requests: None,
        max_requests_jitter: 0,
        max_lifetime: None,
        max_rss: None,
        preload: false,
        restart: Restart {
            backoff: Duration::ZERO,
            backoff_max: Duration::ZERO,
            crash_limit: 0,
        },
    }
}
