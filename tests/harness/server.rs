//! A running server: what can be done to it and awaited on it. Dropping it ends all its processes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::builder::{self, Builder};
use super::http::{Conn, Response, Target};
use super::log::{Line, Log};
use super::process::{self, Watched, children, describe, marked};
use super::programs::gracefork;
use super::schedule::{self, Turn};
use super::status::Status;
use super::wait::{LIMIT, poll};

/// One master and its workers.
pub(crate) struct Server {
    pub(crate) target: Target,
    pub(crate) ops: Target,
    pub(crate) log: Log,
    pub(crate) started: Instant,
    id: String,
    folder: tempfile::TempDir,
    config: Mutex<toml::Table>,
    child: Arc<Running>,
    master: Watched,
    workers: Mutex<Vec<Watched>>,
    _turn: Turn,
}

/// How the master ended, and when that was seen on its pidfd.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    pub(crate) at: Instant,
}

/// The process that was started, until it is reaped.
struct Running {
    child: Mutex<(Child, Option<Exit>)>,
    ended: Condvar,
}

impl Server {
    /// Starts what the builder describes.
    pub(crate) fn spawn(mut builder: Builder) -> Server {
        let turn = schedule::share();
        let id = new_id();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gracefork.toml");
        fs::write(&path, builder.config.to_string()).unwrap();
        // The master may be started as a user that owns nothing here.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let wrapped = builder.is_wrapped();
        let mut command = builder.command(path.to_str().unwrap(), &id);
        let started = Instant::now();
        let mut child = command
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let log = Log::default();
        child
            .stderr
            .take()
            .into_iter()
            .for_each(|stderr| log.follow(stderr));
        child
            .stdout
            .take()
            .into_iter()
            .for_each(|stdout| log.follow(stdout));
        let open = |pid| Watched::open(pid).expect("a child that is not reaped yet has a pidfd");
        let (outer, itself) = (open(child.id()), open(child.id()));
        let child = Running::watch(child, outer);
        let master = if wrapped {
            child.inner_master()
        } else {
            itself
        };
        Server {
            target: builder.target,
            ops: builder.ops,
            log,
            started,
            id,
            folder,
            config: Mutex::new(builder.config),
            child,
            master,
            workers: Mutex::default(),
            _turn: turn,
        }
    }

    /// The master's pid.
    pub(crate) fn pid(&self) -> u32 {
        self.master.pid
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder.path().join("gracefork.toml")
    }

    /// Sends the master a signal; the time just before.
    pub(crate) fn signal(&self, signal: Signal) -> Instant {
        let now = Instant::now();
        self.master.signal(signal);
        now
    }

    /// A second SIGINT that cannot be taken for the first one come twice (100 ms).
    pub(crate) fn interrupt_again(&self) -> Instant {
        std::thread::sleep(Duration::from_millis(150));
        self.signal(Signal::INT)
    }

    /// Changes a key of the config file on disk.
    pub(crate) fn set(&self, key: &str, value: impl Into<toml::Value>) {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        builder::set(&mut config, key, value.into());
        self.write_config(&config.to_string());
    }

