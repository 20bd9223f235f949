//! Who replaces the dead, and when.

use std::time::Duration;

use worker_api::message::Report;
use worker_api::scoreboard::PodPhase;

use super::pod::{Pod, millis, policy, secs};
use crate::fleet::{Action, Event, ExitStatus, Level, Notice, Policy, Signal, SpawnFailure};

/// The waits that were announced, in order.
fn delays(pod: &Pod) -> Vec<Duration> {
    let delays = pod.notices().filter_map(|notice| match notice {
        Notice::Respawn { delay, .. } => Some(*delay),
        _ => None,
    });
    delays.collect()
}

#[test]
fn a_first_crash_is_answered_in_the_same_instant() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let victim = pod.in_state("ready")[0];
    let done = pod.is_killed(victim, 11);
    assert!(
        done.iter()
            .any(|a| matches!(a, Action::Spawn(o) if o.slot == 0))
    );
    assert_eq!(pod.phase(), PodPhase::Ready);
}

#[test]
fn crashes_in_a_row_wait_longer_and_longer_up_to_the_cap_and_never_end_the_pod() {
    let mut pod = Pod::ready(policy(Level::Native, 1));
    for _ in 0..16 {
        let worker = pod.last_order().worker;
        pod.exits(worker, 1);
        pod.pass(secs(30));
    }
    let delays = delays(&pod);
    assert_eq!(delays[0], Duration::ZERO);
    let mut full = millis(100);
    for delay in &delays[1..] {
        assert!(
            full / 2 <= *delay && *delay <= full,
            "{delay:?} of {full:?}"
        );
        full = (full * 2).min(secs(30));
    }
    assert_eq!(pod.phase(), PodPhase::Ready);
}

#[test]
fn who_was_ready_for_long_has_a_clean_record() {
    let mut pod = Pod::ready(policy(Level::Native, 1));
    for (lived, expected_wait) in [(1, false), (1, true), (29, true), (30, false)] {
        let worker = pod.last_order().worker;
        pod.pass(secs(lived));
        pod.exits(worker, 1);
        let waits = delays(&pod).last().is_some_and(|delay| !delay.is_zero());
        assert_eq!(waits, expected_wait, "after {lived} s");
        pod.pass(secs(1));
        pod.all_get_ready();
    }
    assert_eq!(pod.fleet.workers()[0].restarts(), 4);
}

#[test]
fn a_worker_that_the_system_would_not_start_is_tried_again_with_the_same_waits() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.exits(pod.in_state("ready")[0], 1);
    for _ in 0..3 {
        let worker = pod.last_order().worker;
        let failure = SpawnFailure::System("no process left".into());
        pod.tell(Event::SpawnFailed { worker, failure });
        pod.pass(secs(1));
    }
    assert_eq!(pod.orders().len(), 6);
    assert!(delays(&pod)[1..].iter().all(|delay| !delay.is_zero()));
}

#[test]
fn a_worker_that_says_fatal_is_not_replaced_and_the_others_serve_on() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let worker = pod.in_state("ready")[0];
    pod.says(worker, Report::Fatal("licence revoked".into()));
    pod.exits(worker, 1);
    pod.pass(secs(3600));
    assert_eq!(pod.fleet.workers().len(), 1);
    assert_eq!(pod.phase(), PodPhase::Ready);
}

#[test]
fn a_worker_that_says_fatal_as_it_boots_is_tried_again_while_others_serve() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let worker = pod.in_state("ready")[0];
    pod.exits(worker, 1);
    let next = pod.last_order().worker;
    pod.says(next, Report::Fatal("no database just now".into()));
    pod.exits(next, 1);
    pod.pass(secs(30));
    pod.all_get_ready();
    assert_eq!(pod.in_state("ready").len(), 2);
}

#[test]
fn a_pod_whose_workers_have_all_said_fatal_exits_with_3() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    for worker in pod.in_state("ready") {
        pod.says(worker, Report::Fatal("licence revoked".into()));
        pod.exits(worker, 1);
    }
    assert_eq!(pod.exit(), Some(ExitStatus::WorkerBoot));
}

#[test]
fn a_worker_that_stops_its_watchdog_leaves_a_trace_and_is_replaced_at_once() {
    let mut pod = Pod::ready(policy(Level::Notify, 1));
    let worker = pod.in_state("ready")[0];
    pod.says(worker, Report::Watchdog);
    pod.pass(secs(20));
    pod.says(worker, Report::Watchdog);
    pod.pass(millis(29_999));
    assert_eq!(pod.signals(worker), []);
    pod.pass(millis(1));
    assert_eq!(pod.signals(worker), [Signal::Abort]);
    assert_eq!(pod.last_order().slot, 1, "its own row is still in use");
    pod.pass(secs(1));
    assert_eq!(pod.signals(worker), [Signal::Abort, Signal::Kill]);
    pod.is_killed(worker, 9);
    assert_eq!(pod.orders().len(), 2, "replaced once");
}

