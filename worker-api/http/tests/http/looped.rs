//! A loop that hosts the driver: what it is spared, and what goes on while the app blocks it.

use std::io::Write;
use std::thread;
use std::time::Duration;

use worker_api::message::Command;

use crate::pod::{Hosted, Pod};

fn pod() -> Pod<Hosted> {
    Pod::with().env("GRACEFORK_HEALTH_PATH", "/up").start()
}

#[test]
fn health_is_answered_while_the_app_blocks_or_spins_the_loop() {
    for (path, told) in [("/block", "blocking"), ("/spin", "spinning")] {
        let mut pod = pod();
        let mut known = pod.connect();
        assert_eq!(known.get("/").status, 200);
        let mut busy = pod.connect();
        busy.ask(path);
        pod.expect(told);
        for _ in 0..3 {
            assert_eq!(known.get("/up").status, 200);
            assert_eq!(pod.connect().get("/up").status, 200, "a new connection");
        }
        pod.until("the call alone runs", |pod| pod.row().in_flight == 1);
        pod.release();
        assert_eq!(busy.reply().status, 200);
        assert_eq!(known.get("/").text(), "hello", "the loop is back");
    }
}

#[test]
fn requests_are_read_while_the_loop_is_blocked_and_answered_after_it() {
    let mut pod = pod();
    let mut busy = pod.connect();
    busy.ask("/block");
    pod.expect("blocking");
    let mut waiting: Vec<_> = (0..8).map(|_| pod.connect()).collect();
    for client in &waiting {
        client.ask("/");
    }
    pod.until("all are read", |pod| pod.row().in_flight == 9);
    pod.board.set_pod_healthy(false);
    pod.command(&Command::Lameduck);
    pod.until("lameduck is announced", |pod| {
        let reply = pod.connect().get("/up");
        reply.status == 503 && reply.is_last()
    });
    pod.release();
    for client in waiting.iter_mut().chain([&mut busy]) {
        let reply = client.reply();
        assert!(reply.status == 200 && reply.is_last());
        client.expect_end();
    }
}

#[test]
fn an_answer_leaves_though_the_next_call_blocks_the_loop() {
    let mut pod = pod();
    let mut first = pod.connect();
    first.ask("/block");
    pod.expect("blocking");
    let (mut quick, mut busy) = (pod.connect(), pod.connect());
    for (client, path, count) in [(&mut quick, "/", 2), (&mut busy, "/block", 3)] {
        client.ask(path);
        pod.until("it is read", |pod| pod.row().in_flight == count);
    }
    pod.release();
    // Both calls were to start in the same turn, so that the first one's answer was put off.
    pod.expect("blocking");
    assert_eq!(quick.reply().text(), "hello");
    assert_eq!(first.reply().status, 200);
    pod.release();
    assert_eq!(busy.reply().status, 200);
}

#[test]
fn idle_connections_are_drained_while_the_loop_is_blocked() {
    let mut pod = pod();
    let mut idle = pod.connect();
    assert_eq!(idle.get("/").status, 200);
    let mut busy = pod.connect();
    busy.ask("/block");
    pod.expect("blocking");
    pod.drain();
    idle.expect_end();
    pod.release();
    assert!(busy.reply().is_last());
    assert_eq!(pod.drained(), (2, 0));
}

#[test]
fn a_worker_whose_loop_is_blocked_when_it_is_forced_ends_with_the_call() {
    let mut pod = pod();
    let mut busy = pod.connect();
    busy.ask("/block");
    pod.expect("blocking");
    pod.command(&Command::Quit);
    assert!(busy.try_reply().is_err());
    pod.release();
    assert_eq!(pod.drained(), (0, 1));
}

#[test]
fn the_drain_waits_for_what_the_app_does_after_its_answer() {
    let mut pod = pod();
    let mut client = pod.connect();
    assert_eq!(client.get("/after").text(), "before");
    pod.expect("answered");
    pod.drain();
    client.expect_end();
    pod.release();
    pod.expect("after");
    assert_eq!(pod.drained(), (1, 0));
}

#[test]
fn a_forced_end_does_not_wait_for_an_app_that_holds_on() {
    let mut pod = pod();
    let mut client = pod.connect();
    client.ask("/hold");
    pod.expect("holding");
    pod.command(&Command::Quit);
    assert!(client.try_reply().is_err());
    assert_eq!(pod.drained(), (0, 1));
}

#[test]
fn a_blocked_loop_is_told_of_once_and_a_slow_request_is_not() {
    let mut pod = pod();
    let mut slow = pod.connect();
    slow.ask("/hold");
    pod.expect("holding");
    // Twice as long as a loop may be still.
    thread::sleep(Duration::from_secs(2));
    assert_eq!(pod.connect().get("/stalls").text(), "0");
    let mut busy = pod.connect();
    busy.ask("/block");
    pod.expect("blocking");
    pod.expect("stalled");
    pod.release();
    assert_eq!(slow.reply().text(), "held");
    assert_eq!(busy.reply().text(), "blocked");
    assert_eq!(pod.connect().get("/stalls").text(), "1");
}

#[test]
fn a_loop_does_not_turn_when_nothing_happens() {
    let pod = pod();
    let mut client = pod.connect();
    let before: u64 = client.get("/turns").text().parse().unwrap();
    thread::sleep(Duration::from_millis(300));
    let after: u64 = client.get("/turns").text().parse().unwrap();
    assert!(after - before <= 2, "{before}, then {after}");
}

#[test]
fn a_body_of_any_size_goes_through() {
    const LEN: usize = 32 << 20;
    let pod = pod();
    let mut client = pod.connect();
    client.send(format!(
        "POST /through HTTP/1.1\r\nhost: test\r\ncontent-length: {LEN}\r\n\r\n"
    ));
    let mut writer = client.stream().try_clone().unwrap();
    let sent: Vec<_> = (0..u32::try_from(LEN / 4).unwrap())
        .flat_map(u32::to_le_bytes)
        .collect();
    let expected = sent.clone();
    let writing = thread::spawn(move || writer.write_all(&sent));
    assert!(client.reply().body == expected);
    writing.join().unwrap().unwrap();
}

#[test]
fn an_app_learns_that_its_client_has_gone() {
    let mut pod = pod();
    let client = pod.connect();
    client.ask("/gone");
    pod.expect("waiting");
    drop(client);
    pod.expect("gone");
    let mut endless = pod.connect();
    endless.ask("/endless");
    pod.expect("endless");
    endless.bytes(1 << 20).unwrap();
    drop(endless);
    pod.expect("dropped");
    assert_eq!(pod.connect().get("/").text(), "hello");
}

#[test]
fn a_file_is_sent_whole_between_other_answers() {
    let pod = pod();
    let mut client = pod.connect();
    let expected = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    for path in ["/", "/file", "/", "/file"] {
        client.ask(path);
    }
    for is_file in [false, true, false, true] {
        let reply = client.reply();
        match is_file {
            true => assert!(reply.body == expected, "{} bytes", reply.body.len()),
            false => assert_eq!(reply.text(), "hello"),
        }
    }
}
