//! On the way out: who is kept, who is told, who is served, who is closed.

use std::io::Write;
use std::time::Duration;

use worker_api::WorkerState;
use worker_api::message::Command;

use super::Pod;
use crate::client::{Client, PATIENCE};

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

/// Connections that have served a request each and are idle.
fn idle_clients(pod: &Pod, count: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..count).map(|_| pod.connect()).collect();
    for client in &mut clients {
        assert!(!client.get("/").is_last());
    }
    clients
}

#[test]
fn an_idle_connection_is_kept_in_lameduck_and_told_on_its_next_response() {
    let mut pod = Pod::start();
    let mut idle = idle_clients(&pod, 4);
    pod.lameduck();
    for client in &mut idle {
        let reply = client.get("/");
        assert!(reply.status == 200 && reply.is_last());
        client.expect_end();
    }
    assert!(pod.connect().get("/").is_last(), "lameduck accepts");
    pod.drain();
    assert_eq!(pod.drained().1, 0);
}

#[test]
fn a_retiring_worker_ends_once_every_idle_connection_was_told() {
    let pod = Pod::start();
    let mut idle = idle_clients(&pod, 4);
    pod.command(&Command::Retire {
        deadline: PATIENCE * 10,
    });
    pod.until("retiring", |pod| pod.row().state == WorkerState::Retiring);
    assert!(pod.board.pod_healthy() && pod.row().healthy);
    for client in &mut idle {
        assert!(client.get("/").is_last());
        client.expect_end();
        // A client that has been told closes; the last one ends the worker.
        client.stream().shutdown(std::net::Shutdown::Both).unwrap();
    }
    assert_eq!(pod.drained(), (8, 0));
}

#[test]
fn a_retiring_worker_closes_idle_connections_at_its_deadline() {
    let pod = Pod::start();
    let mut idle = idle_clients(&pod, 4);
    pod.command(&Command::Retire {
        deadline: Duration::from_millis(50),
    });
    idle.iter_mut().for_each(Client::expect_end);
    assert_eq!(pod.drained(), (4, 0));
}

#[test]
fn requests_sent_just_before_the_drain_are_served() {
    let pod = Pod::start();
    let mut idle = idle_clients(&pod, 32);
    for client in &idle {
        client.ask("/");
    }
    pod.drain();
    for client in &mut idle {
        assert!(client.reply().status == 200);
        client.expect_end();
    }
    assert_eq!(pod.drained(), (64, 0));
}

#[test]
fn what_came_while_the_worker_was_busy_is_served_after_the_drain_was_told() {
    let mut pod = Pod::with().env("GRACEFORK_THREADS", "1").start();
    let mut idle = idle_clients(&pod, 16);
    let mut busy = pod.connect();
    busy.ask("/block");
    pod.expect("blocking");
    // The worker sees none of this before it sees the drain: bytes on idle connections, and a
    // queue of new ones.
    for client in &idle {
        client.ask("/");
    }
    let mut queued: Vec<_> = (0..16).map(|_| pod.connect()).collect();
    for client in &queued {
        client.ask("/");
    }
    let mut silent = pod.connect();
    pod.drain();
    pod.release();
    assert!(busy.reply().is_last());
    for client in idle.iter_mut().chain(&mut queued) {
        let reply = client.reply();
        assert!(reply.status == 200 && reply.is_last());
        client.expect_end();
    }
    silent.expect_end();
    assert_eq!(pod.drained(), (16 + 1 + 16 + 16, 0));
}

#[test]
fn half_a_request_before_the_drain_is_completed_after_it() {
    let pod = Pod::start();
    let mut fresh = pod.connect();
    let mut used = idle_clients(&pod, 1);
    let mut pipelined = pod.connect();
    let (first, second) = GET.split_at(9);
    fresh.send(first);
    used[0].send(first);
    // The half is in hyper's buffer, behind a request that was served.
    pipelined.send([GET, first].concat());
    assert_eq!(pipelined.reply().status, 200);
    pod.drain();
    for client in [&mut fresh, &mut used[0], &mut pipelined] {
        client.send(second);
        assert!(client.reply().is_last());
        client.expect_end();
    }
    assert_eq!(pod.drained(), (5, 0));
}

