//! What one generation of workers is started with.

use std::ffi::{OsStr, OsString};
use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::config::{
    self, AccessLog, Config, GunicornArgs, Http, Loaded, Origin, Owner, WorkerCount,
};
use crate::fleet::{self, Level, Policy};
use crate::sys::cgroup;
use crate::sys::listener::{BindError, Inherited, Listener, bind};
use crate::sys::log_file::append_to;
use crate::sys::spawn::FIRST_FD;

/// Probes to wait for before lameduck may end early, where the probe is not described.
const PROBE_FAILURES: u32 = 3;

/// One generation: its configuration, and what that led to.
#[derive(Debug)]
pub struct Spec {
    /// The configuration.
    pub config: Config,
    /// The executable: the program itself, or the interpreter of a Python app.
    pub program: PathBuf,
    /// The listening sockets, in the order of their descriptors in a worker.
    pub listeners: Vec<Rc<Listener>>,
    /// Where requests are logged, as workers take it: `-`, or a path that holds wherever they run.
    pub access_log: Option<OsString>,
}

impl Spec {
    /// One that serves nothing: no address is bound.
    #[must_use]
    pub fn unbound(config: Config, program: PathBuf) -> Self {
        Self {
            config,
            program,
            listeners: Vec::new(),
            access_log: None,
        }
    }

