//! SIGTERM: unhealthy first, and serving.

use std::time::Duration;

use worker_api::message::{Command, Report};
use worker_api::scoreboard::PodPhase;

use super::pod::{Pod, millis, policy, secs};
use crate::fleet::{Action, Event, ExitStatus, Level, Moment, Notice, Policy, Shutdown, Signal};

fn shutdown() -> Shutdown {
    policy(Level::Native, 1).shutdown
}

#[test]
fn the_shared_phase_and_health_turn_before_any_worker_is_told() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let done = pod.tell(Event::Terminate);
    let position = |wanted: &dyn Fn(&Action) -> bool| done.iter().position(wanted);
    let phase = position(&|a| *a == Action::SetPhase(PodPhase::Lameduck));
    let health = position(&|a| *a == Action::SetPodHealthy(false));
    let told = position(&|a| matches!(a, Action::Command { .. } | Action::Signal { .. }));
    assert!(
        phase.is_some() && phase < health && health < told,
        "{done:?}"
    );
}

#[test]
fn native_workers_are_told_on_the_channel_and_by_sigterm() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.tell(Event::Terminate);
    for worker in pod.in_state("ready") {
        assert_eq!(pod.commands(worker), [Command::Lameduck]);
        assert_eq!(pod.signals(worker), [Signal::Term]);
    }
}

#[test]
fn plain_and_notify_workers_hear_nothing_until_lameduck_is_over() {
    for level in [Level::Plain, Level::Notify] {
        let mut pod = Pod::ready(policy(level, 1));
        let worker = pod.in_state("ready")[0];
        pod.tell(Event::Terminate);
        pod.pass(millis(9_999));
        assert_eq!(pod.signals(worker), []);
        assert!(!pod.is_healthy());
        pod.pass(millis(1));
        assert_eq!(pod.signals(worker), [Signal::Stop]);
    }
}

#[test]
fn with_term_immediately_sigterm_comes_first_and_the_stop_signal_at_drain() {
    let mut pod = Pod::ready(Policy {
        term_immediately: true,
        ..policy(Level::Plain, 1)
    });
    let worker = pod.in_state("ready")[0];
    pod.tell(Event::Terminate);
    assert_eq!(pod.signals(worker), [Signal::Term]);
    pod.pass(secs(10));
    assert_eq!(pod.signals(worker), [Signal::Term, Signal::Stop]);
}

#[test]
fn health_turns_only_after_unready_delay() {
    let mut pod = Pod::ready(Policy {
        shutdown: Shutdown {
            unready_delay: secs(2),
            ..shutdown()
        },
        ..policy(Level::Native, 1)
    });
    let worker = pod.in_state("ready")[0];
    pod.tell(Event::Terminate);
    pod.pass(millis(1_999));
    assert!(pod.is_healthy());
    assert_eq!(pod.commands(worker), []);
    pod.pass(millis(1));
    assert!(!pod.is_healthy());
    assert_eq!(pod.commands(worker), [Command::Lameduck]);
}

#[test]
fn health_turns_at_drain_at_the_latest() {
    let mut pod = Pod::ready(Policy {
        shutdown: Shutdown {
            unready_delay: secs(20),
            ..shutdown()
        },
        ..policy(Level::Native, 1)
    });
    let worker = pod.in_state("ready")[0];
    pod.tell(Event::Terminate);
    pod.pass(secs(10));
    assert_eq!(pod.phase(), PodPhase::Drain);
    assert!(!pod.is_healthy());
    assert_eq!(pod.commands(worker), [Command::Drain]);
    assert_eq!(
        pod.signals(worker),
        [Signal::Term],
        "for the app's own handler"
    );
}

#[test]
fn sigterm_again_changes_nothing() {
    let mut pod = Pod::ready(policy(Level::Native, 1));
    pod.tell(Event::Terminate);
    pod.pass(secs(5));
    assert_eq!(pod.tell(Event::Terminate), []);
    pod.pass(secs(5));
    assert_eq!(pod.phase(), PodPhase::Drain, "at its time");
    assert_eq!(pod.tell(Event::Terminate), []);
}

