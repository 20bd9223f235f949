//! Old age: max_requests, max_lifetime, max_rss.

use std::num::NonZeroU64;

use worker_api::message::{Command, Report};

use super::pod::{Pod, policy, secs};
use crate::fleet::{
    Action, Cause, Event, Level, MAX_ROWS, Notice, Outcome, Policy, Recycle, WorkerId,
};

fn recycling(count: usize, recycle: Recycle) -> Policy {
    Policy {
        recycle,
        ..policy(Level::Native, count)
    }
}

fn after_requests(count: usize) -> Policy {
    let recycle = Recycle {
        max_requests: NonZeroU64::new(1000),
        max_requests_jitter: 50,
        ..Recycle::default()
    };
    recycling(count, recycle)
}

fn retired(pod: &Pod) -> Vec<(WorkerId, Cause)> {
    let retired = pod.notices().filter_map(|notice| match notice {
        Notice::WorkerRetired { worker, cause } => Some((*worker, *cause)),
        _ => None,
    });
    retired.collect()
}

#[test]
fn each_worker_has_its_own_limit_within_the_jitter() {
    let pod = Pod::booting(after_requests(20));
    let limits: Vec<u64> = pod.orders().iter().map(|o| o.max_requests).collect();
    assert!(limits.iter().all(|limit| (1000..=1050).contains(limit)));
    assert!(limits.iter().any(|limit| *limit != limits[0]));
}

#[test]
fn without_a_limit_nobody_counts() {
    let pod = Pod::booting(policy(Level::Native, 1));
    assert_eq!(pod.last_order().max_requests, 0);
}

#[test]
fn a_worker_at_its_limit_serves_until_its_replacement_is_ready() {
    let mut pod = Pod::ready(after_requests(2));
    let old = pod.in_state("ready")[0];
    pod.says(old, Report::Served(1050));
    assert_eq!(pod.in_state("ready").len(), 2);
    assert_eq!(pod.in_state("booting").len(), 1);
    pod.all_get_ready();
    assert_eq!(retired(&pod), [(old, Cause::MaxRequests)]);
    assert_eq!(pod.commands(old), [Command::Retire { deadline: secs(75) }]);
    assert_eq!(pod.fleet.ready_workers(), 2);
}

#[test]
fn workers_are_recycled_one_at_a_time() {
    let mut pod = Pod::ready(after_requests(3));
    for worker in pod.in_state("ready") {
        pod.says(worker, Report::Served(1050));
    }
    for done in 0..3 {
        assert_eq!(pod.in_state("booting").len(), 1, "after {done}");
        assert_eq!(pod.fleet.ready_workers(), 3);
        pod.all_get_ready();
        assert_eq!(retired(&pod).len(), done + 1);
    }
    assert_eq!(pod.in_state("booting").len(), 0);
}

#[test]
fn a_worker_that_claims_a_limit_that_it_has_not_reached_stays() {
    let mut pod = Pod::ready(after_requests(1));
    let worker = pod.in_state("ready")[0];
    pod.says(worker, Report::Served(999));
    assert_eq!(pod.orders().len(), 1);
}

#[test]
fn a_replacement_that_does_not_boot_leaves_the_old_worker_serving() {
    let mut pod = Pod::ready(after_requests(1));
    let old = pod.in_state("ready")[0];
    pod.says(old, Report::Served(1050));
    for _ in 0..10 {
        let worker = pod.last_order().worker;
        pod.exits(worker, 1);
        pod.pass(secs(30));
    }
    assert_eq!(pod.in_state("ready"), [old]);
    assert_eq!(pod.orders().len(), 12, "one after each failure, with waits");
}

#[test]
fn a_replacement_that_says_fatal_does_not_cost_the_worker_that_serves() {
    let mut pod = Pod::ready(after_requests(1));
    let old = pod.in_state("ready")[0];
    pod.says(old, Report::Served(1050));
    for _ in 0..3 {
        let worker = pod.last_order().worker;
        pod.says(worker, Report::Fatal("no database just now".into()));
        pod.exits(worker, 1);
        pod.pass(secs(30));
    }
    assert_eq!(pod.in_state("ready"), [old]);
    assert_eq!(pod.orders().len(), 5, "one after each failure, with waits");
    pod.all_get_ready();
    assert_eq!(retired(&pod), [(old, Cause::MaxRequests)]);
}

#[test]
fn a_worker_that_has_lived_for_max_lifetime_is_replaced() {
    let recycle = Recycle {
        max_lifetime: Some(secs(3600)),
        ..Recycle::default()
    };
    let mut pod = Pod::ready(recycling(1, recycle));
    let old = pod.in_state("ready")[0];
    pod.pass(secs(3599));
    assert_eq!(pod.orders().len(), 1);
    pod.pass(secs(1));
    assert_eq!(pod.orders().len(), 2);
    pod.all_get_ready();
    assert_eq!(retired(&pod), [(old, Cause::MaxLifetime)]);
}

fn limited_memory() -> Policy {
    let recycle = Recycle {
        max_rss: Some(1 << 20),
        ..Recycle::default()
    };
    recycling(2, recycle)
}

#[test]
fn memory_is_measured_every_five_seconds_where_it_is_limited() {
    let mut pod = Pod::ready(limited_memory());
    pod.pass(secs(20));
    let measured = pod.record().filter(|a| **a == Action::MeasureMemory);
    assert_eq!(measured.count(), 4);
}