    /// The numbers that the core decides by.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let Config {
            workers,
            shutdown,
            reload,
            http,
            ..
        } = &self.config;
        Policy {
            count: self.count(),
            min_ready: workers.min_ready,
            level: self.level(),
            ready_after: workers.ready_after,
            boot_timeout: workers.boot_timeout,
            hang_timeout: workers.hang_timeout,
            term_immediately: workers.term_immediately,
            recycle: fleet::Recycle {
                max_requests: workers.max_requests,
                max_requests_jitter: workers.max_requests_jitter,
                max_lifetime: workers.max_lifetime,
                max_rss: workers.max_rss,
            },
            restart: fleet::Restart {
                backoff: workers.restart.backoff,
                backoff_max: workers.restart.backoff_max,
                crash_limit: workers.restart.crash_limit,
            },
            shutdown: fleet::Shutdown {
                lameduck: shutdown.lameduck,
                lameduck_quiet: shutdown.lameduck_quiet,
                failure_threshold: shutdown
                    .probe
                    .as_ref()
                    .map_or(PROBE_FAILURES, |probe| probe.failure_threshold),
                unready_delay: shutdown.unready_delay,
                drain_timeout: shutdown.drain_timeout,
                kill_margin: shutdown.kill_margin,
            },
            surge: reload.surge,
            retire_bound: http.keep_alive,
        }
    }

    fn count(&self) -> usize {
        let min_ready = self.config.workers.min_ready;
        match self.config.workers.count {
            WorkerCount::Fixed(count) => count,
            WorkerCount::Auto => cgroup::cpus().max(min_ready),
        }
    }

    /// The configured level; `None` where the worker shows what it is.
    fn level(&self) -> Option<Level> {
        match self.config.workers.level {
            config::Level::Auto => None,
            config::Level::Plain => Some(Level::Plain),
            config::Level::Notify => Some(Level::Notify),
            config::Level::Native => Some(Level::Native),
        }
    }

    /// Whether the worker gets a socket to notify the master by.
    #[must_use]
    pub fn takes_notifications(&self) -> bool {
        matches!(self.level(), None | Some(Level::Notify))
    }

    /// The signal by which the kernel tells a worker that the master died. A
    /// native worker learns it from the end of its control channel.
    #[must_use]
    pub fn death_signal(&self) -> Option<i32> {
        let needs_one = self.level() != Some(Level::Native);
        needs_one.then(|| self.config.workers.stop_signal.number())
    }

    /// The arguments of the worker in `slot`, with the placeholders filled in.
    #[must_use]
    pub fn args(&self, slot: usize) -> Vec<String> {
        let port = self.listeners.iter().find_map(|listener| listener.port());
        let port = port.map_or_else(|| "{port}".to_owned(), |port| port.to_string());
        let fill = |arg: &String| {
            arg.replace("{fd}", &FIRST_FD.to_string())
                .replace("{port}", &port)
                .replace("{worker}", &slot.to_string())
        };
        self.config.app.args.iter().map(fill).collect()
    }

    /// The descriptors of a child: the listeners, and what comes behind them.
    #[must_use]
    pub fn descriptors<'a>(&'a self, rest: [BorrowedFd<'a>; 2]) -> Vec<BorrowedFd<'a>> {
        let listeners = self.listeners.iter().map(|listener| listener.as_fd());
        listeners.chain(rest).collect()
    }

    /// The number that the first descriptor behind the listeners gets.
    #[must_use]
    pub fn first_free_fd(&self) -> RawFd {
        let listening = RawFd::try_from(self.listeners.len());
        FIRST_FD + listening.unwrap_or(RawFd::MAX - FIRST_FD)
    }

    /// A new access log where the old one was moved away: the workers' user need not be allowed to
    /// make one.
    ///
    /// # Errors
    /// The file cannot be made, or not be given to them.
    pub fn renew_access_log(&self) -> io::Result<()> {
        match (&self.access_log, &self.config.security.owner) {
            (Some(path), Some(owner)) if path != "-" => {
                open_access_log(Path::new(path), Some(owner))
            }
            _ => Ok(()),
        }
    }

    /// Whether a host forks the workers.
    #[must_use]
    pub fn is_hosted(&self) -> bool {
        self.config.python.is_some()
    }

    /// The environment of a worker, but for what only the child knows.
    #[must_use]
    pub fn environment(&self, identity: &Identity<'_>) -> Vec<(OsString, OsString)> {
        let mut env = self.environment_of_all(identity.generation, identity.scoreboard_fd);
        let mut set = |name: &str, value: String| env.push((name.into(), value.into()));
        set("GRACEFORK_WORKER", identity.slot.to_string());
        // Who is told of the channel counts on being spoken to on it.
        if matches!(
            self.config.workers.level,
            config::Level::Auto | config::Level::Native
        ) {
            set("GRACEFORK_CONTROL_FD", identity.control_fd.to_string());
        }
        set("GRACEFORK_MAX_REQUESTS", identity.max_requests.to_string());
        if let Some(timeout) = self.config.workers.hang_timeout {
            set("WATCHDOG_USEC", micros(timeout));
        }
        if let Some(socket) = identity.notify_socket {
            env.push(("NOTIFY_SOCKET".into(), socket.to_owned()));
        }
        env
    }

    /// The environment of a host. `is_first`: no other has been Ready before it.
    #[must_use]
    pub fn host_environment(
        &self,
        generation: u64,
        host_fd: i32,
        is_first: bool,
    ) -> Vec<(OsString, OsString)> {
        let mut env = self.environment_of_all(generation, host_fd + 1);
        let workers = &self.config.workers;
        let mut set = |name: &str, value: OsString| env.push((name.into(), value));
        set("GRACEFORK_HOST_FD", host_fd.to_string().into());
        set(
            "GRACEFORK_HOST_FIRST",
            u8::from(is_first).to_string().into(),
        );
        if let Ok(here) = std::env::current_dir() {
            set("GRACEFORK_HOST_START", here.into());
        }
        set("GRACEFORK_APP", self.config.app.program.clone().into());
        set(
            "GRACEFORK_PRELOAD",
            u8::from(workers.preload).to_string().into(),
        );
        set("GRACEFORK_WORKER_COUNT", self.count().to_string().into());
        set("GRACEFORK_LOG_LEVEL", self.config.log.level.name().into());
        set("GRACEFORK_LOG_FORMAT", self.config.log.format.name().into());
        if let Some(Owner { uid, gid, groups }) = &self.config.security.owner {
            let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
            set("GRACEFORK_UID", uid.to_string().into());
            set("GRACEFORK_GID", gid.to_string().into());
            set("GRACEFORK_GROUPS", groups.join(",").into());
        }
        let hang_timeout = workers.hang_timeout.unwrap_or_default();
        set("GRACEFORK_HANG_TIMEOUT_USEC", micros(hang_timeout).into());
        if let Some(python) = &self.config.python {
            set(
                "GRACEFORK_PYTHON_INTERFACE",
                python.interface.protocol().into(),
            );
            set("GRACEFORK_PYTHON_LOOP", python.event_loop.name().into());
            set("GRACEFORK_PYTHON_LIFESPAN", python.lifespan.name().into());
            if let Some(root_path) = &python.root_path {
                set("GRACEFORK_PYTHON_ROOT_PATH", root_path.into());
            }
            let limit = python.ws_max_message_size.to_string();
            set("GRACEFORK_PYTHON_WS_MAX_MESSAGE_SIZE", limit.into());
            let interval = micros(python.ws_ping_interval);
            set("GRACEFORK_PYTHON_WS_PING_INTERVAL_USEC", interval.into());
            let grace = micros(python.ws_close_grace);
            set("GRACEFORK_PYTHON_WS_CLOSE_GRACE_USEC", grace.into());
            if let Some(config) = &python.config {
                set("GRACEFORK_PYTHON_CONFIG", config.to_os_string());
            }
            let path = config::search_path(&python.path, &self.config.app.chdir);
            set("GRACEFORK_PYTHON_PATH", path);
        }
        env
    }

    /// What workers and hosts are told alike.
    fn environment_of_all(&self, generation: u64, scoreboard_fd: i32) -> Vec<(OsString, OsString)> {
        let mut env = foreign_environment(&self.config.app);
        let names: Vec<String> = self
            .listeners
            .iter()
            .map(|listener| listener.name())
            .collect();
        let mut set = |name: &str, value: String| env.push((name.into(), value.into()));
        set("LISTEN_FDS", self.listeners.len().to_string());
        set("LISTEN_FDNAMES", names.join(":"));
        set("GRACEFORK_GENERATION", generation.to_string());
        set("GRACEFORK_SCOREBOARD_FD", scoreboard_fd.to_string());
        set("GRACEFORK_THREADS", self.config.workers.threads.to_string());
        set(
            "GRACEFORK_DRAIN_TIMEOUT_USEC",
            micros(self.config.shutdown.drain_timeout),
        );
        set(
            "GRACEFORK_UNHEALTHY_STATUS",
            self.config.health.unhealthy_status.to_string(),
        );
        if let Some(path) = &self.config.health.path {
            set("GRACEFORK_HEALTH_PATH", path.clone());
        }
        for (name, value) in http_settings(&self.config.http) {
            set(name, value);
        }
        if let Some(target) = &self.access_log {
            let format = self.config.log.access_format.as_str();
            set("GRACEFORK_ACCESS_FORMAT", format.to_owned());
            env.push(("GRACEFORK_ACCESS_LOG".into(), target.clone()));
        }
        env
    }
}