    /// Replaces the config file's text.
    pub(crate) fn write_config(&self, text: &str) {
        let path = self.config_path();
        let fresh = path.with_extension("new");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, path).unwrap();
    }

    /// Opens a connection to the app.
    #[track_caller]
    pub(crate) fn connect(&self) -> Conn {
        Conn::open(&self.target)
            .unwrap_or_else(|lost| self.fail(&format!("no connection to the app: {lost}")))
    }

    /// `GET path` of the app on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        let response = self.connect().get(path);
        response.unwrap_or_else(|lost| self.fail(&format!("GET {path}: {lost}")))
    }

    /// `GET path` of the ops listener; `None` when it does not answer.
    pub(crate) fn ops(&self, path: &str) -> Option<Response> {
        let limit = Duration::from_secs(5);
        Conn::open_within(&self.ops, limit, limit)
            .ok()?
            .get(path)
            .ok()
    }

    /// `/status`; panics when there is none.
    #[track_caller]
    pub(crate) fn status(&self) -> Status {
        self.try_status()
            .unwrap_or_else(|| self.fail("the ops listener does not answer /status"))
    }

    /// `/status`; remembers the workers that it names, so that none survives the test.
    pub(crate) fn try_status(&self) -> Option<Status> {
        let response = self.ops("/status")?;
        let parsed: Result<Status, _> = serde_json::from_slice(&response.body);
        let mut status = parsed
            .unwrap_or_else(|error| self.fail(&format!("/status: {error}: {}", response.text())));
        // The order of the list is no promise.
        status.workers.sort_by_key(|worker| worker.slot);
        self.record(&status.pids());
        Some(status)
    }

    /// The pids of the workers.
    #[track_caller]
    pub(crate) fn worker_pids(&self) -> Vec<u32> {
        self.status().pids()
    }

    /// All workers, held so that their exit can be awaited.
    #[track_caller]
    pub(crate) fn watch_workers(&self) -> Vec<Watched> {
        let pids = self.worker_pids();
        pids.into_iter().map(|pid| self.watch(pid)).collect()
    }

    #[track_caller]
    pub(crate) fn watch(&self, pid: u32) -> Watched {
        Watched::open(pid).unwrap_or_else(|| self.fail(&format!("there is no process {pid}")))
    }

    /// Waits until the pod is ready.
    #[track_caller]
    pub(crate) fn wait_ready(&self) {
        self.wait("200 of /readyz", || {
            (self.ops("/readyz")?.status == 200).then_some(())
        });
        self.record(&children(self.pid()));
    }

    /// Waits until `/status` fits.
    #[track_caller]
    pub(crate) fn wait_status(&self, what: &str, mut fits: impl FnMut(&Status) -> bool) -> Status {
        self.wait(&format!("a /status with {what}"), || {
            self.try_status().filter(|status| fits(status))
        })
    }

    /// Waits for a log line with all of `parts`.
    #[track_caller]
    pub(crate) fn wait_log(&self, parts: &[&str]) -> Line {
        let found = self.log.wait(parts, LIMIT);
        found.unwrap_or_else(|| self.fail(&format!("within {LIMIT:?} no log line had {parts:?}")))
    }

    /// Waits until a process has ended and is reaped.
    #[track_caller]
    pub(crate) fn wait_gone(&self, process: &Watched) {
        let gone = poll(LIMIT, || process.is_gone().then_some(()));
        gone.unwrap_or_else(|| {
            self.fail(&format!(
                "within {LIMIT:?} not gone: {}",
                describe(process.pid)
            ))
        });
    }

    /// Waits until `probe` gives a value; fails at once when the master ends meanwhile.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
        let mut ended = None;
        let value = poll(LIMIT, || {
            ended = self.child.lock().1;
            probe().map(Some).or(ended.map(|_| None))
        });
        match (value, ended) {
            (Some(Some(value)), _) => value,
            (_, Some(exit)) => {
                self.fail(&format!("the master ended ({}) before {what}", exit.status))
            }
            _ => self.fail(&format!("within {LIMIT:?} there was no {what}")),
        }
    }

    /// Waits for the master's end.
    #[track_caller]
    pub(crate) fn wait_exit(&self) -> Exit {
        self.wait_exit_for(LIMIT)
    }

    /// Waits for the master's end, with a limit of the test's own.
    #[track_caller]
    pub(crate) fn wait_exit_for(&self, limit: Duration) -> Exit {
        let exit = self.child.wait(limit);
        exit.unwrap_or_else(|| self.fail(&format!("the master did not end within {limit:?}")))
    }

    /// Whether the master runs.
    pub(crate) fn is_running(&self) -> bool {
        self.child.lock().1.is_none()
    }

    /// Waits for the master's end and checks its exit status; nothing may be left behind.
    #[track_caller]
    pub(crate) fn expect_exit(&self, code: i32) -> Exit {
        let exit = self.wait_exit();
        if exit.status.code() != Some(code) {
            self.fail(&format!(
                "the master ended with {}, expected exit status {code}",
                exit.status
            ));
        }
        self.assert_no_leftovers();
        exit
    }

    /// SIGTERM, and the clean end that most scenarios have.
    #[track_caller]
    pub(crate) fn shut_down(&self) -> Exit {
        self.signal(Signal::TERM);
        self.expect_exit(0)
    }

    /// Fails when a process of this server runs, once the master has ended. After that the log is
    /// whole.
    #[track_caller]
    pub(crate) fn assert_no_leftovers(&self) {
        let left = self.leftovers();
        if !left.is_empty() {
            let left: Vec<String> = left.into_iter().map(describe).collect();
            self.fail(&format!("left behind:\n{}", left.join("\n")));
        }
        self.log.wait_end(LIMIT);
    }

    /// The processes of this server that run, but for the master.
    pub(crate) fn leftovers(&self) -> Vec<u32> {
        let mut left = marked(&self.id);
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        left.extend(
            workers
                .iter()
                .filter(|worker| !worker.is_gone())
                .map(|worker| worker.pid),
        );
        left.retain(|&pid| pid != self.pid());
        left.sort_unstable();
        left.dedup();
        left
    }

    /// Fails the test with what the server said last.
    #[track_caller]
    pub(crate) fn fail(&self, what: &str) -> ! {
        // The log itself is printed when the server is dropped.
        panic!("{what}")
    }

    fn record(&self, pids: &[u32]) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        for &pid in pids {
            // In a pid namespace of its own the server's pids are other processes here.
            let ours = process::stat(pid).is_some_and(|stat| stat.parent == self.pid());
            if ours
                && !workers
                    .iter()
                    .any(|worker| worker.pid == pid && !worker.is_gone())
            {
                workers.extend(Watched::open(pid));
            }
        }
    }

    fn kill_all(&self) {
        self.child.kill_group();
        let left = poll(Duration::from_secs(5), || {
            let left = self.leftovers();
            for &pid in &left {
                let ours = Watched::open(pid).filter(|_| self.leftovers().contains(&pid));
                ours.iter().for_each(|process| process.signal(Signal::KILL));
            }
            left.is_empty().then_some(())
        });
        if left.is_none() && !std::thread::panicking() {
            panic!("not even SIGKILL ended {:?}", self.leftovers());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = self
                .ops("/status")
                .map_or_else(|| "none".to_owned(), |response| response.text());
            eprintln!(
                "--- /status at the end: {status}\n{}",
                self.log.tail(self.started)
            );
        }
        self.kill_all();
    }
}