#[test]
fn a_worker_that_says_it_hangs_leaves_a_trace_and_is_replaced_at_once() {
    let mut pod = Pod::ready(policy(Level::Native, 1));
    let worker = pod.in_state("ready")[0];
    pod.says(worker, Report::Hung);
    assert_eq!(pod.signals(worker), [Signal::Abort]);
    pod.says(worker, Report::Hung);
    pod.pass(secs(1));
    assert_eq!(pod.signals(worker), [Signal::Abort, Signal::Kill]);
    pod.is_killed(worker, 9);
    assert_eq!(pod.orders().len(), 2, "replaced once");
}

#[test]
fn a_hung_worker_that_asks_for_time_gets_it() {
    let mut pod = Pod::ready(policy(Level::Notify, 1));
    let worker = pod.in_state("ready")[0];
    pod.says(worker, Report::Watchdog);
    pod.says(worker, Report::ExtendTimeout(secs(100)));
    pod.pass(secs(99));
    assert_eq!(pod.signals(worker), []);
    pod.pass(secs(1));
    assert_eq!(pod.signals(worker), [Signal::Abort]);
}

#[test]
fn who_never_sent_a_watchdog_is_never_hung() {
    let mut pod = Pod::ready(policy(Level::Notify, 1));
    pod.pass(secs(36_000));
    assert_eq!(pod.in_state("ready").len(), 1);
}

#[test]
fn a_worker_that_stops_by_itself_is_replaced_before_it_is_gone() {
    let mut pod = Pod::ready(policy(Level::Notify, 1));
    let worker = pod.in_state("ready")[0];
    pod.says(worker, Report::Stopping);
    assert_eq!(pod.in_state("booting").len(), 1);
    pod.pass(secs(15));
    assert_eq!(pod.signals(worker), [Signal::Kill], "after drain_timeout");
    pod.is_killed(worker, 9);
    assert_eq!(pod.orders().len(), 2, "replaced once");
}

#[test]
fn readiness_follows_the_count() {
    let mut pod = Pod::ready(Policy {
        min_ready: 2,
        ..policy(Level::Native, 2)
    });
    assert!(pod.fleet.ready_workers() >= pod.fleet.min_ready());
    pod.is_killed(pod.in_state("ready")[0], 9);
    assert!(pod.fleet.ready_workers() < pod.fleet.min_ready());
    pod.all_get_ready();
    assert!(pod.fleet.ready_workers() >= pod.fleet.min_ready());
}

#[test]
fn a_hung_worker_that_drains_after_all_is_replaced_once() {
    let mut pod = Pod::ready(policy(Level::Native, 1));
    let worker = pod.in_state("ready")[0];
    pod.says(worker, Report::Watchdog);
    pod.pass(secs(30));
    assert_eq!(pod.signals(worker), [Signal::Abort]);
    pod.drained(worker, 0);
    pod.pass(secs(1));
    assert_eq!(pod.signals(worker), [Signal::Abort, Signal::Kill]);
    assert_eq!(delays(&pod).len(), 1);
}

#[test]
fn the_time_to_boot_does_not_count_for_the_watchdog() {
    let mut pod = Pod::booting(policy(Level::Notify, 1));
    let worker = pod.in_state("booting")[0];
    pod.says(worker, Report::Watchdog);
    pod.pass(secs(45));
    pod.says(worker, Report::Ready);
    pod.pass(secs(29));
    assert_eq!(pod.in_state("ready"), [worker]);
    pod.pass(secs(1));
    assert_eq!(pod.signals(worker), [Signal::Abort]);
}

#[test]
fn a_worker_that_is_not_wanted_any_more_may_fail_to_start() {
    let mut pod = Pod::booting(policy(Level::Native, 1));
    let worker = pod.in_state("booting")[0];
    pod.reload(policy(Level::Native, 1));
    let failure = SpawnFailure::App("no such file".into());
    pod.tell(Event::SpawnFailed { worker, failure });
    assert_eq!(pod.phase(), PodPhase::Boot);
    assert_eq!(delays(&pod), []);
}

#[test]
fn a_place_that_is_not_wanted_any_more_is_not_filled_when_its_wait_is_over() {
    let mut pod = Pod::ready(policy(Level::Native, 3));
    let workers = pod.in_state("ready");
    for worker in &workers[1..] {
        pod.exits(*worker, 1);
        pod.exits(pod.last_order().worker, 1);
    }
    let ordered = pod.orders().len();
    pod.tell(Event::ScaleIn);
    pod.tell(Event::ScaleIn);
    pod.pass(secs(60));
    assert_eq!(pod.orders().len(), ordered);
    assert_eq!(pod.in_state("ready"), [workers[0]]);
}
