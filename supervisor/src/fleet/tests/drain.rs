//! The end: drain, force, and the exit status.

use worker_api::message::{Command, Report};
use worker_api::scoreboard::PodPhase;

use super::pod::{Pod, millis, policy, secs};
use crate::fleet::{Action, Event, ExitStatus, Level, Notice, Signal, WorkerId};

/// In drain, with its workers.
fn draining(level: Level, count: usize) -> (Pod, Vec<WorkerId>) {
    let mut pod = Pod::ready(policy(level, count));
    let workers = pod.in_state("ready");
    pod.tell(Event::Terminate);
    pod.pass(secs(10));
    assert_eq!(pod.phase(), PodPhase::Drain);
    (pod, workers)
}

#[test]
fn every_worker_is_told_to_drain_and_the_listeners_are_closed() {
    let (pod, workers) = draining(Level::Native, 2);
    for worker in workers {
        assert_eq!(pod.commands(worker), [Command::Lameduck, Command::Drain]);
        assert_eq!(pod.signals(worker), [Signal::Term], "not twice");
    }
    let closed = pod.record().filter(|a| **a == Action::CloseListeners);
    assert_eq!(closed.count(), 1);
}

#[test]
fn clients_are_turned_away_before_workers_that_know_what_that_means_are_told_to_drain() {
    let (pod, workers) = draining(Level::Native, 2);
    let drain = Action::Command {
        worker: workers[0],
        command: Command::Drain,
    };
    let place = |action| pod.record().position(|other| *other == action);
    assert!(place(Action::TurnAway).unwrap() < place(drain).unwrap());
    for level in [Level::Plain, Level::Notify] {
        let (pod, _) = draining(level, 2);
        assert!(!pod.record().any(|action| *action == Action::TurnAway));
    }
}

#[test]
fn a_reload_turns_nobody_away() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.reload(policy(Level::Native, 2));
    pod.pass(secs(100));
    assert!(!pod.record().any(|action| *action == Action::TurnAway));
}

#[test]
fn the_master_exits_in_the_instant_in_which_the_last_worker_is_reaped() {
    let (mut pod, workers) = draining(Level::Native, 2);
    pod.pass(millis(300));
    pod.finishes(workers[0]);
    pod.drained(workers[1], 0);
    assert_eq!(pod.exit(), None);
    let done = pod.exits(workers[1], 0);
    assert_eq!(done.last(), Some(&Action::Exit(ExitStatus::Clean)));
    assert_eq!(pod.phase(), PodPhase::Exit);
    assert_eq!(pod.fleet.next_deadline(), None);
}

#[test]
fn a_worker_that_crashes_in_drain_is_not_replaced() {
    let (mut pod, workers) = draining(Level::Native, 2);
    pod.is_killed(workers[0], 11);
    assert_eq!(pod.orders().len(), 2);
    assert_eq!(pod.exit(), None, "the other one still works");
}

#[test]
fn a_native_worker_that_does_not_finish_may_tell_what_it_aborts_before_it_is_killed() {
    let (mut pod, workers) = draining(Level::Native, 1);
    pod.pass(millis(14_999));
    assert_eq!(pod.commands(workers[0]).last(), Some(&Command::Drain));
    pod.pass(millis(1));
    assert_eq!(pod.phase(), PodPhase::Force);
    assert_eq!(pod.commands(workers[0]).last(), Some(&Command::Quit));
    pod.pass(millis(999));
    assert_eq!(pod.signals(workers[0]), [Signal::Term]);
    pod.pass(millis(1));
    assert_eq!(pod.signals(workers[0]), [Signal::Term, Signal::Kill]);
    pod.is_killed(workers[0], 9);
    assert_eq!(pod.exit(), Some(ExitStatus::Aborted));
}

#[test]
fn a_plain_worker_that_swallows_its_stop_signal_is_killed_at_drain_timeout() {
    let (mut pod, workers) = draining(Level::Plain, 1);
    pod.pass(secs(15));
    assert_eq!(pod.signals(workers[0]), [Signal::Stop, Signal::Kill]);
    let forced = pod
        .notices()
        .any(|n| matches!(n, Notice::Forced { worker, .. } if *worker == workers[0]));
    assert!(forced, "told by name");
    pod.is_killed(workers[0], 9);
    assert_eq!(pod.exit(), Some(ExitStatus::Aborted));
}

#[test]
fn a_worker_that_has_drained_and_stays_is_killed_and_nothing_was_lost() {
    let (mut pod, workers) = draining(Level::Native, 1);
    pod.drained(workers[0], 0);
    pod.pass(secs(15));
    assert_eq!(pod.commands(workers[0]).last(), Some(&Command::Drain));
    assert_eq!(pod.signals(workers[0]).last(), Some(&Signal::Kill));
    pod.is_killed(workers[0], 9);
    assert_eq!(pod.exit(), Some(ExitStatus::Clean));
}

#[test]
fn requests_that_a_worker_had_to_cut_off_show_in_the_exit_status() {
    let (mut pod, workers) = draining(Level::Native, 1);
    pod.drained(workers[0], 2);
    pod.exits(workers[0], 0);
    assert_eq!(pod.exit(), Some(ExitStatus::Aborted));
}

#[test]
fn requests_cut_off_by_an_earlier_retire_do_not() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.tell(Event::ScaleIn);
    let retired = pod.in_state("retiring")[0];
    pod.drained(retired, 1);
    pod.exits(retired, 0);
    pod.tell(Event::Terminate);
    pod.pass(secs(10));
    pod.all_leaving_finish();
    assert_eq!(pod.exit(), Some(ExitStatus::Clean));
}

