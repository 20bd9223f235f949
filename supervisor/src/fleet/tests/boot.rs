//! From the start to a pod that is ready, or to a start that is given up.

use std::time::Duration;

use worker_api::message::{Command, Report};
use worker_api::scoreboard::PodPhase;

use super::pod::{Pod, millis, policy, secs};
use crate::fleet::{Action, Carrier, Event, ExitStatus, Level, Policy, Signal, SpawnFailure};

#[test]
fn a_start_orders_a_worker_for_each_place() {
    let pod = Pod::booting(policy(Level::Native, 3));
    let slots: Vec<usize> = pod.orders().iter().map(|order| order.slot).collect();
    assert_eq!(slots, [0, 1, 2]);
    assert_eq!(pod.phase(), PodPhase::Boot);
    assert!(!pod.is_healthy());
}

#[test]
fn the_pod_is_ready_with_min_ready_workers_and_not_before() {
    let mut pod = Pod::booting(Policy {
        min_ready: 2,
        ..policy(Level::Native, 3)
    });
    let booting = pod.in_state("booting");
    pod.gets_ready(booting[0]);
    assert_eq!(pod.phase(), PodPhase::Boot);
    pod.gets_ready(booting[1]);
    assert_eq!(pod.phase(), PodPhase::Ready);
    assert!(pod.is_healthy());
}

#[test]
fn a_plain_worker_is_ready_when_it_has_lived_for_ready_after() {
    let mut pod = Pod::booting(policy(Level::Plain, 1));
    pod.pass(millis(999));
    assert_eq!(pod.phase(), PodPhase::Boot);
    pod.pass(millis(1));
    assert_eq!(pod.phase(), PodPhase::Ready);
}

#[test]
fn a_notify_worker_is_ready_when_it_says_so() {
    let mut pod = Pod::booting(policy(Level::Notify, 1));
    pod.pass(secs(5));
    assert_eq!(pod.phase(), PodPhase::Boot);
    let worker = pod.in_state("booting")[0];
    pod.says(worker, Report::Ready);
    assert_eq!(pod.phase(), PodPhase::Ready);
}

#[test]
fn a_worker_of_unknown_level_is_what_it_shows_to_be() {
    let auto = Policy {
        level: None,
        ..policy(Level::Plain, 3)
    };
    let mut pod = Pod::booting(auto);
    let workers = pod.in_state("booting");
    let hello = Report::Hello { version: 1 };
    for (worker, carrier, report) in [
        (workers[1], Carrier::Notify, Report::Status("boots".into())),
        (workers[2], Carrier::Control, hello),
    ] {
        pod.tell(Event::Reported {
            worker,
            carrier,
            report,
        });
    }
    pod.pass(secs(2));
    let levels: Vec<Level> = pod.fleet.workers().iter().map(|w| w.level()).collect();
    assert_eq!(levels, [Level::Plain, Level::Notify, Level::Native]);
    assert_eq!(
        pod.in_state("ready"),
        [workers[0]],
        "the others must say so"
    );
}

#[test]
fn an_idle_pod_waits_for_nothing() {
    for level in [Level::Plain, Level::Notify, Level::Native] {
        let pod = Pod::ready(policy(level, 4));
        assert_eq!(pod.fleet.next_deadline(), None, "{level:?}");
    }
}

#[test]
fn who_is_not_ready_within_boot_timeout_may_leave_a_trace_and_is_killed() {
    let mut pod = Pod::booting(Policy {
        min_ready: 2,
        ..policy(Level::Notify, 2)
    });
    let workers = pod.in_state("booting");
    pod.gets_ready(workers[0]);
    pod.pass(millis(59_999));
    assert_eq!(pod.signals(workers[1]), []);
    pod.pass(millis(1));
    assert_eq!(pod.signals(workers[1]), [Signal::Abort]);
    assert_eq!(
        pod.orders().len(),
        3,
        "its replacement does not wait for its end"
    );
    pod.pass(secs(1));
    assert_eq!(pod.signals(workers[1]), [Signal::Abort, Signal::Kill]);
}

#[test]
fn who_asks_for_more_time_to_boot_gets_it() {
    let mut pod = Pod::booting(policy(Level::Notify, 1));
    let worker = pod.in_state("booting")[0];
    pod.pass(secs(50));
    pod.says(worker, Report::ExtendTimeout(secs(40)));
    pod.pass(secs(39));
    assert_eq!(pod.signals(worker), []);
    pod.pass(secs(1));
    assert_eq!(pod.signals(worker), [Signal::Abort]);
}

#[test]
fn sigterm_in_boot_ends_at_once_with_status_0() {
    let mut pod = Pod::booting(policy(Level::Native, 2));
    let workers = pod.in_state("booting");
    pod.tell(Event::Terminate);
    assert_eq!(pod.phase(), PodPhase::Drain);
    for worker in workers {
        assert_eq!(pod.commands(worker), [Command::Drain]);
        assert_eq!(pod.signals(worker), [Signal::Stop]);
        pod.is_killed(worker, 15);
    }
    assert_eq!(pod.exit(), Some(ExitStatus::Clean));
    assert!(!pod.is_healthy());
}

