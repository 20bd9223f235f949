//! Describes a server to start: its program, its config file, its environment.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::http::Target;
use super::ports::free_port;
use super::process::MARKER;
use super::programs::{Program, example, gracefork, python};
use super::server::Server;

/// A server that is not started yet.
pub(crate) struct Builder {
    pub(crate) program: Program,
    pub(crate) config: toml::Table,
    pub(crate) target: Target,
    pub(crate) ops: Target,
    environment: Vec<(String, String)>,
    launch: Launch,
    /// What every worker prints once it is up, where the master cannot know that.
    says: Option<&'static str>,
}

/// Read-only root, no capability, a user that nobody knows.
const CONFINE: &str = "mount -o remount,bind,ro / && exec setpriv --reuid 54321 --regid 54321 \
    --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs \"$@\"";

/// How the master comes to life.
enum Launch {
    Plain,
    /// As PID 1 of a new pid namespace.
    Pid1,
    /// The same as a container has it at its strictest: see [`CONFINE`].
    Confined,
    /// Inside a cgroup, by its folder.
    Cgroup(PathBuf),
    /// With sockets from descriptor 3 on; the assignments are put in front of the command.
    Inherit(Vec<OwnedFd>, String),
}

impl Builder {
    /// Two workers on a free port, an ops listener, short times, the log as text.
    pub(crate) fn new(program: Program) -> Builder {
        let (port, ops) = (free_port(), free_port());
        let local = |port| Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let builder = Builder {
            program,
            config: toml::Table::new(),
            target: local(port),
            ops: local(ops),
            environment: Vec::new(),
            launch: Launch::Plain,
            says: None,
        };
        builder
            .bind([format!("127.0.0.1:{port}")])
            .workers(2)
            .set("health.listen", format!("127.0.0.1:{ops}"))
            .set("health.path", "/health")
            .set("shutdown.grace_period", "60s")
            .set("shutdown.lameduck", "0s")
            .set("shutdown.drain_timeout", "10s")
            .set("shutdown.kill_margin", "2s")
            .set("log.format", "text")
    }

    pub(crate) fn axum() -> Builder {
        Builder::new(example("axum-app"))
    }

    pub(crate) fn mio() -> Builder {
        Builder::new(example("mio-app"))
    }

    pub(crate) fn hello() -> Builder {
        Builder::new(example("hello"))
    }

    /// A script of `tests/workers` with its arguments.
    pub(crate) fn python(script: &str, args: &[&str]) -> Builder {
        let mut program = python(script);
        program.args.extend(args.iter().map(|&arg| arg.to_owned()));
        Builder::new(program)
    }

    /// A script that serves and says nothing to the master.
    pub(crate) fn plain(script: &str, args: &[&str]) -> Builder {
        Builder::python(script, args).silent()
    }

    /// Its program says nothing to the master. That it has lived for a while does not prove on a
    /// busy machine that its handlers stand: it prints that it is up.
    pub(crate) fn silent(mut self) -> Builder {
        self.says = Some("is up");
        self.set("workers.ready_after", "300ms")
    }

    /// The hand-made native worker, with time for a slow Python to say that it is one.
    pub(crate) fn native(args: &[&str]) -> Builder {
        Builder::python("native.py", args).set("workers.ready_after", "15s")
    }

    /// Sets a key of the config file by its path, for instance `shutdown.lameduck`.
    pub(crate) fn set(mut self, key: &str, value: impl Into<toml::Value>) -> Builder {
        set(&mut self.config, key, value.into());
        self
    }

    pub(crate) fn workers(self, count: usize) -> Builder {
        self.set("workers.count", i64::try_from(count).unwrap())
    }

    pub(crate) fn lameduck(self, duration: &str) -> Builder {
        self.set("shutdown.lameduck", duration)
    }

    pub(crate) fn drain_timeout(self, duration: &str) -> Builder {
        self.set("shutdown.drain_timeout", duration)
    }

    pub(crate) fn level(self, level: &str) -> Builder {
        self.set("workers.level", level)
    }

    pub(crate) fn bind(
        self,
        addresses: impl IntoIterator<Item = impl Into<toml::Value>>,
    ) -> Builder {
        let addresses: Vec<toml::Value> = addresses.into_iter().map(Into::into).collect();
        self.set("listen.bind", addresses)
    }

    /// Where the clients go, when it is not the first address.
    pub(crate) fn target(mut self, target: Target) -> Builder {
        self.target = target;
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl Into<String>) -> Builder {
        self.environment.push((key.to_owned(), value.into()));
        self
    }

    pub(crate) fn pid_1(mut self) -> Builder {
        self.launch = Launch::Pid1;
        self
    }

    /// As PID 1, on a read-only root, without capabilities, as a user that has no name.
    pub(crate) fn confined(mut self) -> Builder {
        self.launch = Launch::Confined;
        self
    }

    /// Starts inside the cgroup of that folder.
    pub(crate) fn inside(mut self, cgroup: &Path) -> Builder {
        self.launch = Launch::Cgroup(cgroup.to_owned());
        self
    }

