//! Clients that behave badly: they leave nothing behind, and do not keep the others from anything.

use std::fs;

use crate::harness::rude::{self, BY_LENGTH, pester};
use crate::harness::{Builder, Conn, Server, Signal};

/// So many before the first look: whatever is made once is made then.
const WARM_UP: usize = 2_000;
/// So many before each further look.
const ROUND: usize = 10_000;
/// So much, in KiB, may be between the last two looks: far less than a leak of 200 bytes for each
/// connection, or of whole ones of a single kind, would make of it.
const GROWTH: u64 = 1024;

#[test]
fn twenty_thousand_rude_clients_leave_nothing_behind_with_the_axum_app() {
    nothing_is_left_behind(Builder::axum());
}

#[test]
fn twenty_thousand_rude_clients_leave_nothing_behind_with_blocking_handlers() {
    nothing_is_left_behind(Builder::hello().set("workers.threads", 8));
}

fn nothing_is_left_behind(builder: Builder) {
    // What is free goes back to the system: only so does a leak show among what is kept for reuse.
    let server = builder
        .workers(1)
        .env("MALLOC_ARENA_MAX", "1")
        .env("MALLOC_MMAP_THRESHOLD_", "16384")
        .env("MALLOC_TRIM_THRESHOLD_", "0")
        .start();
    pester(&server.target, WARM_UP);
    let before = Belongings::of(&server, None);
    pester(&server.target, ROUND);
    let half = Belongings::of(&server, Some(before.descriptors));
    pester(&server.target, ROUND);
    let all = Belongings::of(&server, Some(before.descriptors));
    println!("{before:?}, {half:?}, {all:?}");
    assert!(all.memory <= half.memory + GROWTH, "{half:?}, {all:?}");
    server.shut_down();
}

#[test]
fn of_the_rude_clients_at_a_forced_end_those_with_a_request_are_counted_with_the_axum_app() {
    requests_are_counted_as_aborted(Builder::axum());
}

#[test]
fn of_the_rude_clients_at_a_forced_end_those_with_a_request_are_counted_with_blocking_handlers() {
    requests_are_counted_as_aborted(Builder::hello().set("workers.threads", 8));
}

fn requests_are_counted_as_aborted(builder: Builder) {
    let server = builder.workers(1).drain_timeout("300ms").start();
    let mut clients: Vec<Conn> = (0..6).map(|_| server.connect()).collect();
    let [_silent, idle, head, body, unread, slow] = clients.as_mut_slice() else {
        unreachable!()
    };
    idle.get("/").unwrap();
    head.send(b"GET / HTTP/1.1\r\nHo").unwrap();
    rude::begin_body(body, BY_LENGTH).unwrap();
    unread.send_until_stuck(rude::echo().as_bytes()).unwrap();
    slow.send_get("/slow/30").unwrap();
    server.wait_status("three requests", |status| {
        let worker = &status.workers[0];
        (worker.connections, worker.in_flight) == (6, 3)
    });
    server.signal(Signal::TERM);
    server.expect_exit(5);
    server.wait_log(&["worker drained", "aborted=3"]);
}

/// What the worker has while nobody is connected.
#[derive(Debug)]
struct Belongings {
    descriptors: usize,
    memory: u64,
}

impl Belongings {
    /// Waits until all connections are gone, and the descriptors as many as they were.
    fn of(server: &Server, descriptors: Option<usize>) -> Belongings {
        // The queue keeps their order: who was before this one has been accepted.
        assert_eq!(server.get("/").status, 200);
        let status = server.wait_status("no connection and no request", |status| {
            let worker = &status.workers[0];
            (worker.connections, worker.in_flight) == (0, 0)
        });
        let pid = status.pids()[0];
        let open = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let descriptors = descriptors.unwrap_or_else(open);
        server.wait(&format!("return to {descriptors} descriptors"), || {
            (open() == descriptors).then_some(())
        });
        Belongings {
            descriptors,
            memory: memory(pid),
        }
    }
}

/// Resident memory that is the process's own, in KiB.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}
