//! Signals in every order and phase.

use std::time::{Duration, Instant};

use crate::harness::load::Random;
use crate::harness::process::children;
use crate::harness::{Builder, Server, Signal, eventually};

/// What "promptly" means where the requirement names no figure: far below every time-out in use.
const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_second_sigterm_changes_nothing() {
    let server = Builder::axum()
        .lameduck("30s")
        .set("log.level", "debug")
        .start();
    for count in 1..=5 {
        server.signal(Signal::TERM);
        server.wait("its line", || {
            (server.log.count(&["signal", "SIGTERM"]) >= count).then_some(())
        });
        assert_eq!(server.get("/").status, 200, "served on in lameduck");
    }
    assert_eq!(server.status().phase, "lameduck");
    assert_eq!(server.log.count(&["phase lameduck"]), 1);
    server.signal(Signal::INT);
    server.expect_exit(0);
}

#[test]
fn sigint_goes_straight_to_drain() {
    let server = Builder::axum().lameduck("30s").start();
    let mut connection = server.connect();
    connection.send_get("/slow/1").unwrap();
    in_flight(&server);
    let int = server.signal(Signal::INT);
    assert_eq!(
        connection.read_response().unwrap().status,
        200,
        "what is in flight is finished"
    );
    assert_soon(int, server.expect_exit(0).at);
}

#[test]
fn sigint_ends_a_lameduck_that_sigterm_began() {
    let server = Builder::mio().lameduck("30s").start();
    server.signal(Signal::TERM);
    phase(&server, "lameduck");
    let int = server.signal(Signal::INT);
    assert_soon(int, server.expect_exit(0).at);
}

#[test]
fn term_then_int_then_int_aborts_what_is_in_flight() {
    let server = Builder::axum().lameduck("30s").drain_timeout("20s").start();
    let mut connection = server.connect();
    connection.send_get("/slow/30").unwrap();
    in_flight(&server);
    server.signal(Signal::TERM);
    phase(&server, "lameduck");
    server.signal(Signal::INT);
    phase(&server, "drain");
    let int = server.interrupt_again();
    assert_soon(int, server.expect_exit(5).at);
    assert!(
        connection.read_response().is_err(),
        "the request was aborted"
    );
}

#[test]
fn sigquit_aborts_what_is_in_flight() {
    for builder in [Builder::axum(), Builder::mio()] {
        let server = builder.lameduck("30s").drain_timeout("20s").start();
        let mut connection = server.connect();
        connection.send_get("/slow/30").unwrap();
        in_flight(&server);
        let quit = server.signal(Signal::QUIT);
        assert_soon(quit, server.expect_exit(5).at);
        assert!(
            connection.read_response().is_err(),
            "the request was aborted"
        );
        server.wait_log(&["worker drained", "aborted=1"]);
    }
}

#[test]
fn sigquit_of_a_pod_with_nothing_in_hand_is_a_clean_end() {
    for builder in [Builder::axum(), Builder::mio(), Builder::hello()] {
        let server = builder.lameduck("30s").start();
        assert_eq!(server.get("/").status, 200);
        server.signal(Signal::QUIT);
        server.expect_exit(0);
    }
}

#[test]
fn sigquit_ends_a_swallower_too() {
    let server = Builder::plain("swallow.py", &[]).start();
    let quit = server.signal(Signal::QUIT);
    assert_soon(quit, server.expect_exit(5).at);
}

#[test]
fn sigterm_in_boot_ends_promptly_and_cleanly() {
    let server = Builder::python("never_ready.py", &[])
        .level("notify")
        .lameduck("30s")
        .spawn();
    server.wait_status("a worker that loads", |status| {
        status.workers.iter().any(|worker| worker.status.is_some())
    });
    assert_eq!(server.status().phase, "boot");
    assert_eq!(server.ops("/readyz").unwrap().status, 503);
    assert_eq!(server.ops("/livez").unwrap().status, 200);
    let term = server.signal(Signal::TERM);
    assert_soon(term, server.expect_exit(0).at);
}

#[test]
fn sigterm_finds_workers_in_the_middle_of_their_start() {
    for delay in 0..12 {
        let server = Builder::axum().workers(4).spawn();
        eventually("a first worker", || !children(server.pid()).is_empty());
        std::thread::sleep(Duration::from_millis(delay * 3));
        let term = server.signal(Signal::TERM);
        assert_soon(term, server.expect_exit(0).at);
    }
}

#[test]
fn a_worker_that_ignores_sigterm_in_boot_does_not_hold_the_end_up_for_ever() {
    let server = Builder::python("never_ready.py", &["stubborn"])
        .level("notify")
        .drain_timeout("1s")
        .spawn();
    server.wait_status("workers that load", |status| {
        status.workers.iter().all(|worker| worker.status.is_some())
    });
    let term = server.signal(Signal::TERM);
    let exit = server.wait_exit();
    assert_soon(term, exit.at);
    server.assert_no_leftovers();
}

#[test]
fn sigusr1_and_sigwinch_and_sigchld_end_nothing() {
    let server = Builder::axum().start();
    server.signal(Signal::USR1);
    server.signal(Signal::CHILD);
    assert_eq!(server.get("/").status, 200);
    assert!(server.status().ready);
    server.shut_down();
}

#[test]
fn signals_in_any_order_end_in_a_clean_exit() {
    let all = [
        Signal::HUP,
        Signal::TTIN,
        Signal::TTOU,
        Signal::USR1,
        Signal::WINCH,
        Signal::CHILD,
    ];
    for seed in 0..8 {
        let server = Builder::axum().spawn();
        // The master's handlers stand once its ops listener answers.
        server.wait("an answer of /livez", || server.ops("/livez"));
        let mut random = Random::new(seed);
        for _ in 0..30 {
            let pick = random
                .below(Duration::from_millis(all.len() as u64))
                .as_millis();
            server.signal(all[usize::try_from(pick).unwrap().min(all.len() - 1)]);
            std::thread::sleep(random.below(Duration::from_millis(20)));
        }
        let term = server.signal(Signal::TERM);
        let exit = server.wait_exit();
        assert_eq!(exit.code(), Some(0), "seed {seed}: {}", exit.status);
        assert_soon(term, exit.at);
        server.assert_no_leftovers();
    }
}

/// Waits until a worker has a request in flight.
fn in_flight(server: &Server) {
    server.wait_status("a request in flight", |status| {
        status.workers.iter().any(|worker| worker.in_flight > 0)
    });
}

/// Waits for a phase of the pod.
fn phase(server: &Server, phase: &str) {
    server.wait_status(phase, |status| status.phase == phase);
}

#[track_caller]
fn assert_soon(since: Instant, at: Instant) {
    let took = at.saturating_duration_since(since);
    assert!(took < SOON, "it took {took:?}");
}