#[test]
fn sigint_goes_straight_to_drain_and_the_second_aborts() {
    let mut pod = Pod::ready(policy(Level::Native, 1));
    let worker = pod.in_state("ready")[0];
    pod.tell(Event::Interrupt);
    assert_eq!(pod.phase(), PodPhase::Drain);
    assert_eq!(pod.commands(worker), [Command::Drain]);
    assert_eq!(pod.signals(worker), [Signal::Term]);
    pod.pass(millis(101));
    pod.tell(Event::Interrupt);
    assert_eq!(pod.phase(), PodPhase::Force);
    assert_eq!(pod.commands(worker), [Command::Drain, Command::Quit]);
}

#[test]
fn sigterm_then_sigint_twice_goes_through_every_phase() {
    let mut pod = Pod::ready(policy(Level::Native, 1));
    let worker = pod.in_state("ready")[0];
    pod.tell(Event::Terminate);
    assert_eq!(pod.phase(), PodPhase::Lameduck);
    pod.tell(Event::Interrupt);
    assert_eq!(pod.phase(), PodPhase::Drain);
    pod.pass(millis(101));
    pod.tell(Event::Interrupt);
    assert_eq!(pod.phase(), PodPhase::Force);
    pod.pass(secs(1));
    pod.is_killed(worker, 9);
    assert_eq!(pod.exit(), Some(ExitStatus::Aborted));
}

#[test]
fn the_first_sigint_in_a_drain_is_no_second_one() {
    let (mut pod, _) = draining(Level::Native, 1);
    pod.tell(Event::Interrupt);
    assert_eq!(pod.phase(), PodPhase::Drain);
    pod.pass(millis(101));
    pod.tell(Event::Interrupt);
    assert_eq!(pod.phase(), PodPhase::Force);
}

#[test]
fn one_sigint_that_comes_twice_is_one() {
    let mut pod = Pod::ready(policy(Level::Native, 1));
    pod.tell(Event::Interrupt);
    pod.pass(millis(2));
    pod.tell(Event::Interrupt);
    assert_eq!(pod.phase(), PodPhase::Drain);
}

#[test]
fn sigquit_aborts_from_any_phase() {
    for level in [Level::Plain, Level::Native] {
        let mut pod = Pod::ready(policy(level, 1));
        let worker = pod.in_state("ready")[0];
        pod.tell(Event::Quit);
        assert_eq!(pod.phase(), PodPhase::Force);
        assert!(!pod.is_healthy());
        if level == Level::Native {
            assert_eq!(pod.commands(worker), [Command::Quit]);
        } else {
            assert_eq!(pod.signals(worker), [Signal::Kill]);
        }
        pod.exits(worker, 1);
        assert_eq!(pod.exit(), Some(ExitStatus::Aborted));
    }
}

#[test]
fn sigquit_in_boot_aborts_no_work() {
    let mut pod = Pod::booting(policy(Level::Native, 1));
    let worker = pod.in_state("booting")[0];
    pod.tell(Event::Quit);
    assert_eq!(pod.signals(worker), [Signal::Kill]);
    pod.is_killed(worker, 9);
    assert_eq!(pod.exit(), Some(ExitStatus::Clean));
}

#[test]
fn a_worker_is_killed_once_however_often_it_is_asked_for() {
    let (mut pod, workers) = draining(Level::Native, 1);
    pod.tell(Event::Quit);
    pod.tell(Event::Quit);
    pod.pass(secs(60));
    pod.tell(Event::Quit);
    let kills = pod.signals(workers[0]);
    assert_eq!(kills.iter().filter(|s| **s == Signal::Kill).count(), 1);
}

#[test]
fn a_worker_that_was_retiring_is_drained_with_the_others() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.tell(Event::ScaleIn);
    let retiring = pod.in_state("retiring")[0];
    pod.tell(Event::Terminate);
    pod.pass(secs(10));
    assert_eq!(pod.commands(retiring).last(), Some(&Command::Drain));
    pod.pass(secs(15));
    assert_eq!(pod.commands(retiring).last(), Some(&Command::Quit));
}

#[test]
fn more_time_is_given_within_the_drain_but_not_beyond_it() {
    let (mut pod, workers) = draining(Level::Notify, 1);
    pod.says(workers[0], Report::ExtendTimeout(secs(3600)));
    pod.pass(secs(15));
    assert_eq!(pod.signals(workers[0]), [Signal::Stop, Signal::Kill]);
}

#[test]
fn a_shutdown_that_nobody_helps_ends_within_the_grace_period() {
    for level in [Level::Plain, Level::Notify, Level::Native] {
        let mut pod = Pod::ready(policy(level, 3));
        let began = pod.now;
        pod.tell(Event::Terminate);
        pod.pass(secs(60));
        for worker in pod.in_state("killed") {
            pod.is_killed(worker, 9);
        }
        let kill = Action::Signal {
            worker: WorkerId(3),
            signal: Signal::Kill,
        };
        let killed = pod.when(|action| *action == kill).expect("killed");
        assert!(
            killed - began <= secs(30),
            "{level:?}: {:?}",
            killed - began
        );
        assert_eq!(pod.exit(), Some(ExitStatus::Aborted));
    }
}

#[test]
fn after_the_exit_nothing_is_done_any_more() {
    let (mut pod, workers) = draining(Level::Native, 1);
    pod.finishes(workers[0]);
    for event in [
        Event::Terminate,
        Event::Interrupt,
        Event::Quit,
        Event::Tick,
        Event::Traffic {
            served: 1,
            refused: 1,
        },
    ] {
        assert_eq!(pod.tell(event), []);
    }
}
