//! Programs that do not end as they should: forced at the deadline, told by name, exit status 5.

use std::time::{Duration, Instant};

use crate::harness::{Builder, Exit, Server, Signal};

const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Far above what the force takes, far below the next thing that could end the shutdown.
const SLACK: Duration = Duration::from_secs(8);

#[test]
fn a_swallower_of_sigterm_is_forced_and_told() {
    forced(Builder::plain("swallow.py", &[]));
}

#[test]
fn a_worker_that_hangs_in_its_end_is_forced_and_told() {
    forced(Builder::plain("hang.py", &[]));
}

#[test]
fn a_worker_that_waits_for_its_stubborn_children_is_forced_with_them() {
    forced(Builder::plain("fork_children.py", &["stays"]));
}

#[test]
fn children_that_a_worker_leaves_behind_do_not_outlive_the_master() {
    // One that ends by its signal has caught it, and has finished all the same.
    for way in ["leaves", "raises"] {
        leaves_children(way);
    }
}

fn leaves_children(way: &str) {
    let server = Builder::plain("fork_children.py", &[way])
        .drain_timeout("20s")
        .start();
    server.wait("the children of both", || {
        (server.log.count(&["is stubborn"]) == 4).then_some(())
    });
    assert_eq!(
        server.leftovers().len(),
        6,
        "two workers, two children of each"
    );
    server.signal(Signal::TERM);
    // The workers themselves end as they are told to.
    server.expect_exit(0);
}

#[test]
fn a_native_worker_that_never_reports_drained_is_forced_and_told() {
    forced(Builder::native(&["silent"]));
}

#[test]
fn a_native_worker_that_says_drained_and_stays_is_killed_and_told() {
    let server = Builder::native(&["stays"]).drain_timeout("1s").start();
    let pids = server.worker_pids();
    server.signal(Signal::TERM);
    // It had drained, so no work was aborted.
    server.expect_exit(0);
    told_by_name(&server, &pids);
}

#[test]
fn a_native_worker_that_aborted_work_makes_the_exit_status_5() {
    let server = Builder::native(&["aborted"]).start();
    server.signal(Signal::TERM);
    server.expect_exit(5);
}

#[test]
fn a_request_longer_than_drain_timeout_is_aborted_counted_and_logged() {
    for builder in [Builder::axum(), Builder::mio()] {
        let server = builder.drain_timeout("1s").start();
        let mut connection = server.connect();
        connection.send_get("/slow/30").unwrap();
        server.wait_status("the request", |status| {
            status.workers.iter().any(|worker| worker.in_flight == 1)
        });
        let term = server.signal(Signal::TERM);
        let exit = server.expect_exit(5);
        assert_at_deadline(term, exit);
        assert!(
            connection.read_response().is_err(),
            "the request was aborted"
        );
        server.wait_log(&["worker drained", "aborted=1"]);
    }
}

#[test]
fn a_plain_worker_with_a_request_longer_than_drain_timeout_is_forced() {
    let server = Builder::plain("plain.py", &[])
        .workers(1)
        .drain_timeout("1s")
        .start();
    let pids = server.worker_pids();
    let mut connection = server.connect();
    connection.get("/").unwrap();
    connection.send_get("/slow/30").unwrap();
    server.wait_log(&["takes its time"]);
    let term = server.signal(Signal::TERM);
    let exit = server.expect_exit(5);
    assert_at_deadline(term, exit);
    told_by_name(&server, &pids);
    assert!(
        connection.read_response().is_err(),
        "the request was aborted"
    );
}

#[test]
fn one_stubborn_worker_does_not_spoil_the_end_of_the_good_ones() {
    // Slot 0 swallows, slot 1 behaves: a shell picks the script.
    let script =
        r#"if [ "$GRACEFORK_WORKER" = 0 ]; then exec $0 swallow.py; else exec $0 plain.py; fi"#;
    let folder = crate::harness::programs::root().join("tests/workers");
    let python = format!("{} -S -B -u", crate::harness::programs::python_path());
    let script = script.replace("$0", &python);
    let program = crate::harness::programs::Program::new("/bin/sh")
        .arg("-c")
        .arg(script);
    let server = Builder::new(program)
        .set("chdir", folder.to_str().unwrap())
        .silent()
        .drain_timeout("5s")
        .start();
    let workers = server.watch_workers();
    server.signal(Signal::TERM);
    workers[1].wait_exit(Duration::from_secs(10)).unwrap();
    assert!(
        workers[0].wait_exit(Duration::ZERO).is_none(),
        "the good one is not held back"
    );
    server.expect_exit(5);
}

#[test]
fn a_worker_that_left_its_process_group_is_forced_all_the_same() {
    forced(Builder::plain("deserter.py", &[]));
}

/// The server is forced at its deadline, every worker is told by name, nothing is left.
fn forced(builder: Builder) {
    let server = builder.drain_timeout("1s").start();
    let pids = server.worker_pids();
    let term = server.signal(Signal::TERM);
    let exit = server.expect_exit(5);
    assert_at_deadline(term, exit);
    told_by_name(&server, &pids);
}

#[track_caller]
fn told_by_name(server: &Server, pids: &[u32]) {
    for pid in pids {
        let pid = pid.to_string();
        let told = ["forc", "SIGKILL", "kill"]
            .iter()
            .any(|word| server.log.count(&[&pid, word]) > 0);
        assert!(
            told,
            "the log names the worker {pid} that was forced:\n{}",
            server.log.text()
        );
    }
}

#[track_caller]
fn assert_at_deadline(term: Instant, exit: Exit) {
    let took = exit.after(term);
    assert!(
        took >= DRAIN_TIMEOUT,
        "forced {took:?} after SIGTERM, before the deadline"
    );
    assert!(
        took < DRAIN_TIMEOUT + SLACK,
        "forced only {took:?} after SIGTERM"
    );
}
