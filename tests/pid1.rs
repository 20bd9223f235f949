//! As PID 1 of a container: the same shutdown, orphans reaped, the last to go.

use crate::harness::programs::unshare_works;
use crate::harness::skip::skip;
use crate::harness::{Builder, Load, Server, Signal, eventually, process};
use crate::shutdown::goes_down_under_load;

#[test]
fn as_pid_1_sigterm_under_load_loses_nothing() {
    if !unshare_works() {
        return skip("a pid namespace (unshare --pid --fork --mount-proc)");
    }
    goes_down_under_load(Builder::axum().pid_1());
}

#[test]
fn as_pid_1_a_crash_and_a_reload_are_answered_as_elsewhere() {
    if !unshare_works() {
        return skip("a pid namespace (unshare --pid --fork --mount-proc)");
    }
    let server = Builder::axum().pid_1().start();
    let load = Load::start(&server.target);
    load.wait_for(100);
    server.signal(Signal::HUP);
    server.wait_status("the reload", |status| {
        let reload = status.last_reload.as_ref();
        reload.is_some_and(|reload| reload.outcome == "done") && status.workers.len() == 2
    });
    load.stop().assert_none_lost();
    server
        .watch(process::children(server.pid())[0])
        .signal(Signal::KILL);
    server.wait_status("the replacement", |status| {
        let replaced = status.workers.iter().any(|worker| worker.restarts == 1);
        replaced && status.ready_workers == 2
    });
    server.shut_down();
}

#[test]
fn as_pid_1_orphans_are_reaped() {
    if !unshare_works() {
        return skip("a pid namespace (unshare --pid --fork --mount-proc)");
    }
    let server = Builder::plain("plain.py", &[]).pid_1().start();
    reaps_orphans(&server);
    server.shut_down();
}

#[test]
fn as_a_subreaper_orphans_are_reaped() {
    let server = Builder::plain("plain.py", &[]).start();
    reaps_orphans(&server);
    server.shut_down();
}

#[test]
fn as_pid_1_a_second_sigterm_and_a_swallower_end_as_elsewhere() {
    if !unshare_works() {
        return skip("a pid namespace (unshare --pid --fork --mount-proc)");
    }
    let server = Builder::plain("swallow.py", &[])
        .drain_timeout("1s")
        .pid_1()
        .start();
    server.signal(Signal::TERM);
    server.signal(Signal::TERM);
    server.expect_exit(5);
}

#[test]
fn as_pid_1_sigint_aborts_at_the_second() {
    if !unshare_works() {
        return skip("a pid namespace (unshare --pid --fork --mount-proc)");
    }
    let server = Builder::axum().lameduck("30s").pid_1().start();
    let mut connection = server.connect();
    connection.send_get("/slow/30").unwrap();
    server.wait_status("the request", |status| {
        status.workers.iter().any(|worker| worker.in_flight == 1)
    });
    server.signal(Signal::INT);
    server.wait_status("drain", |status| status.phase == "drain");
    server.interrupt_again();
    server.expect_exit(5);
}

/// A worker leaves grandchildren behind, which become the master's and end.
fn reaps_orphans(server: &Server) {
    let before = process::children(server.pid());
    for _ in 0..5 {
        assert_eq!(server.get("/orphan").status, 200);
    }
    let mut orphans = Vec::new();
    eventually("the orphans come to the master", || {
        orphans = process::children(server.pid());
        orphans.retain(|pid| !before.contains(pid));
        orphans.len() == 5
    });
    for orphan in orphans.into_iter().map(|pid| server.watch(pid)) {
        orphan.signal(Signal::KILL);
        server.wait_gone(&orphan);
    }
    eventually("the orphans are reaped", || {
        process::children(server.pid()) == before
    });
    assert!(process::zombies(server.pid()).is_empty());
    assert_eq!(
        server.status().ready_workers,
        2,
        "an orphan's end is no worker's"
    );
}
