//! Recycling under load: each worker goes after its requests, its replacement is there before, and
//! no client notices.

use std::collections::BTreeSet;

use crate::harness::{Builder, Load, Server, Signal};

#[test]
fn thirty_two_clients_lose_nothing_to_max_requests_of_axum() {
    recycles(Builder::axum());
}

#[test]
fn thirty_two_clients_lose_nothing_to_max_requests_of_mio() {
    recycles(Builder::mio());
}

#[test]
fn thirty_two_clients_lose_nothing_to_max_requests_of_blocking_handlers() {
    recycles(Builder::hello());
}

/// Several generations of workers come and go under load.
pub(crate) fn recycles(builder: Builder) {
    let server = builder
        .set("workers.max_requests", 150)
        .set("workers.max_requests_jitter", 50)
        .start();
    let load = Load::start(&server.target);
    let mut seen = BTreeSet::new();
    server.wait("eight workers, one after the other", || {
        seen.extend(server.try_status()?.ready_pids());
        (seen.len() >= 8).then_some(())
    });
    load.wait_for(100);
    let report = load.stop();
    println!("{}", report.describe());
    report.assert_none_lost();
    // A worker is told to go when it has reached its number, not before.
    let recycled = server.log.count(&["worker retires", "max_requests"]) as u64;
    assert!(recycled >= 6, "{recycled}");
    assert!(recycled * 150 <= report.ok, "{recycled} of {}", report.ok);
    assert!(restarts(&server) >= recycled as f64);
    server.signal(Signal::TERM);
    server.expect_exit(0);
    server.assert_no_leftovers();
}

fn restarts(server: &Server) -> f64 {
    let text = server.ops("/metrics").unwrap().text();
    let name = "gracefork_restarts_total{reason=\"max_requests\"} ";
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap().parse().unwrap()
}
