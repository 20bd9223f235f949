//! Workers that say what they should not, and the trust that is put in them.

use worker_api::message::{Command, Report};
use worker_api::scoreboard::PodPhase;

use super::pod::{Pod, policy, secs};
use crate::fleet::{Carrier, Event, ExitStatus, Level, Signal, WorkerId};

#[test]
fn a_status_is_kept_for_people_to_see() {
    let mut pod = Pod::ready(policy(Level::Notify, 1));
    let worker = pod.in_state("ready")[0];
    pod.says(worker, Report::Status("warming up".into()));
    let status = pod.fleet.worker(worker).and_then(|w| w.status());
    assert_eq!(status, Some("warming up"));
}

#[test]
fn a_plain_worker_has_no_say() {
    let mut pod = Pod::booting(policy(Level::Plain, 1));
    let worker = pod.in_state("booting")[0];
    for report in [Report::Ready, Report::Fatal("x".into()), Report::Stopping] {
        pod.says(worker, report);
    }
    assert_eq!(pod.in_state("booting"), [worker]);
}

#[test]
fn words_of_a_worker_that_is_gone_change_nothing() {
    let mut pod = Pod::ready(policy(Level::Native, 1));
    let gone = WorkerId(99);
    for report in [Report::Ready, Report::Fatal("x".into()), Report::Watchdog] {
        assert_eq!(pod.says(gone, report), []);
    }
    assert_eq!(pod.exits(gone, 0), []);
}

#[test]
fn a_leaving_worker_that_says_ready_is_still_leaving() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.tell(Event::ScaleIn);
    let leaving = pod.in_state("retiring")[0];
    for report in [Report::Ready, Report::Watchdog, Report::Served(u64::MAX)] {
        pod.says(leaving, report);
    }
    assert_eq!(pod.in_state("retiring"), [leaving]);
    assert_eq!(pod.orders().len(), 2);
}

#[test]
fn a_ready_worker_that_says_drained_is_replaced_and_later_killed() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let liar = pod.in_state("ready")[0];
    pod.drained(liar, 0);
    assert_eq!(pod.in_state("booting").len(), 1);
    pod.drained(liar, 0);
    assert_eq!(pod.in_state("booting").len(), 1, "once");
    pod.pass(secs(15));
    assert_eq!(pod.signals(liar), [Signal::Kill]);
    assert!(pod.is_healthy());
}

#[test]
fn a_worker_that_greets_twice_is_answered_once() {
    let mut pod = Pod::ready(policy(Level::Native, 1));
    let worker = pod.in_state("ready")[0];
    pod.tell(Event::Terminate);
    pod.greets(worker);
    pod.greets(worker);
    assert_eq!(pod.commands(worker), [Command::Lameduck]);
}

#[test]
fn a_native_worker_may_use_either_carrier() {
    let mut pod = Pod::booting(policy(Level::Native, 1));
    let worker = pod.in_state("booting")[0];
    pod.tell(Event::Reported {
        worker,
        carrier: Carrier::Notify,
        report: Report::Ready,
    });
    assert_eq!(pod.phase(), PodPhase::Ready);
}

#[test]
fn a_drained_worker_that_extends_its_time_is_not_believed() {
    let mut pod = Pod::ready(policy(Level::Native, 1));
    let worker = pod.in_state("ready")[0];
    pod.tell(Event::Interrupt);
    pod.drained(worker, 0);
    pod.says(worker, Report::ExtendTimeout(secs(3600)));
    pod.pass(secs(15));
    pod.is_killed(worker, 9);
    assert_eq!(pod.exit(), Some(ExitStatus::Clean));
}