    /// Hands sockets over as systemd does, `LISTEN_FDS` and all.
    pub(crate) fn socket_activated(mut self, sockets: Vec<OwnedFd>) -> Builder {
        let exports = format!("export LISTEN_FDS={} LISTEN_PID=$$; ", sockets.len());
        self.launch = Launch::Inherit(sockets, exports);
        self
    }

    /// Hands sockets over from descriptor 3 on, without a word.
    pub(crate) fn inherited(mut self, sockets: Vec<OwnedFd>) -> Builder {
        self.launch = Launch::Inherit(sockets, String::new());
        self
    }

    /// Starts the server and waits until the pod is ready and every worker is.
    #[track_caller]
    pub(crate) fn start(self) -> Server {
        let says = self.says;
        let server = self.spawn();
        server.wait_ready();
        let status = server.wait_status("all workers Ready", |status| {
            status.ready_workers == status.target
        });
        if let Some(says) = says {
            server.wait("a word of each worker", || {
                (server.log.count(&[says]) >= status.target).then_some(())
            });
        }
        server
    }

    /// Starts the server and does not wait.
    pub(crate) fn spawn(self) -> Server {
        Server::spawn(self)
    }

    /// The command line, the marker and a clean environment.
    pub(crate) fn command(&mut self, config: &str, id: &str) -> Command {
        let mut line = vec![
            gracefork().to_str().unwrap().to_owned(),
            "-c".to_owned(),
            config.to_owned(),
        ];
        line.push(self.program.path.to_str().unwrap().to_owned());
        line.push("--".to_owned());
        line.extend(self.program.args.iter().cloned());
        let mut command = match std::mem::replace(&mut self.launch, Launch::Plain) {
            Launch::Plain => {
                let mut command = Command::new(&line[0]);
                command
                    .args(&line[1..])
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped());
                command
            }
            Launch::Pid1 => {
                let mut command = Command::new("unshare");
                command
                    .args(["--pid", "--fork", "--mount-proc"])
                    .args(&line);
                command.stdin(Stdio::null()).stdout(Stdio::piped());
                command
            }
            Launch::Confined => {
                let mut command = Command::new("unshare");
                command
                    .args(["--mount", "--pid", "--fork", "--mount-proc"])
                    .args(["/bin/sh", "-c", CONFINE, "sh"])
                    .args(&line);
                command.stdin(Stdio::null()).stdout(Stdio::piped());
                command
            }
            Launch::Cgroup(folder) => {
                let mut command = Command::new("/bin/sh");
                command
                    .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""])
                    .arg(folder)
                    .args(&line);
                command.stdin(Stdio::null()).stdout(Stdio::piped());
                command
            }
            Launch::Inherit(sockets, exports) => inherit(sockets, &exports, &line),
        };
        command.stderr(Stdio::piped()).env_clear().env(MARKER, id);
        for key in ["PATH", "HOME", "LANG", "TMPDIR", "RUST_BACKTRACE"] {
            command.envs(std::env::var(key).ok().map(|value| (key, value)));
        }
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Whether the master is a child of the process that is started.
    pub(crate) fn is_wrapped(&self) -> bool {
        matches!(self.launch, Launch::Pid1 | Launch::Confined)
    }
}

/// Whether [`Builder::confined`] can be had here, and its user may execute what is tested.
pub(crate) fn confinement_works() -> bool {
    confined_runs(Path::new("test"), &["-x", gracefork().to_str().unwrap()])
}

/// Whether that program ends well where [`Builder::confined`] runs.
pub(crate) fn confined_runs(program: &Path, args: &[&str]) -> bool {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--mount-proc"])
        .args(["/bin/sh", "-c", CONFINE, "sh"])
        .arg(program)
        .args(args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Sets `section.key` of a table.
pub(crate) fn set(table: &mut toml::Table, key: &str, value: toml::Value) {
    match key.split_once('.') {
        Some((section, rest)) => {
            let inner = table
                .entry(section)
                .or_insert_with(|| toml::Table::new().into());
            set(inner.as_table_mut().unwrap(), rest, value);
        }
        None => {
            table.insert(key.to_owned(), value);
        }
    }
}

/// Sockets travel as standard input and output, which `Command` hands over without a moment in
/// which another test's child could inherit them; a shell moves them to 3 and 4, and knows the pid.
fn inherit(sockets: Vec<OwnedFd>, exports: &str, line: &[String]) -> Command {
    let mut sockets = sockets.into_iter();
    let (first, second) = (sockets.next().unwrap(), sockets.next());
    assert!(sockets.next().is_none(), "two sockets at most");
    let moved = if second.is_some() {
        "exec 3<&0 4<&1 </dev/null >&2; "
    } else {
        "exec 3<&0 </dev/null; "
    };
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(format!("{moved}{exports}exec \"$@\""))
        .arg("sh")
        .args(line);
    command.stdin(first);
    command.stdout(second.map_or_else(Stdio::piped, Stdio::from));
    command
}
