//! 64 idle keep-alive connections that each send at a random moment around a change of phase: none
//! is reset or closed without having been told before.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::http::Lost;
use crate::harness::load::Random;
use crate::harness::schedule::alone;
use crate::harness::{Builder, Conn, Server, Signal};

const CONNECTIONS: usize = 64;
/// Requests are sent within so much before and after the change.
const AROUND: Duration = Duration::from_millis(300);

/// What became of one connection.
enum Outcome {
    Answered,
    /// Closed before the request was written: what a client must be ready for, but only at drain.
    ClosedBefore,
    Lost(Lost),
}

#[test]
fn idle_connections_lose_nothing_around_the_start_of_retire() {
    let _alone = alone();
    let server = Builder::axum().start();
    around(&server, Duration::ZERO, Signal::HUP, false);
    server.wait_status("the new generation alone", |status| {
        status.workers.len() == 2
            && status
                .workers
                .iter()
                .all(|worker| worker.generation == status.generation)
    });
    server.shut_down();
}

#[test]
fn idle_connections_lose_nothing_around_the_start_of_lameduck() {
    let _alone = alone();
    let server = Builder::axum().lameduck("2s").start();
    around(&server, Duration::ZERO, Signal::TERM, false);
    server.expect_exit(0);
}

#[test]
fn idle_connections_lose_nothing_around_the_start_of_drain() {
    let _alone = alone();
    let lameduck = Duration::from_millis(800);
    let server = Builder::axum().lameduck("800ms").start();
    around(&server, lameduck, Signal::TERM, true);
    server.expect_exit(0);
}

#[test]
fn idle_connections_of_the_mio_app_lose_nothing_around_the_start_of_drain() {
    let _alone = alone();
    let server = Builder::mio().start();
    around(&server, Duration::ZERO, Signal::INT, true);
    server.expect_exit(0);
}

#[test]
fn connections_that_have_sent_nothing_yet_are_served_in_lameduck() {
    let server = Builder::axum().lameduck("30s").start();
    let mut silent: Vec<Conn> = (0..8).map(|_| server.connect()).collect();
    server.signal(Signal::TERM);
    server.wait_status("lameduck", |status| status.phase == "lameduck");
    for connection in &mut silent {
        assert_eq!(connection.get("/").unwrap().status, 200);
    }
    server.signal(Signal::INT);
    server.expect_exit(0);
}

#[test]
fn a_request_that_comes_in_pieces_over_the_start_of_drain_is_answered() {
    for builder in [Builder::axum(), Builder::mio()] {
        let server = builder.start();
        let mut connection = server.connect();
        connection.get("/").unwrap();
        connection
            .send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Le")
            .unwrap();
        // The bytes are in the worker's socket before the signal is; loopback is in order.
        thread::sleep(Duration::from_millis(50));
        server.signal(Signal::INT);
        server.wait_status("drain", |status| status.phase == "drain");
        connection.send(b"ngth: 4\r\n\r\nbo").unwrap();
        connection.send(b"dy").unwrap();
        let response = connection.read_response().unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "body"));
        // By its word or, where the worker learns of the drain a moment after the master, by its end.
        connection.wait_closed().unwrap();
        server.expect_exit(0);
    }
}

#[test]
fn requests_that_came_before_the_drain_was_seen_are_answered() {
    for builder in [Builder::axum(), Builder::mio()] {
        let server = builder.start();
        let mut idle: Vec<Conn> = (0..8).map(|_| server.connect()).collect();
        for connection in &mut idle {
            assert!(!connection.get("/").unwrap().close);
        }
        // The workers stand still while the requests and the signal come: all is there at once.
        let workers = server.watch_workers();
        workers
            .iter()
            .for_each(|worker| worker.signal(Signal::STOP));
        let mut queued: Vec<Conn> = (0..8).map(|_| server.connect()).collect();
        for connection in idle.iter_mut().chain(&mut queued) {
            connection.send_get("/").unwrap();
        }
        server.signal(Signal::TERM);
        server.wait_status("drain", |status| status.phase == "drain");
        workers
            .iter()
            .for_each(|worker| worker.signal(Signal::CONT));
        for connection in idle.iter_mut().chain(&mut queued) {
            let response = connection.read_response();
            let response = response.unwrap_or_else(|lost| server.fail(&format!("lost: {lost}")));
            assert_eq!(response.status, 200);
        }
        server.expect_exit(0);
    }
}

/// Opens the connections, then sends `signal` after [`AROUND`] (what it changes comes `after` that)
/// while each connection sends at its own random moment.
fn around(server: &Server, after: Duration, signal: Signal, may_close: bool) {
    let mut connections: Vec<Conn> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    for connection in &mut connections {
        let response = connection.get("/").unwrap();
        assert!(response.status == 200 && !response.close);
    }
    let start = Instant::now();
    let change_at = start + AROUND;
    let senders = connections
        .into_iter()
        .enumerate()
        .map(|(number, connection)| {
            let at = start + after + Random::new(number).below(2 * AROUND);
            thread::spawn(move || send_at(connection, at))
        });
    let senders = senders.collect::<Vec<_>>();
    thread::sleep(change_at.saturating_duration_since(Instant::now()));
    server.signal(signal);

    let mut answered = 0;
    for sender in senders {
        match sender.join().unwrap() {
            Outcome::Answered => answered += 1,
            Outcome::ClosedBefore => assert!(may_close, "closed without having been told"),
            Outcome::Lost(lost) => panic!("a request was lost: {lost}"),
        }
    }
    println!("{answered} of {CONNECTIONS} answered, the others closed before they sent");
    assert!(answered > 0);
}

fn send_at(mut connection: Conn, at: Instant) -> Outcome {
    thread::sleep(at.saturating_duration_since(Instant::now()));
    if connection.is_closed() {
        return Outcome::ClosedBefore;
    }
    match connection.get("/") {
        Ok(response) if response.status == 200 => Outcome::Answered,
        Ok(response) => panic!("status {}", response.status),
        Err(lost) => Outcome::Lost(lost),
    }
}