#[test]
fn a_worker_that_gets_its_handlers_after_sigterm_is_told_again() {
    let mut pod = Pod::booting(policy(Level::Native, 1));
    let worker = pod.in_state("booting")[0];
    pod.tell(Event::Terminate);
    pod.greets(worker);
    assert_eq!(pod.commands(worker), [Command::Drain, Command::Drain]);
    assert_eq!(pod.signals(worker), [Signal::Stop, Signal::Term]);
}

#[test]
fn a_booting_worker_that_ignores_sigterm_does_not_hold_up_the_exit() {
    let mut pod = Pod::booting(policy(Level::Plain, 1));
    let worker = pod.in_state("booting")[0];
    pod.tell(Event::Terminate);
    pod.pass(secs(1));
    assert_eq!(pod.signals(worker), [Signal::Stop, Signal::Kill]);
    pod.is_killed(worker, 9);
    assert_eq!(
        pod.exit(),
        Some(ExitStatus::Clean),
        "it had nothing to lose"
    );
}

#[test]
fn boots_that_fail_in_a_row_give_up_the_start() {
    for (status, expected) in [(1, ExitStatus::WorkerBoot), (4, ExitStatus::AppLoad)] {
        let mut pod = Pod::booting(policy(Level::Native, 1));
        for failures in 1..=5 {
            assert_eq!(pod.exit(), None, "after {failures} failures");
            let worker = pod.last_order().worker;
            pod.exits(worker, status);
            if failures < 5 {
                pod.pass(secs(30));
            }
        }
        assert_eq!(pod.exit(), Some(expected));
    }
}

#[test]
fn a_boot_that_succeeds_in_between_clears_the_record() {
    let mut pod = Pod::booting(Policy {
        min_ready: 2,
        ..policy(Level::Native, 2)
    });
    let first = pod.in_state("booting")[0];
    for _ in 0..4 {
        let worker = pod.last_order().worker;
        pod.exits(worker, 1);
        pod.pass(secs(1));
    }
    pod.gets_ready(first);
    let worker = pod.last_order().worker;
    pod.exits(worker, 1);
    assert_eq!(pod.phase(), PodPhase::Boot);
}

#[test]
fn an_app_that_is_not_there_gives_up_the_start_at_once() {
    let mut pod = Pod::booting(policy(Level::Native, 1));
    let worker = pod.in_state("booting")[0];
    pod.tell(Event::SpawnFailed {
        worker,
        failure: SpawnFailure::App("no such file".into()),
    });
    assert_eq!(pod.exit(), Some(ExitStatus::AppLoad));
}

#[test]
fn a_configuration_that_does_not_hold_gives_up_the_start_at_once() {
    let mut pod = Pod::booting(policy(Level::Native, 1));
    let worker = pod.in_state("booting")[0];
    pod.tell(Event::SpawnFailed {
        worker,
        failure: SpawnFailure::Config("the hook on_starting failed".into()),
    });
    assert_eq!(pod.exit(), Some(ExitStatus::Config));
}

#[test]
fn a_worker_that_says_fatal_gives_up_the_start_at_once() {
    let mut pod = Pod::booting(policy(Level::Native, 2));
    let workers = pod.in_state("booting");
    pod.says(workers[0], Report::Fatal("no database".into()));
    pod.exits(workers[0], 1);
    assert_eq!(pod.phase(), PodPhase::Drain);
    pod.exits(workers[1], 0);
    assert_eq!(pod.exit(), Some(ExitStatus::WorkerBoot));
}

#[test]
fn a_start_that_is_given_up_lets_ready_workers_finish() {
    let mut pod = Pod::booting(Policy {
        min_ready: 2,
        ..policy(Level::Native, 2)
    });
    let ready = pod.in_state("booting")[0];
    pod.gets_ready(ready);
    for _ in 0..5 {
        let worker = pod.last_order().worker;
        pod.exits(worker, 1);
        pod.pass(secs(1));
    }
    assert_eq!(pod.exit(), None);
    assert_eq!(pod.commands(ready), [Command::Drain]);
    pod.finishes(ready);
    assert_eq!(pod.exit(), Some(ExitStatus::WorkerBoot));
}

#[test]
fn sigterm_before_any_worker_is_there_exits_cleanly() {
    let mut pod = Pod::booting(policy(Level::Native, 1));
    let worker = pod.in_state("booting")[0];
    pod.exits(worker, 1);
    pod.exits(pod.last_order().worker, 1);
    assert_eq!(pod.fleet.workers().len(), 0, "the next one waits");
    pod.tell(Event::Terminate);
    assert_eq!(pod.exit(), Some(ExitStatus::Clean));
}

#[test]
fn the_phase_is_written_before_anything_else_at_start() {
    let mut fleet =
        crate::fleet::Fleet::new(crate::fleet::Generation(1), policy(Level::Native, 1), 7);
    let actions = fleet.handle(Event::Started, crate::fleet::Moment::at(Duration::ZERO));
    assert_eq!(actions[0], Action::SetPhase(PodPhase::Boot));
}