#[test]
fn a_worker_that_outgrows_max_rss_is_replaced() {
    let mut pod = Pod::ready(limited_memory());
    let workers = pod.in_state("ready");
    for (worker, bytes) in [(workers[0], 1 << 20), (workers[1], (1 << 20) + 1)] {
        pod.tell(Event::Memory { worker, bytes });
    }
    pod.all_get_ready();
    assert_eq!(retired(&pod), [(workers[1], Cause::MaxRss)]);
}

#[test]
fn nobody_is_recycled_while_the_pod_goes_down() {
    let mut pod = Pod::ready(after_requests(2));
    pod.tell(Event::Terminate);
    pod.says(pod.in_state("ready")[0], Report::Served(1050));
    assert_eq!(pod.orders().len(), 2);
    assert_eq!(retired(&pod), []);
}

#[test]
fn memory_is_not_measured_any_more_in_lameduck_and_nothing_waits_for_it() {
    let mut pod = Pod::ready(limited_memory());
    pod.tell(Event::Terminate);
    assert_eq!(pod.fleet.next_deadline(), Some(pod.now + secs(10)));
    pod.pass(secs(9));
    assert!(pod.record().all(|action| *action != Action::MeasureMemory));
}

#[test]
fn a_limit_that_is_reached_while_a_reload_waits_does_not_stop_the_reload() {
    let mut pod = Pod::ready(after_requests(2));
    let new = pod.reload(after_requests(2));
    for _ in 0..5 {
        pod.all_get_ready();
        for worker in pod.in_state("ready") {
            pod.says(worker, Report::Served(1050));
        }
    }
    assert_eq!(pod.fleet.workers().len(), 3, "surge is 1");
    pod.pass(secs(1));
    for _ in 0..5 {
        pod.all_get_ready();
    }
    assert_eq!(pod.staying_of(new), 2);
    assert_eq!(pod.outcome(), Some(Outcome::Done));
}

#[test]
fn a_reload_is_done_however_many_workers_have_reached_a_limit_again() {
    let mut pod = Pod::ready(after_requests(2));
    pod.reload(after_requests(2));
    pod.all_get_ready();
    pod.pass(secs(1));
    for _ in 0..5 {
        pod.all_get_ready();
        pod.says(pod.in_state("ready")[0], Report::Served(1050));
    }
    assert_eq!(pod.outcome(), Some(Outcome::Done));
}

#[test]
fn after_a_rollback_memory_is_measured_as_it_was_before() {
    let mut pod = Pod::ready(limited_memory());
    pod.reload(policy(Level::Native, 2));
    pod.exits(pod.last_order().worker, 1);
    pod.pass(secs(5));
    assert!(pod.record().any(|a| *a == Action::MeasureMemory));

    let mut pod = Pod::ready(policy(Level::Native, 2));
    pod.reload(limited_memory());
    pod.exits(pod.last_order().worker, 1);
    assert_eq!(pod.fleet.next_deadline(), None);
}

#[test]
fn a_pod_that_was_made_smaller_than_min_ready_recycles_too() {
    let mut pod = Pod::ready(Policy {
        min_ready: 2,
        ..after_requests(2)
    });
    pod.tell(Event::RetireAll);
    pod.all_leaving_finish();
    pod.tell(Event::ScaleOut);
    pod.all_get_ready();
    let old = pod.in_state("ready")[0];
    pod.says(old, Report::Served(1050));
    pod.all_get_ready();
    assert_eq!(pod.in_state("retiring"), [old]);
    assert_eq!(pod.fleet.workers().len(), 2);
}

#[test]
fn an_old_worker_keeps_its_own_limits_while_a_reload_is_tried() {
    let mut pod = Pod::ready(policy(Level::Native, 1));
    let old = pod.in_state("ready")[0];
    pod.pass(secs(60));
    let recycle = Recycle {
        max_requests: NonZeroU64::new(10),
        max_lifetime: Some(secs(1)),
        max_rss: Some(1),
        ..Recycle::default()
    };
    pod.reload(recycling(1, recycle));
    pod.says(old, Report::Served(1000));
    pod.tell(Event::Memory {
        worker: old,
        bytes: 1000,
    });
    pod.exits(pod.last_order().worker, 1);
    pod.pass(secs(60));
    assert_eq!(pod.in_state("ready"), [old], "as if nothing had been tried");
    assert_eq!(pod.orders().len(), 2);
}

#[test]
fn workers_that_take_long_to_leave_never_outnumber_the_rows_of_the_scoreboard() {
    let mut pod = Pod::ready(after_requests(2));
    for _ in 0..MAX_ROWS + 50 {
        for worker in pod.in_state("ready") {
            pod.says(worker, Report::Served(1050));
        }
        pod.all_get_ready();
        assert!(pod.fleet.workers().len() <= MAX_ROWS);
        assert!(pod.fleet.next_deadline().is_none_or(|due| due > pod.now));
    }
    assert_eq!(pod.fleet.workers().len(), MAX_ROWS);
}

#[test]
fn a_worker_that_wants_to_go_does_so_when_its_replacement_is_there() {
    let mut pod = Pod::ready(policy(Level::Native, 2));
    let tired = pod.in_state("ready")[0];
    pod.says(tired, Report::Replace);
    pod.says(tired, Report::Replace);
    assert_eq!(pod.in_state("booting").len(), 1);
    assert!(pod.in_state("ready").contains(&tired));
    pod.all_get_ready();
    assert_eq!(pod.in_state("retiring"), [tired]);
    assert!(matches!(pod.commands(tired)[..], [Command::Retire { .. }]));
    let told = pod.notices().filter(|notice| {
        matches!(
            notice,
            Notice::WorkerRetired {
                cause: Cause::OwnWill,
                ..
            }
        )
    });
    assert_eq!(told.count(), 1);
}
