//! Workers as real processes, under a master that this test plays.
#![cfg(test)]

use std::io::{BufRead, BufReader, Lines};
use std::net::TcpListener;
use std::num::NonZeroU64;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command as Process, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::process::{Pid, PidfdFlags, Signal};
use worker_api::message::{Command, Report};
use worker_api::{Forked, Handover, Listener, PodPhase, Row, Scoreboard, Stage, Worker};

/// Nothing here takes a second; whoever waits so long has found a bug.
const LONG: Duration = Duration::from_secs(60);

/// Puts the inherited descriptors where the contract wants them and keeps the pid over the exec.
const HAND_OVER: &str = r#"exec 3<&0 4<&1 5<&2 0</dev/null 1>/dev/null 2>&1
LISTEN_PID=$$ exec "$@""#;

/// The other end of every test below; does nothing unless one of them starts it.
#[test]
#[ignore = "it is the worker of the other tests"]
fn worker_process() {
    let Ok(role) = std::env::var("WORKER_ROLE") else {
        return;
    };
    if role == "deaf to SIGTERM" {
        // As an app does that takes SIGTERM for itself; this is the process's only thread yet.
        let mut mask = nix::sys::signal::SigSet::empty();
        mask.add(nix::sys::signal::SIGTERM);
        mask.thread_block().unwrap();
    }
    let worker = match role.as_str() {
        "forked" => forked(),
        _ => Worker::init().unwrap(),
    };
    let listeners = worker.take_listeners();
    let names: Vec<_> = listeners.iter().map(Listener::name).collect();
    worker.status(&format!(
        "{names:?} {} {}",
        worker.slot(),
        worker.generation()
    ));
    match role.as_str() {
        "stubborn" => loop {
            thread::park();
        },
        "twice" => assert!(Worker::init().is_err(), "a process has one worker"),
        "parent" => {
            let child = myself()
                .env("WORKER_ROLE", "child")
                .env("PORT", "0")
                .status()
                .unwrap();
            assert!(child.success());
        }
        "child" => {
            assert!(
                !worker.is_supervised(),
                "what its parent inherited is not meant for it"
            );
            assert_eq!(names, ["standalone"]);
            return;
        }
        "leaves" => leaves(&worker, Stage::Serving, Stage::Serving),
        "leaves a pod that goes down" => leaves(&worker, Stage::Lameduck, Stage::Draining),
        "tell stages" => {
            println!("\nserving");
            for stage in [Stage::Draining, Stage::Forced] {
                worker.drain().wait(stage);
                println!("{stage:?} {}", worker.health().is_healthy());
            }
            return;
        }
        _ => {}
    }
    worker.ready();
    worker.drain().wait(Stage::Draining);
    worker.drained();
}

/// Leaves, and does so again, when it has come so far; that is what comes of it.
fn leaves(worker: &Worker, at: Stage, then: Stage) {
    worker.ready();
    worker.drain().wait(at);
    worker.leave();
    worker.leave();
    assert_eq!(worker.drain().stage(), then);
}