#[test]
fn without_lameduck_the_drain_begins_at_once() {
    let mut pod = Pod::ready(Policy {
        shutdown: Shutdown {
            lameduck: Duration::ZERO,
            ..shutdown()
        },
        ..policy(Level::Native, 1)
    });
    let worker = pod.in_state("ready")[0];
    pod.tell(Event::Terminate);
    assert_eq!(pod.phase(), PodPhase::Drain);
    assert_eq!(pod.commands(worker), [Command::Lameduck, Command::Drain]);
    assert_eq!(pod.signals(worker), [Signal::Term], "once is enough");
}

#[test]
fn a_worker_that_crashes_in_lameduck_is_replaced_and_the_replacement_is_told() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let victim = pod.in_state("ready")[0];
    pod.tell(Event::Terminate);
    pod.is_killed(victim, 11);
    let replacement = pod.last_order().worker;
    assert_ne!(replacement, victim);
    pod.greets(replacement);
    assert_eq!(pod.commands(replacement), [Command::Lameduck]);
    assert_eq!(pod.signals(replacement), [Signal::Term]);
}

#[test]
fn a_worker_that_leaves_early_in_lameduck_does_not_shrink_the_pod() {
    let mut pod = Pod::ready(policy(Level::Notify, 2));
    pod.tell(Event::Terminate);
    let early = pod.in_state("ready")[0];
    pod.says(early, Report::Stopping);
    assert_eq!(pod.in_state("booting").len(), 1);
}

#[test]
fn a_pod_without_workers_has_nothing_to_wait_for() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.tell(Event::RetireAll);
    pod.all_leaving_finish();
    pod.tell(Event::Terminate);
    assert_eq!(pod.exit(), Some(ExitStatus::Clean));
}

#[test]
fn nothing_but_the_end_can_be_asked_for_in_lameduck() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.tell(Event::Terminate);
    for event in [Event::ScaleOut, Event::ScaleIn, Event::RetireAll] {
        let done = pod.tell(event);
        assert!(matches!(done[..], [Action::Tell(Notice::Ignored { .. })]));
    }
    pod.reload(policy(Level::Native, 4));
    assert_eq!(pod.fleet.workers().len(), 2);
    assert_eq!(pod.outcome(), None);
}

fn quiet_pod() -> Pod {
    let mut pod = Pod::ready(Policy {
        shutdown: Shutdown {
            lameduck_quiet: Some(secs(1)),
            ..shutdown()
        },
        ..policy(Level::Native, 1)
    });
    pod.tell(Event::Terminate);
    pod
}

/// Answer what the core asks about traffic, as time goes by.
fn traffic_for(pod: &mut Pod, length: Duration, traffic: impl Fn(Duration) -> (u64, u64)) {
    let (began, until) = (pod.now, pod.now + length);
    while pod.now < until && pod.phase() == PodPhase::Lameduck {
        pod.pass(millis(100));
        let (served, refused) = traffic(pod.now - began);
        pod.tell(Event::Traffic { served, refused });
    }
}

#[test]
fn a_quiet_lameduck_ends_once_the_probe_has_failed_often_enough() {
    let mut pod = quiet_pod();
    let began = pod.now;
    traffic_for(&mut pod, secs(10), |since| (100, since.as_secs()));
    assert_eq!(pod.phase(), PodPhase::Drain);
    let took = pod.now - began;
    assert!(secs(3) <= took && took < secs(4), "{took:?}");
}

#[test]
fn a_lameduck_with_traffic_lasts_its_time() {
    let mut pod = quiet_pod();
    let busy = |since: Duration| (u64::try_from(since.as_millis()).unwrap(), since.as_secs());
    traffic_for(&mut pod, millis(9_900), busy);
    assert_eq!(pod.phase(), PodPhase::Lameduck);
    pod.pass(millis(100));
    assert_eq!(pod.phase(), PodPhase::Drain);
}

