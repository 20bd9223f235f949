//! The servers that are compared, each as its users run it, with two workers.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process_group};

use crate::harness::ports::free_port;
use crate::harness::process::Watched;
use crate::harness::programs::{Program, gracefork, root};
use crate::harness::{Builder, Conn, Server, Signal, Target, eventually};
use crate::machine::said;

/// A server to measure.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    /// Starts it and waits until it serves.
    pub(crate) start: fn() -> Running,
}

/// A server that serves. Dropping it ends all its processes.
pub(crate) enum Running {
    Ours {
        server: Server,
        /// Whether the app has no health of its own, so that the ops listener is probed.
        by_ops: bool,
    },
    Theirs(Foreign),
}

/// A server that is its own master.
pub(crate) struct Foreign {
    target: Target,
    process: Watched,
    child: Mutex<Child>,
}

const WORKERS: &str = "2";

/// All that can be run here.
pub(crate) fn all() -> Vec<Contestant> {
    let mut all: Vec<Contestant> = Vec::new();
    let mut add = |name, start| all.push(Contestant { name, start });
    if venv("gunicorn").is_file() {
        add("gunicorn gthread", || {
            Running::gunicorn("gthread", "wsgi_app:app")
        });
        add("gunicorn asgi", || {
            Running::gunicorn("asgi", "asgi_app:app")
        });
    }
    if venv("uvicorn").is_file() {
        add("uvicorn", Running::uvicorn);
        add("gracefork, plain uvicorn", || {
            let builder = Builder::new(uvicorn_worker());
            Running::ours(builder.env("PYTHONDONTWRITEBYTECODE", "1"), true)
        });
    }
    add("gracefork, axum-app", || {
        Running::ours(Builder::axum(), false)
    });
    add("gracefork, mio-app", || {
        Running::ours(Builder::mio(), false)
    });
    all
}

/// What is not installed, in words.
pub(crate) fn missing() -> Vec<String> {
    let missing = ["gunicorn", "uvicorn"]
        .into_iter()
        .filter(|name| !venv(name).is_file());
    missing
        .map(|name| format!("{name}: {} is missing", venv(name).display()))
        .collect()
}

pub(crate) fn versions() -> Vec<String> {
    let ours = said(gracefork().to_str().unwrap(), &["--version"]);
    let theirs = ["python", "gunicorn", "uvicorn"]
        .map(|name| said(venv(name).to_str().unwrap(), &["--version"]));
    theirs
        .into_iter()
        .chain([ours])
        .filter(|version| !version.is_empty())
        .collect()
}

impl Running {
    pub(crate) fn target(&self) -> &Target {
        match self {
            Running::Ours { server, .. } => &server.target,
            Running::Theirs(server) => &server.target,
        }
    }

    /// Where the readiness probe asks.
    pub(crate) fn probe(&self) -> (&Target, &'static str) {
        match self {
            Running::Ours {
                server,
                by_ops: true,
            } => (&server.ops, "/readyz"),
            _ => (self.target(), "/health"),
        }
    }

    /// Signals the master; the time just before.
    pub(crate) fn signal(&self, signal: Signal) -> Instant {
        match self {
            Running::Ours { server, .. } => server.signal(signal),
            Running::Theirs(server) => {
                let now = Instant::now();
                server.process.signal(signal);
                now
            }
        }
    }

    /// Waits for the master's end: how it ended, and when; `None` when it runs on.
    pub(crate) fn wait_exit(&self, limit: Duration) -> Option<(String, Instant)> {
        match self {
            Running::Ours { server, .. } => {
                let exit = server.wait_exit_for(limit);
                Some((describe(exit.status), exit.at))
            }
            Running::Theirs(server) => {
                let at = server.process.wait_exit(limit)?;
                let status = server.child.lock().unwrap().wait().unwrap();
                Some((describe(status), at))
            }
        }
    }

    fn ours(builder: Builder, by_ops: bool) -> Running {
        let server = builder.lameduck("3s").start();
        server.wait_status("both workers Ready", |status| status.ready_workers == 2);
        Running::Ours { server, by_ops }
    }

    fn gunicorn(worker_class: &str, app: &str) -> Running {
        let mut command = Command::new(venv("gunicorn"));
        command.args([
            "--workers",
            WORKERS,
            "--worker-class",
            worker_class,
            "--log-level",
            "critical",
        ]);
        if worker_class == "gthread" {
            command.args(["--threads", "4"]);
        }
        Foreign::start(command, |address| {
            vec!["--bind".into(), address.to_string(), app.into()]
        })
    }

    fn uvicorn() -> Running {
        let mut command = Command::new(venv("uvicorn"));
        command.args([
            "--workers",
            WORKERS,
            "--log-level",
            "critical",
            "asgi_app:app",
        ]);
        Foreign::start(command, |address| {
            vec![
                "--host".into(),
                address.ip().to_string(),
                "--port".into(),
                address.port().to_string(),
            ]
        })
    }
}

impl Foreign {
    fn start(mut command: Command, arguments: impl Fn(SocketAddr) -> Vec<String>) -> Running {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        command
            .args(arguments(address))
            .current_dir(root().join("tests/bench/apps"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").process_group(0);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Watched::open(child.id()).unwrap();
        let server = Foreign {
            target: Target::Tcp(address),
            process,
            child: Mutex::new(child),
        };
        eventually("an answer of the server that was started", || {
            let answer =
                Conn::open(&server.target).and_then(|mut connection| connection.get("/health"));
            answer.is_ok_and(|response| response.status == 200)
        });
        Running::Theirs(server)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // The group outlives its leader while a worker is left.
        let group = Pid::from_raw(i32::try_from(self.process.pid).unwrap()).unwrap();
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.lock().unwrap().wait();
    }
}

/// uvicorn on the socket that it inherits, as a worker that knows nothing of gracefork.
fn uvicorn_worker() -> Program {
    let folder = root().join("tests/bench/apps");
    let arguments = [
        "asgi_app:app",
        "--app-dir",
        folder.to_str().unwrap(),
        "--log-level",
        "critical",
        "--fd",
        "{fd}",
    ];
    arguments
        .into_iter()
        .fold(Program::new(venv("uvicorn")), Program::arg)
}

fn venv(name: &str) -> PathBuf {
    root().join(".venv/bin").join(name)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "?".to_owned(),
    }
}
