//! TTIN, TTOU and WINCH.

use worker_api::message::{Command, Report};
use worker_api::scoreboard::PodPhase;

use super::pod::{Pod, policy, secs};
use crate::fleet::{Event, Level, Policy, Signal};

#[test]
fn ttin_adds_a_worker() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.tell(Event::ScaleOut);
    assert_eq!(pod.fleet.target(), 3);
    assert_eq!(pod.last_order().slot, 2);
}

#[test]
fn ttou_retires_the_highest_slot() {
    let mut pod = Pod::ready(policy(Level::Native, 3));
    let last = pod.in_state("ready")[2];
    pod.tell(Event::ScaleIn);
    assert_eq!(pod.in_state("retiring"), [last]);
    assert_eq!(pod.commands(last), [Command::Retire { deadline: secs(75) }]);
    pod.finishes(last);
    assert_eq!(pod.orders().len(), 3, "it is not replaced");
}

#[test]
fn ttou_takes_who_does_not_serve_yet_first() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.tell(Event::ScaleOut);
    let booting = pod.in_state("booting")[0];
    pod.tell(Event::ScaleIn);
    assert_eq!(pod.signals(booting), [Signal::Stop]);
    assert_eq!(pod.in_state("ready").len(), 2);
}

#[test]
fn ttou_stops_at_min_ready() {
    let mut pod = Pod::ready(Policy {
        min_ready: 2,
        ..policy(Level::Native, 3)
    });
    for _ in 0..5 {
        pod.tell(Event::ScaleIn);
    }
    assert_eq!(pod.fleet.target(), 2);
    assert_eq!(pod.in_state("ready").len(), 2);
}

#[test]
fn a_surplus_waits_until_enough_others_are_ready() {
    let mut pod = Pod::booting(Policy {
        min_ready: 1,
        ..policy(Level::Native, 3)
    });
    let workers = pod.in_state("booting");
    pod.gets_ready(workers[0]);
    pod.tell(Event::ScaleIn);
    pod.tell(Event::ScaleIn);
    assert_eq!(pod.in_state("ready"), [workers[0]]);
}

#[test]
fn winch_retires_every_worker_and_keeps_the_master() {
    let mut pod = Pod::ready(policy(Level::Native, 3));
    pod.tell(Event::RetireAll);
    assert_eq!(pod.in_state("retiring").len(), 3);
    pod.all_leaving_finish();
    pod.pass(secs(3600));
    assert_eq!(pod.orders().len(), 3);
    assert_eq!(pod.exit(), None);
    assert_eq!(pod.phase(), PodPhase::Ready);
    assert!(pod.fleet.ready_workers() < pod.fleet.min_ready());
}

#[test]
fn after_winch_ttin_and_hup_bring_workers_back() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.tell(Event::RetireAll);
    pod.all_leaving_finish();
    pod.tell(Event::ScaleOut);
    pod.all_get_ready();
    assert_eq!(pod.in_state("ready").len(), 1);
    pod.reload(policy(Level::Native, 2));
    for _ in 0..5 {
        pod.all_get_ready();
        pod.pass(secs(1));
        pod.all_leaving_finish();
    }
    assert_eq!(pod.in_state("ready").len(), 2);
}

#[test]
fn a_place_that_was_given_up_is_not_filled_by_scaling_in() {
    let mut pod = Pod::ready(policy(Level::Native, 3));
    let worker = pod.in_state("ready")[0];
    pod.says(worker, Report::Fatal("licence revoked".into()));
    pod.exits(worker, 1);
    pod.tell(Event::ScaleIn);
    pod.pass(secs(60));
    assert_eq!(pod.orders().len(), 3);
}

#[test]
fn ttou_after_winch_brings_nobody_back() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.tell(Event::RetireAll);
    pod.tell(Event::ScaleIn);
    assert_eq!(pod.fleet.target(), 0);
    assert_eq!(pod.orders().len(), 2);
}

#[test]
fn after_winch_ttin_counts_from_none_whoever_had_given_up_before() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let worker = pod.in_state("ready")[0];
    pod.says(worker, Report::Fatal("licence revoked".into()));
    pod.exits(worker, 1);
    pod.tell(Event::RetireAll);
    pod.all_leaving_finish();
    pod.tell(Event::ScaleOut);
    assert_eq!(pod.in_state("booting").len(), 1);
}