impl Running {
    /// Reaps the child in a thread of its own, which sees the exit on the pidfd, close to the event.
    fn watch(child: Child, pidfd: Watched) -> Arc<Running> {
        let running = Arc::new(Running {
            child: Mutex::new((child, None)),
            ended: Condvar::new(),
        });
        let watcher = Arc::clone(&running);
        std::thread::spawn(move || {
            let at = loop {
                if let Some(at) = pidfd.wait_exit(Duration::from_secs(3600)) {
                    break at;
                }
            };
            let mut child = watcher.lock();
            let status = child.0.wait().unwrap();
            child.1 = Some(Exit { status, at });
            watcher.ended.notify_all();
        });
        running
    }

    /// The master, where it is the child that the child has once it has made a pid namespace.
    fn inner_master(&self) -> Watched {
        let outer = self.lock().0.id();
        let found = poll(LIMIT, || {
            let inner = children(outer);
            let binary = |pid: &&u32| {
                fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path == gracefork())
            };
            Watched::open(*inner.iter().find(binary)?)
        });
        found.unwrap_or_else(|| panic!("no master under process {outer}"))
    }

    fn wait(&self, limit: Duration) -> Option<Exit> {
        let deadline = Instant::now() + limit;
        let mut child = self.lock();
        while child.1.is_none() {
            let left = deadline.checked_duration_since(Instant::now())?;
            (child, _) = self
                .ended
                .wait_timeout(child, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        child.1
    }

    /// Kills the process group, unless its leader is reaped and the number may be another's.
    fn kill_group(&self) {
        let child = self.lock();
        if child.1.is_none() {
            let group = Pid::from_raw(i32::try_from(child.0.id()).unwrap()).unwrap();
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Child, Option<Exit>)> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exit {
    /// How long after `since` the master ended; zero when before.
    pub(crate) fn after(&self, since: Instant) -> Duration {
        self.at.saturating_duration_since(since)
    }

    /// The exit status, or how it was killed.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

/// A marker value that no other server has.
pub(super) fn new_id() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    format!("{}-{count}-{}", std::process::id(), now.as_nanos())
}
