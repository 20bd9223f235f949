//! Reload, canary and rollback.

use worker_api::message::{Command, Report};
use worker_api::scoreboard::PodPhase;

use super::pod::{Pod, millis, policy, secs};
use crate::fleet::{
    Event, ExitStatus, Generation, Level, Notice, Outcome, Policy, Signal, SpawnFailure,
};

const OLD: Generation = Generation(1);

/// Let the rollout go on until nobody boots and nobody leaves.
fn roll_on(pod: &mut Pod) {
    for _ in 0..50 {
        pod.all_get_ready();
        pod.pass(secs(1));
        pod.all_leaving_finish();
    }
}

#[test]
fn a_reload_starts_one_new_worker_and_retires_an_old_one_only_when_that_has_lived() {
    let mut pod = Pod::ready(policy(Level::Native, 3));
    let new = pod.reload(policy(Level::Native, 3));
    assert_eq!((pod.staying_of(OLD), pod.staying_of(new)), (3, 1));
    pod.all_get_ready();
    pod.pass(millis(999));
    assert_eq!(
        (pod.staying_of(OLD), pod.staying_of(new)),
        (3, 1),
        "on trial"
    );
    pod.pass(millis(1));
    assert_eq!((pod.staying_of(OLD), pod.staying_of(new)), (2, 2));
    let retired = pod.in_state("retiring")[0];
    assert_eq!(
        pod.commands(retired),
        [Command::Retire { deadline: secs(75) }]
    );
    assert_eq!(pod.signals(retired), [], "it is not the pod that goes down");
}

#[test]
fn a_reload_that_another_overtakes_is_told_of() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let first = pod.reload(policy(Level::Native, 2));
    let second = pod.reload(policy(Level::Native, 2));
    let told = |pod: &Pod, of: Generation| {
        let abandoned = pod.notices().filter(|notice| {
            matches!(notice, Notice::ReloadAbandoned { generation, .. } if *generation == of)
        });
        abandoned.count()
    };
    assert_eq!((told(&pod, first), told(&pod, second)), (1, 0));
    roll_on(&mut pod);
    assert_eq!(pod.outcome(), Some(Outcome::Done));
    assert_eq!((told(&pod, first), told(&pod, second)), (1, 0));
}

#[test]
fn a_new_worker_that_is_unhealthy_replaces_nobody_until_it_is_well() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let new = pod.reload(policy(Level::Native, 2));
    pod.all_get_ready();
    let first = *pod.in_state("ready").last().unwrap();
    pod.pass(millis(500));
    pod.says(first, Report::Unhealthy);
    pod.pass(secs(5));
    assert_eq!((pod.staying_of(OLD), pod.staying_of(new)), (2, 1));
    pod.says(first, Report::Ready);
    pod.pass(millis(999));
    assert_eq!(pod.staying_of(OLD), 2, "it shows anew that it is fit");
    pod.pass(millis(1));
    assert_eq!(pod.staying_of(OLD), 1);
    roll_on(&mut pod);
    assert_eq!(pod.outcome(), Some(Outcome::Done));
}

#[test]
fn a_generation_that_stays_unhealthy_is_rolled_back() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let new = pod.reload(policy(Level::Native, 2));
    pod.all_get_ready();
    let first = *pod.in_state("ready").last().unwrap();
    pod.says(first, Report::Unhealthy);
    let patience = policy(Level::Native, 2).boot_timeout;
    pod.pass(patience - millis(1));
    assert_eq!((pod.staying_of(OLD), pod.staying_of(new)), (2, 1));
    pod.pass(millis(1));
    assert_eq!(pod.outcome(), Some(Outcome::RolledBack));
    assert_eq!((pod.staying_of(OLD), pod.staying_of(new)), (2, 0));
    assert!(pod.is_healthy());
}

