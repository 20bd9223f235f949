//! Early hints: what goes out ahead of a response, and never into one.

use super::Pod;
use crate::client::{Client, Reply};

fn expect_hint(reply: &Reply, link: &str) {
    assert_eq!((reply.status, reply.header("link")), (103, Some(link)));
    assert!(reply.header("content-length").is_none() && reply.header("date").is_none());
}

fn answered(client: &mut Client, body: &str) {
    let reply = client.reply();
    assert_eq!((reply.status, reply.text()), (200, body));
    assert_eq!(reply.header("link"), None);
}

#[test]
fn hints_arrive_while_the_app_is_at_work_and_are_no_responses() {
    let mut pod = Pod::start();
    let mut client = pod.connect();
    for _ in 0..3 {
        client.ask("/hints");
        expect_hint(&client.reply(), "</0.css>");
        expect_hint(&client.reply(), "</1.css>");
        pod.expect("hinted");
        assert_eq!(pod.row().in_flight, 1);
        pod.release();
        answered(&mut client, "");
    }
    pod.drain();
    client.expect_end();
    assert_eq!(pod.drained(), (3, 0));
}

#[test]
fn the_bytes_of_hints_are_on_the_scoreboard() {
    let mut pod = Pod::start();
    let client = pod.connect();
    client.ask("/hints");
    pod.expect("hinted");
    let len = "HTTP/1.1 103 Early Hints\r\nlink: </0.css>\r\n\r\n".len() as u64;
    pod.until("two hints", |pod| pod.row().sent_bytes == 2 * len);
    assert_eq!(pod.row().latency.counts.iter().sum::<u64>(), 0);
    pod.release();
}

#[test]
fn a_hint_precedes_its_own_response_however_fast_that_is() {
    let pod = Pod::start();
    let mut client = pod.connect();
    for _ in 0..20 {
        client.ask("/hint");
        expect_hint(&client.reply(), "</0.css>");
        answered(&mut client, "");
    }
}

#[test]
fn hints_of_pipelined_requests_keep_out_of_each_others_responses() {
    let pod = Pod::start();
    let mut client = pod.connect();
    let requests: String = (0..40)
        .map(|n| {
            format!("POST /hint HTTP/1.1\r\nhost: test\r\ncontent-length: 7\r\n\r\nbody {n:2}")
        })
        .collect();
    client.send(requests);
    for n in 0..40 {
        let mut reply = client.reply();
        if reply.status == 103 {
            expect_hint(&reply, "</0.css>");
            reply = client.reply();
        }
        assert_eq!((reply.status, reply.text()), (200, &*format!("body {n:2}")));
    }
}

#[test]
fn an_old_client_gets_no_hints() {
    let mut pod = Pod::start();
    let mut client = pod.connect();
    client.send("GET /hints HTTP/1.0\r\nhost: test\r\n\r\n");
    pod.expect("no hints");
    pod.release();
    answered(&mut client, "");
    client.expect_end();
}

#[test]
fn a_client_that_waits_to_be_asked_for_its_body_gets_hints_before() {
    let mut pod = Pod::start();
    let mut client = pod.connect();
    client.send(
        "POST /hints HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\nexpect: 100-continue\r\n\r\n",
    );
    pod.expect("hinted");
    expect_hint(&client.reply(), "</0.css>");
    expect_hint(&client.reply(), "</1.css>");
    pod.release();
    assert_eq!(client.reply().status, 100);
    let body = "x".repeat(100_000);
    client.send(&body);
    answered(&mut client, &body);
}

#[test]
fn a_hint_that_comes_after_its_response_is_dropped() {
    let mut pod = Pod::start();
    let mut client = pod.connect();
    client.ask("/late-hint");
    answered(&mut client, "");
    pod.release();
    pod.expect("hinted");
    // Nor is it taken for one of the next request.
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "hello");
    }
    pod.drain();
    client.expect_end();
    assert_eq!(pod.drained(), (4, 0));
}

#[test]
fn hints_for_a_client_that_has_gone_are_dropped() {
    let mut pod = Pod::start();
    let client = pod.connect();
    client.ask("/late-hint");
    pod.until("answered", |pod| {
        pod.row().latency.counts.iter().sum::<u64>() == 1
    });
    drop(client);
    pod.until("gone", |pod| pod.row().connections == 0);
    pod.release();
    pod.expect("hinted");
    assert_eq!(pod.connect().get("/").text(), "hello");
}

#[test]
fn a_request_that_was_hinted_at_can_be_aborted() {
    let mut pod = Pod::start();
    let mut client = pod.connect();
    client.ask("/hints");
    expect_hint(&client.reply(), "</0.css>");
    expect_hint(&client.reply(), "</1.css>");
    pod.expect("hinted");
    pod.command(&worker_api::message::Command::Quit);
    assert!(client.try_reply().is_err());
    assert_eq!(pod.drained(), (0, 1));
}