/// What tells one worker from another.
#[derive(Debug)]
pub struct Identity<'a> {
    /// Its row of the scoreboard.
    pub slot: usize,
    /// Its generation.
    pub generation: u64,
    /// The number of its end of the control channel.
    pub control_fd: i32,
    /// The number of the scoreboard.
    pub scoreboard_fd: i32,
    /// Requests after which it reports that its time has come; 0 is never.
    pub max_requests: u64,
    /// The name of its notify socket.
    pub notify_socket: Option<&'a OsStr>,
}

/// What native workers are told of `[http]`.
fn http_settings(http: &Http) -> [(&'static str, String); 12] {
    let body_timeout = http.body_timeout.unwrap_or_default();
    let write_timeout = http.write_timeout.unwrap_or_default();
    [
        ("GRACEFORK_KEEP_ALIVE_USEC", micros(http.keep_alive)),
        ("GRACEFORK_HEADER_TIMEOUT_USEC", micros(http.header_timeout)),
        ("GRACEFORK_BODY_TIMEOUT_USEC", micros(body_timeout)),
        ("GRACEFORK_WRITE_TIMEOUT_USEC", micros(write_timeout)),
        (
            "GRACEFORK_MAX_CONNECTIONS",
            http.max_connections.to_string(),
        ),
        (
            "GRACEFORK_LIMIT_REQUEST_LINE",
            http.limit_request_line.to_string(),
        ),
        (
            "GRACEFORK_LIMIT_REQUEST_FIELDS",
            http.limit_request_fields.to_string(),
        ),
        (
            "GRACEFORK_LIMIT_REQUEST_FIELD_SIZE",
            http.limit_request_field_size.to_string(),
        ),
        ("GRACEFORK_MAX_BODY", http.max_body.unwrap_or(0).to_string()),
        (
            "GRACEFORK_FORWARDED_ALLOW_IPS",
            http.forwarded_allow_ips.to_string(),
        ),
        (
            "GRACEFORK_PROXY_ALLOW_IPS",
            http.proxy_allow_ips.to_string(),
        ),
        (
            "GRACEFORK_PROXY_PROTOCOL",
            u8::from(http.proxy_protocol).to_string(),
        ),
    ]
}

fn micros(length: Duration) -> String {
    length.as_micros().to_string()
}

/// The master's own environment and what is configured over it, without what is ours to tell.
#[must_use]
pub fn foreign_environment(app: &config::App) -> Vec<(OsString, OsString)> {
    let inherited = std::env::vars_os().filter(|(name, _)| !is_ours(name));
    let mut env: Vec<(OsString, OsString)> = inherited
        .filter(|(name, _)| !app.env.contains_key(&*name.to_string_lossy()))
        .collect();
    let configured = app
        .env
        .iter()
        .map(|(name, value)| (name.into(), value.into()));
    let configured = configured.filter(|(name, _): &(OsString, OsString)| !is_ours(name));
    env.extend(configured);
    env
}

/// Variables of the contract, which a worker gets from its own master or not
/// at all; the master's own settings are not for it either.
fn is_ours(name: &OsStr) -> bool {
    let contract = [
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "LISTEN_PIDFDID",
        "NOTIFY_SOCKET",
        "FDSTORE",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
    ];
    let name = name.to_string_lossy();
    name.starts_with("GRACEFORK_") || contract.contains(&&*name)
}

/// Why a configuration that reads well cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The app is not there, or cannot be executed.
    #[error("{0}")]
    App(config::Problem),
    /// There is no Python.
    #[error("{0}")]
    Interpreter(config::Problem),
    /// An argument asks for a port that no listener has.
    #[error(
        "error: an argument holds `{{port}}`, but no listener in `listen.bind` has a port\n  = help: use `{{fd}}`, the number of the inherited descriptor"
    )]
    NoPort,
    /// Requests cannot be logged.
    #[error("error: the access log {path} cannot be opened: {source}", path = .path.display())]
    AccessLog {
        /// Where it was to be.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// An address cannot be served.
    #[error("error: {0}")]
    Bind(#[from] BindError),
}

/// What is probably not meant: sockets that were handed over, and nobody accepts from.
#[must_use]
pub fn unused(inherited: &Inherited, spec: &Spec) -> Option<String> {
    let listen = &spec.config.listen.bind;
    let handed_over = inherited.addresses().iter();
    let idle = handed_over.filter(|it| !listen.contains(it)).count();
    (idle > 0).then(|| {
        format!(
            "sockets were handed over (LISTEN_FDS), and nobody accepts from {idle} of them: leave `listen.bind` (--bind) out, or name them in it (fd:3)"
        )
    })
}

/// Whether sockets that were handed over go before addresses that were given there.
fn gives_way(bind: &Origin) -> bool {
    match bind {
        Origin::Default | Origin::Script(_) => true,
        Origin::Env(name) => name == GunicornArgs::VARIABLE,
        Origin::Derived(_) | Origin::File { .. } | Origin::Flag(_) => false,
    }
}

/// Make a valid configuration runnable: find the app and bind what is asked
/// for. A socket that `before` has for the same address goes on listening;
/// sockets that were handed to the master take the place of the default address, and of a gunicorn
/// config's, as under gunicorn.
///
/// # Errors
/// See [`PrepareError`]; whatever was bound is closed again.
pub fn prepare(
    loaded: Loaded,
    before: &[Rc<Listener>],
    inherited: &mut Inherited,
) -> Result<Spec, PrepareError> {
    let program = find(&loaded)?;
    let gives_way = gives_way(loaded.origin("listen.bind"));
    let mut config = loaded.config;
    let handed_over = inherited.addresses();
    if gives_way && !handed_over.is_empty() {
        config.listen.bind = handed_over.to_vec();
    }
    let access_log = access_log(&config)?;
    let mut listeners = Vec::new();
    for address in &config.listen.bind {
        let kept = before.iter().find(|listener| listener.address() == address);
        let listener = match kept {
            Some(listener) => Rc::clone(listener),
            None => Rc::new(bind(address, &config.listen, &config.security, inherited)?),
        };
        listeners.push(listener);
    }
    let wants_port = config.app.args.iter().any(|arg| arg.contains("{port}"));
    if wants_port && listeners.iter().all(|listener| listener.port().is_none()) {
        return Err(PrepareError::NoPort);
    }
    Ok(Spec {
        config,
        program,
        listeners,
        access_log,
    })
}

/// What is executed: the program, or the interpreter of a Python app.
///
/// # Errors
/// When there is no such thing.
pub fn find(loaded: &Loaded) -> Result<PathBuf, PrepareError> {
    let app = &loaded.config.app;
    let path = std::env::var("PATH").ok();
    let Some(python) = &loaded.config.python else {
        return config::find_program(app, path.as_deref()).map_err(PrepareError::App);
    };
    let by_default = *loaded.origin("python.executable") == Origin::Default;
    interpreter(&python.executable, by_default, app).map_err(PrepareError::Interpreter)
}

/// Finds the interpreter that runs Python apps and their config files.
///
/// # Errors
/// When there is none.
pub fn interpreter(
    executable: &Path,
    by_default: bool,
    app: &config::App,
) -> Result<PathBuf, config::Problem> {
    let path = std::env::var("PATH").ok();
    let gracefork = std::env::current_exe().ok();
    let beside = gracefork.as_deref().and_then(Path::parent);
    config::find_interpreter(executable, by_default, app, beside, path.as_deref())
}

/// Whether the file can be opened is found out here, for a clear word and not a worker's death.
fn access_log(config: &Config) -> Result<Option<OsString>, PrepareError> {
    let path = match &config.log.access {
        AccessLog::Off => return Ok(None),
        AccessLog::Stdout => return Ok(Some("-".into())),
        AccessLog::Path(path) => path,
    };
    let opened = open_access_log(path, config.security.owner.as_ref());
    let absolute = opened.and_then(|()| std::path::absolute(path));
    absolute
        .map(|path| Some(path.into_os_string()))
        .map_err(|source| PrepareError::AccessLog {
            path: path.clone(),
            source,
        })
}

/// A file that is new becomes the workers'. One that is there is left whose it is: what its name
/// leads to may have been chosen by somebody who may write to the folder.
fn open_access_log(path: &Path, owner: Option<&Owner>) -> io::Result<()> {
    // A FIFO is opened by its reader first, and would hold the master up.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Ok(());
    }
    let mut options = OpenOptions::new();
    match options.append(true).create_new(true).open(path) {
        Ok(file) => owner.map_or(Ok(()), |owner| {
            fchown(file, Some(owner.uid), Some(owner.gid))
        }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A link to what is not there yet is followed, and its file is ours.
            let file = append_to(path, 0)?;
            let found = file.metadata()?;
            match owner.filter(|owner| !may_write(owner, &found)) {
                None => Ok(()),
                Some(owner) => Err(io::Error::other(format!(
                    "workers run as {owner}, who may not write to it\n  = help: chown {}:{} {}",
                    owner.uid,
                    owner.gid,
                    path.display()
                ))),
            }
        }
        Err(error) => Err(error),
    }
}

/// By its mode, as the kernel looks at it: the first of the three that applies counts.
fn may_write(owner: &Owner, file: &Metadata) -> bool {
    let bit = if owner.uid == file.uid() {
        0o200
    } else if owner.groups.contains(&file.gid()) {
        0o020
    } else {
        0o002
    };
    owner.uid == 0 || file.mode() & bit != 0
}