#[test]
fn after_the_first_the_others_follow_without_delay() {
    let mut pod = Pod::ready(policy(Level::Native, 3));
    let new = pod.reload(policy(Level::Native, 3));
    pod.all_get_ready();
    pod.pass(secs(1));
    pod.all_get_ready();
    pod.all_get_ready();
    assert_eq!((pod.staying_of(OLD), pod.staying_of(new)), (0, 3));
    assert_eq!(pod.outcome(), Some(Outcome::Done));
    let done = pod
        .notices()
        .any(|n| matches!(n, Notice::ReloadDone { .. }));
    assert!(done && pod.is_healthy());
}

#[test]
fn surge_workers_boot_at_once() {
    let wide = Policy {
        surge: 2,
        ..policy(Level::Native, 4)
    };
    let mut pod = Pod::ready(wide.clone());
    let new = pod.reload(wide);
    assert_eq!(pod.staying_of(new), 2);
    pod.all_get_ready();
    pod.pass(secs(1));
    assert_eq!((pod.staying_of(OLD), pod.staying_of(new)), (2, 4));
}

#[test]
fn plain_workers_are_replaced_too_and_get_their_stop_signal() {
    let mut pod = Pod::ready(policy(Level::Plain, 2));
    let old = pod.in_state("ready");
    let new = pod.reload(policy(Level::Plain, 2));
    pod.pass(secs(1));
    assert_eq!(
        pod.signals(old[0]),
        [Signal::Stop],
        "its time on trial was its boot"
    );
    roll_on(&mut pod);
    assert_eq!((pod.staying_of(OLD), pod.staying_of(new)), (0, 2));
    assert_eq!(pod.outcome(), Some(Outcome::Done));
}

#[test]
fn a_reload_never_takes_the_pod_below_min_ready() {
    let strict = Policy {
        min_ready: 3,
        ..policy(Level::Native, 3)
    };
    let mut pod = Pod::ready(strict.clone());
    pod.reload(strict);
    for _ in 0..20 {
        pod.all_get_ready();
        assert!(pod.fleet.ready_workers() >= 3);
        pod.pass(millis(500));
        assert!(pod.fleet.ready_workers() >= 3);
    }
    assert_eq!(pod.outcome(), Some(Outcome::Done));
}

#[test]
fn a_configuration_that_does_not_hold_changes_nothing() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.tell(Event::ReloadRefused {
        reason: "line 7".into(),
    });
    assert_eq!(pod.outcome(), Some(Outcome::Refused));
    assert_eq!(pod.orders().len(), 2);
    assert_eq!(pod.fleet.generation(), OLD);
}

/// A reload to a generation that fails like this, and what must be so after it.
fn rolls_back(fail: impl Fn(&mut Pod)) {
    let mut pod = Pod::ready(policy(Level::Native, 3));
    let old = pod.in_state("ready");
    let new = pod.reload(policy(Level::Native, 3));
    fail(&mut pod);
    assert_eq!(pod.outcome(), Some(Outcome::RolledBack));
    assert_eq!(pod.fleet.generation(), OLD);
    assert_eq!(pod.fleet.last_reload().map(|r| r.generation), Some(new));
    pod.all_leaving_finish();
    pod.pass(secs(60));
    assert_eq!(
        pod.in_state("ready"),
        old,
        "the old ones were never touched"
    );
    assert_eq!(pod.staying_of(new), 0);
    assert_eq!(pod.phase(), PodPhase::Ready);
}

#[test]
fn a_generation_that_exits_at_once_is_rolled_back() {
    rolls_back(|pod| {
        pod.exits(pod.last_order().worker, 1);
    });
}

#[test]
fn a_generation_that_never_gets_ready_is_rolled_back() {
    rolls_back(|pod| pod.pass(secs(60)));
}

#[test]
fn a_generation_whose_app_is_not_there_is_rolled_back() {
    rolls_back(|pod| {
        let worker = pod.last_order().worker;
        let failure = SpawnFailure::App("no such file".into());
        pod.tell(Event::SpawnFailed { worker, failure });
    });
}

