//! A worker process and the test as its master.

use std::io::{BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use worker_api::message::{self, MAX_MESSAGE, Report};
use worker_api::{PodPhase, RowSnapshot, Scoreboard, WorkerState};

use crate::app::{DRIVER, SIDE};
use crate::client::{Client, PATIENCE};

/// `LISTEN_PID` has to name the worker itself, which only the process knows that becomes it. The
/// descriptors come as stdin, stdout and stderr, so that no other child of this test has them.
const START: &str = "ulimit -n \"$DESCRIPTORS\"
exec 3<&0 4>&1 5>&2 </dev/null >\"$LOG\" 2>&1
LISTEN_PID=$$ exec \"$@\"";

/// A driver under test.
pub(crate) trait Driver {
    const NAME: &str;
}

pub(crate) struct Tokio;

impl Driver for Tokio {
    const NAME: &str = "tokio";
}

pub(crate) struct Baton;

impl Driver for Baton {
    const NAME: &str = "baton";
}

pub(crate) struct Hosted;

impl Driver for Hosted {
    const NAME: &str = "hosted";
}

pub(crate) struct Pod<D> {
    driver: PhantomData<D>,
    child: Mortal,
    control: OwnedFd,
    pub(crate) board: Scoreboard,
    side: BufReader<UnixStream>,
    address: Option<SocketAddr>,
    log: PathBuf,
    reports: Vec<Report>,
}

/// A child that does not outlive a test that fails.
pub(crate) struct Mortal(Child);

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a worker gets.
pub(crate) struct Options<D> {
    driver: PhantomData<D>,
    env: Vec<(&'static str, String)>,
}

impl<D: Driver> Options<D> {
    pub(crate) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// Starts the worker on a TCP port and waits until it is ready.
    pub(crate) fn start(self) -> Pod<D> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        self.start_on(listener.into(), Some(address))
    }

    /// Starts the worker on a listening socket.
    pub(crate) fn start_on(self, listener: OwnedFd, address: Option<SocketAddr>) -> Pod<D> {
        let (control, its_control) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let (board, its_board) = Scoreboard::create(1).unwrap();
        board.set_phase(PodPhase::Ready);
        board.set_pod_healthy(true);
        let side_path = scratch("side");
        let side_listener = UnixListener::bind(&side_path).unwrap();
        let log = scratch("log");
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", START, "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "app::the_worker_process"])
            .args(["--ignored", "--nocapture"])
            .env("LOG", &log)
            .env("DESCRIPTORS", "1000")
            .env(SIDE, &side_path)
            .env(DRIVER, D::NAME)
            .env("GRACEFORK_THREADS", "4")
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", "web")
            .env("GRACEFORK_WORKER", "0")
            .env("GRACEFORK_GENERATION", "1")
            .env("GRACEFORK_CONTROL_FD", "4")
            .env("GRACEFORK_SCOREBOARD_FD", "5")
            .envs(self.env)
            .stdin(Stdio::from(listener))
            .stdout(Stdio::from(its_control))
            .stderr(Stdio::from(its_board));
        let child = Mortal(command.spawn().unwrap());
        // Its ends of what it has are the child's alone.
        drop(command);
        board.row(0).unwrap().reset(child.0.id(), 1);
        let side = BufReader::new(accept_side(&side_listener));
        std::fs::remove_file(side_path).unwrap();
        let reports = Vec::new();
        let mut pod = Pod {
            driver: PhantomData,
            child,
            control,
            board,
            side,
            address,
            log,
            reports,
        };
        pod.report(|report| matches!(report, Report::Ready));
        pod
    }
}

impl<D: Driver> Pod<D> {
    /// A worker with the default settings, ready.
    pub(crate) fn start() -> Self {
        Self::with().start()
    }

    pub(crate) fn with() -> Options<D> {
        Options {
            driver: PhantomData,
            env: Vec::new(),
        }
    }

    pub(crate) fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address.unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client::new(stream)
    }

    pub(crate) fn command(&self, command: &message::Command) {
        rustix::net::send(&self.control, &command.encode(), SendFlags::NOSIGNAL).unwrap();
    }

    /// Tells lameduck, and waits until the worker has heard it.
    pub(crate) fn lameduck(&mut self) {
        self.board.set_phase(PodPhase::Lameduck);
        self.board.set_pod_healthy(false);
        self.command(&message::Command::Lameduck);
        // The report precedes the stage by a few instructions of another thread.
        self.report(|report| matches!(report, Report::Unhealthy));
        self.until("lameduck is announced", |pod| {
            pod.connect().get("/").is_last()
        });
    }

    /// Tells drain, and waits until the worker has heard it.
    pub(crate) fn drain(&self) {
        self.board.set_phase(PodPhase::Drain);
        self.command(&message::Command::Drain);
        self.until("draining", |pod| pod.row().state >= WorkerState::Draining);
    }

    /// Releases one request that the app holds.
    pub(crate) fn release(&self) {
        self.side.get_ref().write_all(b".").unwrap();
    }

    /// Waits until the app says `line`.
    pub(crate) fn expect(&mut self, line: &str) {
        let mut heard = String::new();
        self.side.read_line(&mut heard).unwrap();
        assert_eq!(heard.trim_end(), line);
    }

    pub(crate) fn row(&self) -> RowSnapshot {
        self.board.row(0).unwrap().snapshot()
    }

    /// Waits until `condition` holds.
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(
                start.elapsed() < PATIENCE,
                "never: {what}; {:?}",
                self.row()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for DRAINED and for the end of the process: served and aborted.
    pub(crate) fn drained(mut self) -> (u64, u64) {
        let Report::Drained { served, aborted } =
            self.report(|report| matches!(report, Report::Drained { .. }))
        else {
            unreachable!("it was matched")
        };
        assert!(self.ended().success());
        (served, aborted)
    }

    fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.0.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the worker does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn report(&mut self, wanted: impl Fn(&Report) -> bool) -> Report {
        loop {
            if let Some(place) = self.reports.iter().position(&wanted) {
                return self.reports.remove(place);
            }
            let patience = Timespec::try_from(PATIENCE).unwrap();
            let mut polled = [PollFd::new(&self.control, PollFlags::IN)];
            assert_ne!(
                rustix::event::poll(&mut polled, Some(&patience)).unwrap(),
                0,
                "no report"
            );
            let mut frame = [0; MAX_MESSAGE];
            let (_, len) =
                rustix::net::recv(&self.control, &mut frame[..], RecvFlags::empty()).unwrap();
            assert_ne!(len, 0, "the worker is gone");
            self.reports.extend(Report::decode(&frame[..len]).unwrap());
        }
    }
}

impl<D> Drop for Pod<D> {
    fn drop(&mut self) {
        let _ = self.child.0.kill();
        let _ = self.child.0.wait();
        if std::thread::panicking() {
            eprintln!(
                "the worker's log:\n{}",
                std::fs::read_to_string(&self.log).unwrap()
            );
        }
        let _ = std::fs::remove_file(&self.log);
    }
}

fn accept_side(listener: &UnixListener) -> UnixStream {
    let patience = Timespec::try_from(PATIENCE).unwrap();
    let mut polled = [PollFd::new(listener, PollFlags::IN)];
    assert_ne!(
        rustix::event::poll(&mut polled, Some(&patience)).unwrap(),
        0,
        "no worker"
    );
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A path of its own for each call.
pub(crate) fn scratch(kind: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!(
        "worker-http-{}-{number}.{kind}",
        std::process::id()
    ))
}