#[test]
fn a_quiet_lameduck_without_a_probe_lasts_its_time() {
    let mut pod = quiet_pod();
    traffic_for(&mut pod, millis(9_900), |_| (100, 2));
    assert_eq!(pod.phase(), PodPhase::Lameduck);
}

#[test]
fn probes_that_were_refused_before_sigterm_do_not_count() {
    let mut pod = quiet_pod();
    traffic_for(&mut pod, secs(5), |_| (100, 70));
    assert_eq!(pod.phase(), PodPhase::Lameduck);
}

#[test]
fn a_clock_that_jumps_over_lameduck_and_drain_still_takes_each_phase_in_turn() {
    let mut pod = Pod::ready(policy(Level::Native, 1));
    pod.tell(Event::Terminate);
    pod.now = Moment::at(secs(7_200));
    pod.tell(Event::Tick);
    assert_eq!(pod.phase(), PodPhase::Drain, "drain has its own time");
}

#[test]
fn a_native_worker_without_handlers_is_not_killed_by_being_told() {
    let mut pod = Pod::booting(policy(Level::Native, 2));
    let workers = pod.in_state("booting");
    pod.gets_ready(workers[0]);
    pod.tell(Event::Terminate);
    assert_eq!(pod.commands(workers[1]), []);
    assert_eq!(pod.signals(workers[1]), []);
    pod.greets(workers[1]);
    assert_eq!(pod.commands(workers[1]), [Command::Lameduck]);
    assert_eq!(pod.signals(workers[1]), [Signal::Term]);
}

#[test]
fn who_gets_ready_in_lameduck_and_never_greeted_is_told_then() {
    let mut pod = Pod::booting(policy(Level::Native, 2));
    let workers = pod.in_state("booting");
    pod.gets_ready(workers[0]);
    pod.tell(Event::Terminate);
    pod.says(workers[1], Report::Ready);
    assert_eq!(pod.commands(workers[1]), [Command::Lameduck]);
}

#[test]
fn with_term_immediately_who_gets_ready_in_lameduck_is_told_then() {
    let mut pod = Pod::booting(Policy {
        term_immediately: true,
        ..policy(Level::Notify, 2)
    });
    let workers = pod.in_state("booting");
    pod.gets_ready(workers[0]);
    pod.tell(Event::Terminate);
    assert_eq!(pod.signals(workers[1]), [], "it has no handler yet");
    pod.gets_ready(workers[1]);
    assert_eq!(pod.signals(workers[1]), [Signal::Term]);
}

#[test]
fn a_notify_worker_that_greets_in_lameduck_is_not_stopped_by_it() {
    let mut pod = Pod::ready(policy(Level::Notify, 1));
    let worker = pod.in_state("ready")[0];
    pod.tell(Event::Terminate);
    pod.greets(worker);
    assert_eq!(pod.signals(worker), []);
}

#[test]
fn a_worker_that_asks_for_time_in_lameduck_gets_it() {
    let mut pod = Pod::ready(Policy {
        shutdown: Shutdown {
            lameduck: secs(40),
            ..shutdown()
        },
        ..policy(Level::Notify, 1)
    });
    let worker = pod.in_state("ready")[0];
    pod.says(worker, Report::Watchdog);
    pod.tell(Event::Terminate);
    pod.says(worker, Report::ExtendTimeout(secs(60)));
    pod.pass(secs(40));
    assert_eq!(pod.signals(worker), [Signal::Stop], "not hung");
}

#[test]
fn health_turns_before_the_first_look_at_the_traffic_which_does_not_wait() {
    let mut pod = quiet_pod();
    let done: Vec<&Action> = pod.record().collect();
    let turned = done
        .iter()
        .position(|a| **a == Action::SetPodHealthy(false));
    let looked = done.iter().position(|a| **a == Action::MeasureTraffic);
    assert!(turned.is_some() && turned < looked, "{done:?}");
    assert_eq!(pod.fleet.next_deadline(), Some(pod.now + millis(100)));
    pod.pass(millis(100));
    assert_eq!(pod.fleet.next_deadline(), Some(pod.now + millis(100)));
}