#[test]
fn a_generation_whose_configuration_does_not_hold_is_rolled_back_and_told_why() {
    rolls_back(|pod| {
        let worker = pod.last_order().worker;
        let failure = SpawnFailure::Config("a hook failed".into());
        pod.tell(Event::SpawnFailed { worker, failure });
        let reason = pod
            .fleet
            .last_reload()
            .and_then(|report| report.reason.as_deref());
        assert!(reason.is_some_and(|reason| reason.ends_with("a hook failed")));
    });
}

#[test]
fn a_generation_that_gets_ready_and_dies_is_rolled_back() {
    rolls_back(|pod| {
        pod.all_get_ready();
        pod.pass(millis(500));
        pod.exits(pod.last_order().worker, 1);
    });
}

#[test]
fn a_generation_that_says_fatal_is_rolled_back() {
    rolls_back(|pod| {
        let worker = pod.last_order().worker;
        pod.says(worker, Report::Fatal("wrong schema".into()));
        pod.exits(worker, 1);
    });
}

#[test]
fn a_generation_that_stops_by_itself_is_rolled_back() {
    rolls_back(|pod| {
        pod.says(pod.last_order().worker, Report::Stopping);
    });
}

#[test]
fn a_failure_half_way_brings_the_old_generation_back() {
    let mut pod = Pod::ready(policy(Level::Native, 3));
    let new = pod.reload(policy(Level::Native, 3));
    pod.all_get_ready();
    pod.pass(secs(1));
    assert_eq!((pod.staying_of(OLD), pod.staying_of(new)), (2, 2));
    let second = pod.in_state("booting")[0];
    pod.exits(second, 1);
    assert_eq!(pod.outcome(), Some(Outcome::RolledBack));
    assert_eq!(pod.in_state("booting").len(), 1, "one is to be made good");
    roll_on(&mut pod);
    assert_eq!((pod.staying_of(OLD), pod.staying_of(new)), (3, 0));
    assert_eq!(pod.fleet.next_deadline(), None);
}

#[test]
fn after_a_rollback_the_dead_are_replaced_by_the_generation_that_stays() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.reload(policy(Level::Native, 2));
    pod.exits(pod.last_order().worker, 1);
    pod.is_killed(pod.in_state("ready")[0], 11);
    assert_eq!(pod.last_order().generation, OLD);
}

#[test]
fn a_death_in_later_life_is_no_reason_to_roll_back() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let new = pod.reload(policy(Level::Native, 2));
    pod.all_get_ready();
    pod.pass(secs(2));
    let first = pod.fleet.workers().iter().find(|w| w.generation() == new);
    let first = first.map(|worker| worker.id()).expect("one is there");
    pod.is_killed(first, 11);
    assert_eq!(pod.outcome(), Some(Outcome::InProgress));
    roll_on(&mut pod);
    assert_eq!(pod.outcome(), Some(Outcome::Done));
}

#[test]
fn a_reload_in_a_reload_goes_to_the_last_one() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let second = pod.reload(policy(Level::Native, 2));
    let dropped = pod.last_order().worker;
    let third = pod.reload(policy(Level::Native, 2));
    assert_eq!(
        pod.signals(dropped),
        [Signal::Stop],
        "it has nothing to finish"
    );
    pod.pass(secs(1));
    assert_eq!(pod.signals(dropped), [Signal::Stop, Signal::Kill]);
    pod.is_killed(dropped, 9);
    roll_on(&mut pod);
    assert_eq!(
        [OLD, second, third].map(|generation| pod.staying_of(generation)),
        [0, 0, 2]
    );
}

#[test]
fn a_bad_reload_in_a_reload_goes_back_to_what_last_carried_the_pod() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.reload(policy(Level::Native, 2));
    pod.all_get_ready();
    pod.reload(policy(Level::Native, 2));
    pod.exits(pod.last_order().worker, 1);
    assert_eq!(pod.fleet.generation(), OLD);
    roll_on(&mut pod);
    assert_eq!(pod.staying_of(OLD), 2);
}