#[test]
fn clients_that_do_not_react_to_the_end_do_not_hold_the_worker() {
    let pod = Pod::start();
    let idle = idle_clients(&pod, 16);
    pod.drain();
    assert_eq!(pod.drained(), (16, 0));
    drop(idle);
}

#[test]
fn a_running_request_is_finished_in_a_drain() {
    let mut pod = Pod::start();
    let mut held = pod.connect();
    held.ask("/hold");
    pod.expect("holding");
    let mut streaming = pod.connect();
    streaming.ask("/stream");
    pod.expect("streaming");
    pod.drain();
    pod.release();
    pod.release();
    let reply = held.reply();
    assert!(reply.text() == "held" && reply.is_last());
    // Its head was out before the drain: it is closed without having been told, but complete.
    assert_eq!(streaming.reply().text(), "first,last");
    held.expect_end();
    streaming.expect_end();
    assert_eq!(pod.drained(), (2, 0));
}

#[test]
fn a_response_is_in_flight_until_its_last_byte_is_written() {
    let pod = Pod::start();
    let mut client = pod.connect();
    client.ask("/large");
    pod.until("in flight", |pod| pod.row().in_flight == 1);
    pod.drain();
    assert_eq!((pod.row().in_flight, pod.row().responses[1]), (1, 0));
    assert_eq!(client.reply().body.len(), crate::app::LARGE);
    assert_eq!(pod.drained(), (1, 0));
}

#[test]
fn force_aborts_what_runs_and_counts_it() {
    let mut pod = Pod::start();
    let mut held = pod.connect();
    held.ask("/hold");
    pod.expect("holding");
    let idle = idle_clients(&pod, 2);
    pod.drain();
    pod.command(&Command::Quit);
    assert!(held.try_reply().is_err());
    assert_eq!(pod.drained(), (2, 1));
    drop(idle);
}

#[test]
fn a_body_that_the_app_still_reads_is_received_to_its_end() {
    let mut pod = Pod::start();
    let mut client = pod.connect();
    // Of no known length: a driver may wait for a small body before it calls the app.
    client.send(
        "POST /early HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n\
         a\r\n0123456789\r\n",
    );
    assert_eq!(client.reply().text(), "early");
    let mut idle = idle_clients(&pod, 1);
    pod.drain();
    // This one's end says that the drain has reached the connections.
    idle[0].expect_end();
    client.send("a\r\n0123456789\r\n0\r\n\r\n");
    pod.expect("got 20");
    client.expect_end();
    assert_eq!(pod.drained(), (2, 0));
}

#[test]
fn idle_connections_that_ask_around_the_drain_get_an_answer_or_a_clean_end() {
    let mut pod = Pod::start();
    let idle = idle_clients(&pod, 64);
    // In turns before and after lameduck begins: all are answered, and all are told.
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            for client in idle {
                let mut client = client;
                loop {
                    let reply = client.get("/");
                    assert_eq!(reply.status, 200);
                    if reply.is_last() {
                        client.expect_end();
                        break;
                    }
                }
            }
        });
        pod.lameduck();
        asking.join().unwrap();
    });
    pod.drain();
    assert_eq!(pod.drained().1, 0);
}

#[test]
fn a_client_that_is_gone_does_not_count_as_aborted() {
    let mut pod = Pod::start();
    let client = pod.connect();
    client.ask("/hold");
    pod.expect("holding");
    drop(client);
    pod.until("no request left", |pod| {
        pod.row().in_flight == 0 && pod.row().connections == 0
    });
    // A driver whose app blocks waits for the call all the same.
    pod.release();
    let mut half = pod.connect();
    half.send("GET /");
    half.stream().flush().unwrap();
    half.stream().shutdown(std::net::Shutdown::Write).unwrap();
    half.expect_end();
    pod.drain();
    assert_eq!(pod.drained(), (0, 0));
}
