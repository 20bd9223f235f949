use std::sync::mpsc::{Receiver, Sender, channel as queue};
use std::task::{Context, Poll, Waker};

use super::*;
use crate::health::Health;
use crate::hooks::{Hooks, NoHooks, WorkerInfo};
use crate::message::Report;
use crate::scoreboard::WorkerState;
use crate::testing::{patient, supervised, supervised_in};

const FAR: Duration = Duration::from_secs(86_400);
const HELLO: Report = Report::Hello { version: 1 };

/// Tells the test which hook ran, in order.
struct Diary(Sender<&'static str>);

impl Diary {
    fn new() -> (Self, Receiver<&'static str>) {
        let (sender, receiver) = queue();
        (Self(sender), receiver)
    }

    fn note(&self, hook: &'static str) {
        self.0.send(hook).unwrap();
    }
}

impl Hooks for Diary {
    fn post_fork(&self, worker: &WorkerInfo) {
        assert_eq!(
            (worker.slot, worker.generation, worker.pid),
            (1, 3, std::process::id())
        );
        self.note("post_fork");
    }

    fn post_worker_init(&self, _: &WorkerInfo) {
        self.note("post_worker_init");
    }

    fn on_term(&self, _: &WorkerInfo, health: &Health) {
        self.note("on_term");
        health.mark_unhealthy();
    }

    fn on_drain(&self, _: &WorkerInfo) {
        self.note("on_drain");
    }

    fn on_drained(&self, _: &WorkerInfo) {
        self.note("on_drained");
    }

    fn worker_abort(&self, _: &WorkerInfo) {
        self.note("worker_abort");
    }

    fn worker_exit(&self, _: &WorkerInfo) {
        self.note("worker_exit");
    }

    fn reopen_logs(&self, _: &WorkerInfo) {
        self.note("reopen_logs");
    }
}

#[test]
fn a_whole_life_runs_its_hooks_and_reports_in_order() {
    let (diary, notes) = Diary::new();
    let (worker, master) = supervised(diary, patient());
    assert_eq!(notes.recv(), Ok("post_fork"));
    assert_eq!(master.hear(), HELLO);
    assert_eq!((worker.slot(), worker.generation()), (1, 3));
    assert!(worker.is_supervised());
    assert_eq!(master.row.snapshot().state, WorkerState::Booting);

    worker.ready();
    worker.ready();
    assert_eq!(notes.recv(), Ok("post_worker_init"));
    assert_eq!(master.hear(), Report::Ready);
    assert_eq!(master.row.snapshot().state, WorkerState::Ready);
    worker.in_flight().enter().finish(200);
    worker.in_flight().enter().abort();

    master.board.set_phase(PodPhase::Lameduck);
    master.board.set_pod_healthy(false);
    master.tell(&Command::Lameduck);
    master.tell(&Command::Lameduck);
    worker.drain().wait(Stage::Lameduck);
    assert_eq!(notes.recv(), Ok("on_term"));
    assert_eq!(master.hear(), Report::Unhealthy);
    master.tell(&Command::Drain);
    master.tell(&Command::Drain);
    worker.drain().wait(Stage::Draining);
    assert_eq!(notes.recv(), Ok("on_drain"));
    assert_eq!(master.row.snapshot().state, WorkerState::Draining);

    worker.drained();
    worker.drained();
    assert_eq!(notes.recv(), Ok("on_drained"));
    assert_eq!(
        master.hear(),
        Report::Drained {
            served: 1,
            aborted: 1
        }
    );
    assert_eq!(notes.recv(), Ok("worker_exit"));
    assert_eq!(master.row.snapshot().state, WorkerState::Drained);
    master.tell(&Command::Reopen);
    assert_eq!(notes.recv(), Ok("reopen_logs"), "and nothing ran twice");
    assert!(master.heard_all(), "nor was reported twice");
}

#[test]
fn lameduck_turns_the_worker_unhealthy_unless_the_master_still_holds_health_up() {
    let (worker, master) = supervised(NoHooks, patient());
    assert_eq!(master.hear(), HELLO);
    master.tell(&Command::Lameduck);
    worker.drain().wait(Stage::Lameduck);
    assert!(worker.health().is_healthy(), "unready_delay runs");
    master.board.set_pod_healthy(false);
    assert!(!worker.health().is_healthy());
    assert!(master.heard_all());
    assert_eq!(master.row.snapshot().unhealthy_answers, 1);

    let (worker, master) = supervised(NoHooks, patient());
    assert_eq!(master.hear(), HELLO);
    master.board.set_pod_healthy(false);
    master.tell(&Command::Lameduck);
    assert_eq!(master.hear(), Report::Unhealthy);
    master.board.set_pod_healthy(true);
    assert!(!worker.health().is_healthy(), "its own flag");
    assert!(!master.row.snapshot().healthy);
}

#[test]
fn retire_stays_healthy_and_drains_at_its_deadline() {
    let (worker, master) = supervised(NoHooks, patient());
    assert_eq!(master.hear(), HELLO);
    master.tell(&Command::Retire { deadline: FAR });
    worker.drain().wait(Stage::Retiring);
    assert_eq!(master.row.snapshot().state, WorkerState::Retiring);
    // A shorter deadline takes the place of the one that is never reached.
    master.tell(&Command::Retire {
        deadline: Duration::from_millis(1),
    });
    worker.drain().wait(Stage::Draining);
    assert!(worker.health().is_healthy());
    master.tell(&Command::Retire { deadline: FAR });
    master.tell(&Command::Quit);
    worker.drain().wait(Stage::Forced);
    assert!(master.heard_all());
}

#[test]
fn a_deadline_of_all_the_time_there_is_is_no_accident() {
    let (worker, master) = supervised(NoHooks, patient());
    master.tell(&Command::Retire {
        deadline: Duration::from_micros(u64::MAX),
    });
    worker.drain().wait(Stage::Retiring);
    master.tell(&Command::Drain);
    worker.drain().wait(Stage::Draining);
}

#[test]
fn lameduck_while_retiring_turns_unhealthy_and_goes_on_retiring() {
    let (worker, master) = supervised(NoHooks, patient());
    assert_eq!(master.hear(), HELLO);
    master.tell(&Command::Retire { deadline: FAR });
    worker.drain().wait(Stage::Retiring);
    master.board.set_pod_healthy(false);
    master.tell(&Command::Lameduck);
    assert_eq!(master.hear(), Report::Unhealthy);
    assert_eq!(worker.drain().stage(), Stage::Retiring);
}

#[test]
fn a_worker_that_starts_late_behaves_as_if_just_told() {
    for (phase, hooks, stage) in [
        (PodPhase::Boot, vec![], Stage::Serving),
        (PodPhase::Ready, vec![], Stage::Serving),
        (PodPhase::Lameduck, vec!["on_term"], Stage::Lameduck),
        (PodPhase::Drain, vec!["on_drain"], Stage::Draining),
        (PodPhase::Force, vec!["worker_abort"], Stage::Forced),
    ] {
        let (diary, notes) = Diary::new();
        let (worker, _master) = supervised_in(phase, diary, patient());
        assert_eq!(worker.drain().stage(), stage);
        let ran: Vec<_> = notes.try_iter().skip(1).collect();
        assert_eq!(ran, hooks, "in {phase:?}");
    }
}

#[test]
fn garbage_is_passed_over_and_the_next_command_is_heard() {
    let (diary, notes) = Diary::new();
    let (worker, master) = supervised(diary, patient());
    assert_eq!(notes.recv(), Ok("post_fork"));
    for frame in [
        &b""[..],
        b"DRAI",
        b"DRAIN=1\nQUI",
        b"\xff\xfe",
        b"DRAIN=1\0QUIT=1",
        b"RETIRE=1",
        b"RETIRE=1\nDEADLINE_USEC=soon",
        b"UNKNOWN=1",
        &[b'='; 4097],
        &[b'A'; 60_000],
    ] {
        master.tell_raw(frame);
    }
    master.tell(&Command::Reopen);
    assert_eq!(notes.recv(), Ok("reopen_logs"));
    assert_eq!(worker.drain().stage(), Stage::Serving);
}

#[test]
fn two_commands_in_one_frame_are_both_obeyed() {
    let (diary, notes) = Diary::new();
    let (worker, master) = supervised(diary, patient());
    master.tell_raw(b"LAMEDUCK=1\nX=1\nDRAIN=1\n");
    worker.drain().wait(Stage::Draining);
    assert_eq!(
        notes.iter().take(3).collect::<Vec<_>>(),
        ["post_fork", "on_term", "on_drain"]
    );
}

#[test]
fn a_hook_that_panics_does_not_deafen_the_worker() {
    struct Panics;
    impl Hooks for Panics {
        fn on_term(&self, _: &WorkerInfo, _: &Health) {
            panic!("on purpose");
        }
        fn on_drain(&self, _: &WorkerInfo) {
            panic!("on purpose");
        }
    }
    let (worker, master) = supervised(Panics, patient());
    master.tell(&Command::Lameduck);
    worker.drain().wait(Stage::Lameduck);
    master.tell(&Command::Drain);
    worker.drain().wait(Stage::Draining);
}

#[test]
fn without_its_master_a_worker_is_unhealthy_and_drains() {
    let (diary, notes) = Diary::new();
    let (worker, master) = supervised(diary, patient());
    master.dies();
    worker.drain().wait(Stage::Draining);
    assert!(!worker.health().is_healthy());
    assert_eq!(
        notes.iter().take(2).collect::<Vec<_>>(),
        ["post_fork", "on_drain"]
    );
    worker.status("nobody listens");
    worker.drained();
    assert_eq!(worker.drain().stage(), Stage::Draining, "time is left");
}

#[test]
fn the_stage_is_written_before_the_waiters_wake() {
    let (worker, master) = supervised(NoHooks, patient());
    let events = worker.drain().subscribe().unwrap();
    let mut reached = worker.drain().reached(Stage::Lameduck);
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(
        std::pin::Pin::new(&mut reached).poll(&mut context),
        Poll::Pending
    );
    for (command, stage) in [
        (Command::Lameduck, Stage::Lameduck),
        (Command::Retire { deadline: FAR }, Stage::Retiring),
        (Command::Drain, Stage::Draining),
        (Command::Quit, Stage::Forced),
    ] {
        master.tell(&command);
        wait(&mut [PollFd::new(&events, PollFlags::IN)], None);
        events.clear();
        assert_eq!(worker.drain().stage(), stage);
    }
    assert!(
        std::pin::Pin::new(&mut reached)
            .poll(&mut context)
            .is_ready()
    );
}

#[test]
fn the_control_thread_takes_no_signal() {
    let (worker, master) = supervised(NoHooks, patient());
    // Once it has heard something it has its name.
    master.tell(&Command::Drain);
    worker.drain().wait(Stage::Draining);
    let mut seen = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        // Another test's thread may end while we look.
        let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else {
            continue;
        };
        let field = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        // The kernel keeps 15 characters of a name.
        if field("Name:") == "gracefork-contr" {
            let blocked = u64::from_str_radix(&field("SigBlk:"), 16).unwrap();
            for signal in [1, 2, 3, 10, 12, 15, 17, 28] {
                assert!(blocked & (1 << (signal - 1)) != 0, "signal {signal}");
            }
            seen += 1;
        }
    }
    assert!(seen > 0, "the thread goes by its name");
}