#[test]
fn sigterm_in_a_reload_is_a_normal_shutdown() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let old = pod.in_state("ready");
    pod.reload(policy(Level::Native, 2));
    pod.all_get_ready();
    pod.tell(Event::Terminate);
    assert_eq!(pod.phase(), PodPhase::Lameduck);
    assert_eq!(pod.outcome(), Some(Outcome::Abandoned));
    pod.pass(secs(5));
    assert_eq!(pod.in_state("ready").len(), 3, "nobody is retired any more");
    pod.is_killed(old[0], 11);
    pod.is_killed(old[1], 11);
    assert_eq!(pod.last_order().generation, OLD, "what is known to live");
    pod.pass(secs(5));
    pod.all_leaving_finish();
    assert_eq!(pod.exit(), Some(ExitStatus::Clean));
}

#[test]
fn a_reload_to_more_workers_adds_them_and_to_fewer_retires_them() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let more = pod.reload(policy(Level::Native, 4));
    roll_on(&mut pod);
    assert_eq!(pod.staying_of(more), 4);
    let fewer = pod.reload(policy(Level::Native, 1));
    roll_on(&mut pod);
    assert_eq!((pod.staying_of(more), pod.staying_of(fewer)), (0, 1));
}

#[test]
fn a_reload_in_boot_starts_over_with_the_new_generation() {
    let mut pod = Pod::booting(policy(Level::Native, 2));
    let old = pod.in_state("booting");
    let new = pod.reload(policy(Level::Native, 2));
    assert_eq!(pod.signals(old[0]), [Signal::Stop]);
    assert_eq!(pod.staying_of(new), 2);
    roll_on(&mut pod);
    assert_eq!(pod.phase(), PodPhase::Ready);
    assert_eq!(pod.outcome(), Some(Outcome::Done));
}

#[test]
fn a_reload_brings_a_place_back_that_was_given_up() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let worker = pod.in_state("ready")[0];
    pod.says(worker, Report::Fatal("licence revoked".into()));
    pod.exits(worker, 1);
    let new = pod.reload(policy(Level::Native, 2));
    roll_on(&mut pod);
    assert_eq!(pod.staying_of(new), 2);
}

#[test]
fn an_old_worker_that_crashes_in_a_reload_is_replaced_by_a_new_one() {
    let mut pod = Pod::ready(policy(Level::Native, 3));
    let new = pod.reload(policy(Level::Native, 3));
    pod.is_killed(pod.in_state("ready")[0], 11);
    assert_eq!((pod.staying_of(OLD), pod.staying_of(new)), (2, 2));
    roll_on(&mut pod);
    assert_eq!(pod.staying_of(new), 3);
}

#[test]
fn a_retired_worker_is_forced_when_the_retire_bound_and_drain_timeout_are_over() {
    let mut pod = Pod::ready(policy(Level::Native, 1));
    let old = pod.in_state("ready")[0];
    pod.reload(policy(Level::Native, 1));
    pod.all_get_ready();
    pod.pass(secs(1));
    pod.pass(millis(89_999));
    assert_eq!(
        pod.commands(old).last(),
        Some(&Command::Retire { deadline: secs(75) })
    );
    pod.pass(millis(1));
    assert_eq!(pod.commands(old).last(), Some(&Command::Quit));
    pod.pass(secs(1));
    assert_eq!(pod.signals(old), [Signal::Kill]);
    pod.is_killed(old, 9);
    assert!(pod.is_healthy());
}

#[test]
fn an_old_worker_keeps_the_hang_timeout_that_it_was_started_with() {
    let mut pod = Pod::ready(policy(Level::Notify, 1));
    let old = pod.in_state("ready")[0];
    pod.says(old, Report::Watchdog);
    pod.reload(Policy {
        hang_timeout: Some(secs(5)),
        ..policy(Level::Notify, 1)
    });
    pod.says(old, Report::Watchdog);
    pod.pass(secs(15));
    assert_eq!(pod.signals(old), []);
}