#[test]
fn a_worker_takes_what_it_is_given_and_drains_when_told() {
    let mut master = Master::starts("obedient", &[]);
    assert_eq!(master.hear(), Report::Hello { version: 1 });
    assert_eq!(master.hear(), Report::Status(r#"["web"] 1 3"#.into()));
    assert_eq!(master.hear(), Report::Ready);
    assert_eq!(master.row.snapshot().pid, master.child.id());
    master.tell(&Command::Drain);
    assert_eq!(
        master.hear(),
        Report::Drained {
            served: 0,
            aborted: 0
        }
    );
    assert!(master.wait().success());
}

#[test]
fn the_forwarded_sigterm_does_not_kill() {
    let mut master = Master::ready("obedient", &[]);
    for signal in [Signal::TERM, Signal::INT, Signal::TERM] {
        master.kill(signal);
    }
    master.board.set_pod_healthy(false);
    master.tell(&Command::Lameduck);
    assert_eq!(master.hear(), Report::Unhealthy);
    master.tell(&Command::Drain);
    assert!(master.wait().success());
}

#[test]
fn an_app_that_takes_sigterm_for_itself_still_drains() {
    let mut master = Master::ready("deaf to SIGTERM", &[]);
    master.board.set_phase(PodPhase::Lameduck);
    master.board.set_pod_healthy(false);
    master.kill(Signal::TERM);
    master.tell(&Command::Lameduck);
    assert_eq!(master.hear(), Report::Unhealthy);
    master.tell(&Command::Drain);
    assert!(master.wait().success());
}

#[test]
fn a_worker_whose_master_dies_ends_by_itself() {
    let mut master = Master::ready("obedient", &[]);
    master.dies();
    assert!(master.wait().success());
}

#[test]
fn a_stubborn_worker_whose_master_dies_kills_itself() {
    let mut master = Master::starts("stubborn", &[("GRACEFORK_DRAIN_TIMEOUT_USEC", "1000")]);
    assert_eq!(master.hear(), Report::Hello { version: 1 });
    master.dies();
    assert_eq!(master.wait().signal(), Some(Signal::KILL.as_raw()));
}

#[test]
fn a_process_has_one_worker() {
    let mut master = Master::ready("twice", &[]);
    master.tell(&Command::Drain);
    assert!(master.wait().success());
}

#[test]
fn a_child_of_a_worker_takes_nothing_of_its_parents() {
    let mut master = Master::ready("parent", &[]);
    master.tell(&Command::Drain);
    assert!(master.wait().success());
}

#[test]
fn a_slot_that_is_not_on_the_scoreboard_is_an_error() {
    let mut master = Master::starts("obedient", &[("GRACEFORK_WORKER", "2")]);
    assert!(!master.wait().success());
}

#[test]
fn without_a_master_sigterm_drains_and_an_interrupt_after_it_forces() {
    let (mut child, mut lines) = standalone();
    told(&mut lines, "serving");
    kill(&child, Signal::TERM);
    told(&mut lines, "Draining false");
    kill(&child, Signal::TERM);
    kill(&child, Signal::INT);
    told(&mut lines, "Forced false");
    assert!(wait(&mut child).success());
}

#[test]
fn without_a_master_an_interrupt_drains_and_a_second_one_forces() {
    let (mut child, mut lines) = standalone();
    told(&mut lines, "serving");
    kill(&child, Signal::INT);
    told(&mut lines, "Draining false");
    kill(&child, Signal::INT);
    told(&mut lines, "Forced false");
    assert!(wait(&mut child).success());
}

#[test]
fn a_forked_worker_has_what_its_fork_server_was_given_and_what_it_was_told() {
    // What is said of a single worker is not for the workers of a fork server.
    let mut master = Master::starts("forked", &[("GRACEFORK_WORKER", "0")]);
    assert_eq!(master.hear(), Report::Hello { version: 1 });
    assert_eq!(master.hear(), Report::Status(r#"["web"] 1 7"#.into()));
    assert_eq!(master.hear(), Report::Ready);
    assert_eq!(master.row.snapshot().pid, master.child.id());
    master.tell(&Command::Drain);
    assert!(master.wait().success());
}

#[test]
fn a_worker_that_wants_to_leave_asks_for_another_and_serves_until_it_is_told() {
    let mut master = Master::ready("leaves", &[]);
    assert_eq!(master.hear(), Report::Replace);
    master.tell(&Command::Drain);
    let (served, aborted) = (0, 0);
    assert_eq!(master.hear(), Report::Drained { served, aborted });
    assert!(master.wait().success());
}

#[test]
fn a_worker_that_leaves_a_pod_that_goes_down_says_so_and_drains() {
    let mut master = Master::ready("leaves a pod that goes down", &[]);
    master.board.set_phase(PodPhase::Lameduck);
    master.tell(&Command::Lameduck);
    while master.hear() != Report::Stopping {}
    let (served, aborted) = (0, 0);
    assert_eq!(master.hear(), Report::Drained { served, aborted });
    assert!(master.wait().success());
}

/// What a child of a fork server does, here in the very process that the master has started.
fn forked() -> Worker {
    let handover = Handover::take().unwrap();
    assert!(Handover::take().is_err(), "a process takes it once");
    // The master has put the channel there.
    let control = worker_api::duplicate(4).unwrap();
    let forked = Forked {
        handover,
        control,
        slot: 1,
        generation: 7,
        max_requests: NonZeroU64::new(9),
    };
    let worker = Worker::builder().forked(forked).init().unwrap();
    assert_eq!(worker.settings().max_requests, NonZeroU64::new(9));
    worker
}

/// The master's side of one worker.
struct Master {
    child: Child,
    channel: Option<OwnedFd>,
    board: Scoreboard,
    row: Row,
}

impl Master {
    /// Starts a worker in slot 1 of 2, generation 3, in a pod that serves.
    fn starts(role: &str, more: &[(&str, &str)]) -> Self {
        let (board, scoreboard) = Scoreboard::create(2).unwrap();
        board.set_phase(PodPhase::Ready);
        board.set_pod_healthy(true);
        let row = board.row(1).unwrap();
        row.reset(0, 3);
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (mine, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        sockopt::set_socket_timeout(&mine, sockopt::Timeout::Recv, Some(LONG)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let worker = myself();
        let child = Process::new("sh")
            .args(["-c", HAND_OVER, "sh"])
            .arg(worker.get_program())
            .args(worker.get_args())
            .env("WORKER_ROLE", role)
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", "web")
            .env("GRACEFORK_WORKER", "1")
            .env("GRACEFORK_GENERATION", "3")
            .env("GRACEFORK_CONTROL_FD", "4")
            .env("GRACEFORK_SCOREBOARD_FD", "5")
            .envs(more.iter().copied())
            .stdin(OwnedFd::from(listener))
            .stdout(theirs)
            .stderr(scoreboard)
            .spawn()
            .unwrap();
        Self {
            child,
            channel: Some(mine),
            board,
            row,
        }
    }

    /// Starts a worker and waits until it has reported ready.
    fn ready(role: &str, more: &[(&str, &str)]) -> Self {
        let master = Self::starts(role, more);
        while master.hear() != Report::Ready {}
        master
    }

    fn tell(&self, command: &Command) {
        let frame = command.encode();
        let channel = self.channel.as_ref().unwrap();
        rustix::net::send(channel, &frame, SendFlags::NOSIGNAL).unwrap();
    }

    fn hear(&self) -> Report {
        let mut frame = [0; 4096];
        let channel = self.channel.as_ref().unwrap();
        let (length, _) = rustix::net::recv(channel, &mut frame, RecvFlags::empty()).unwrap();
        let mut reports = Report::decode(&frame[..length]).unwrap();
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports.remove(0)
    }

    fn kill(&self, signal: Signal) {
        kill(&self.child, signal);
    }

    fn dies(&mut self) {
        self.channel = None;
    }

    fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This test binary, to run as a worker.
fn myself() -> Process {
    let mut process = Process::new(std::env::current_exe().unwrap());
    let alone = ["--test-threads=1", "--nocapture"];
    process
        .args(["--ignored", "--exact", "worker_process"])
        .args(alone);
    process
}

/// A worker by itself, and the lines that it prints.
fn standalone() -> (Mortal, Lines<BufReader<ChildStdout>>) {
    let mut process = myself();
    process
        .env("WORKER_ROLE", "tell stages")
        .env("PORT", "0")
        .stdout(Stdio::piped());
    let mut child = process.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (Mortal(child), lines)
}

/// A child that does not outlive a test that fails.
struct Mortal(Child);

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Deref for Mortal {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Mortal {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

/// Reads on until the worker has said this.
fn told(lines: &mut Lines<BufReader<ChildStdout>>, line: &str) {
    assert!(
        lines.any(|said| said.unwrap() == line),
        "it ended and never said {line:?}"
    );
}

fn kill(child: &Child, signal: Signal) {
    rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
}

fn wait(child: &mut Child) -> ExitStatus {
    let pidfd = rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
    let ended = poll(
        &mut [PollFd::new(&pidfd, PollFlags::IN)],
        Some(&LONG.try_into().unwrap()),
    );
    assert_eq!(ended, Ok(1), "it does not end");
    child.wait().unwrap()
}