#[test]
fn an_old_worker_is_not_signalled_early_because_a_new_one_may_be() {
    let mut pod = Pod::ready(policy(Level::Notify, 2));
    let old = pod.in_state("ready");
    pod.reload(Policy {
        term_immediately: true,
        ..policy(Level::Notify, 2)
    });
    pod.all_get_ready();
    pod.pass(secs(1));
    assert_eq!(pod.signals(old[0]), [Signal::Stop]);
    pod.tell(Event::Terminate);
    assert_eq!(pod.signals(old[1]), [], "it would stop serving");
}

#[test]
fn sigterm_in_a_reload_to_fewer_workers_still_replaces_who_crashes_in_lameduck() {
    let mut pod = Pod::ready(policy(Level::Native, 3));
    let old = pod.in_state("ready");
    pod.reload(policy(Level::Native, 1));
    pod.tell(Event::Terminate);
    pod.is_killed(old[0], 11);
    pod.is_killed(old[1], 11);
    assert!(pod.fleet.workers().len() >= 3, "as many as ever");
}

#[test]
fn an_old_worker_that_says_fatal_in_a_reload_does_not_speak_for_the_new_generation() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let old = pod.in_state("ready")[0];
    let new = pod.reload(policy(Level::Native, 2));
    pod.says(old, Report::Fatal("licence revoked".into()));
    pod.exits(old, 1);
    roll_on(&mut pod);
    assert_eq!(pod.staying_of(new), 2);
    assert_eq!(pod.outcome(), Some(Outcome::Done));
}

#[test]
fn a_reload_that_raises_min_ready_does_not_turn_the_pod_unready() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.reload(Policy {
        min_ready: 4,
        ..policy(Level::Native, 4)
    });
    assert!(pod.fleet.ready_workers() >= pod.fleet.min_ready());
    roll_on(&mut pod);
    assert_eq!(pod.fleet.min_ready(), 4);
    assert_eq!(pod.fleet.ready_workers(), 4);
}

#[test]
fn reloads_in_a_row_do_not_pile_up_workers() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    for _ in 0..20 {
        pod.reload(policy(Level::Native, 2));
        pod.all_get_ready();
        let staying = pod.fleet.workers().len() - pod.leaving().len();
        assert!(staying <= 3, "{staying}");
        assert_eq!(pod.staying_of(OLD), 2, "nothing else is known to live");
    }
    roll_on(&mut pod);
    assert_eq!(pod.outcome(), Some(Outcome::Done));
    assert_eq!(pod.fleet.workers().len(), 2);
}

#[test]
fn a_failed_reload_leaves_as_many_workers_as_the_pod_was_scaled_to() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.tell(Event::ScaleOut);
    pod.all_get_ready();
    pod.reload(policy(Level::Native, 2));
    pod.exits(pod.last_order().worker, 1);
    assert_eq!(pod.outcome(), Some(Outcome::RolledBack));
    assert_eq!(pod.in_state("ready").len(), 3);
    assert_eq!(pod.fleet.target(), 3);
}

#[test]
fn a_new_worker_that_says_fatal_before_the_reload_is_done_takes_it_back() {
    let mut pod = Pod::ready(policy(Level::Native, 3));
    let new = pod.reload(policy(Level::Native, 3));
    pod.all_get_ready();
    pod.pass(secs(5));
    let workers = pod.fleet.workers().iter();
    let first = workers.filter(|w| w.generation() == new).map(|w| w.id());
    let first = first.min().expect("one is there");
    pod.says(first, Report::Fatal("wrong schema".into()));
    pod.exits(first, 1);
    assert_eq!(pod.outcome(), Some(Outcome::RolledBack));
    roll_on(&mut pod);
    assert_eq!((pod.staying_of(OLD), pod.staying_of(new)), (3, 0));
}
