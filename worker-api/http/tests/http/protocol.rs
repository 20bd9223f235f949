//! Serving: what an answer needs to arrive, time-outs, accounting, health.

use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use super::Pod;
use crate::client::{Client, PATIENCE};
use crate::pod::scratch;

#[test]
fn pipelined_requests_are_answered_in_order() {
    let pod = Pod::start();
    let mut client = pod.connect();
    let requests: String = (0..40)
        .map(|n| {
            let body = format!("number {n}");
            format!(
                "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        })
        .collect();
    client.send(requests);
    for n in 0..40 {
        assert_eq!(client.reply().text(), format!("number {n}"));
    }
}

#[test]
fn an_unread_body_does_not_reset_the_answer() {
    let pod = Pod::start();
    let mut client = pod.connect();
    let body = vec![b'x'; 8 << 20];
    client.send(format!(
        "POST /refuse HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ));
    client.send(body);
    assert_eq!(client.reply().status, 413);
    client.expect_end();
}

#[test]
fn an_unread_body_does_not_reset_the_answer_in_a_drain() {
    let mut pod = Pod::with().env("GRACEFORK_THREADS", "1").start();
    let busy = pod.connect();
    busy.ask("/block");
    pod.expect("blocking");
    let mut client = pod.connect();
    client.send("POST /refuse HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n");
    client.send(vec![b'x'; 100_000]);
    pod.drain();
    pod.release();
    let reply = client.reply();
    assert!(reply.status == 413 && reply.is_last());
    client.expect_end();
}

#[test]
fn a_malformed_request_gets_its_400_whatever_comes_behind_it() {
    let pod = Pod::start();
    let mut client = pod.connect();
    client.send("NOT HTTP AT ALL\r\n\r\n".repeat(20_000));
    let reply = client.reply();
    assert!(reply.status == 400 && reply.is_last());
    client.expect_end();
}

#[test]
fn an_answer_to_a_request_that_offers_an_upgrade_in_vain_is_not_reset_either() {
    let mut pod = Pod::start();
    pod.lameduck();
    let mut client = pod.connect();
    client.send(
        "POST /refuse HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: h2c\r\n\
         content-length: 1000000\r\n\r\n",
    );
    client.send(vec![b'x'; 1_000_000]);
    assert_eq!(client.reply().status, 413);
    client.expect_end();
}

#[test]
fn a_head_that_does_not_come_to_its_end_is_refused() {
    let pod = Pod::with()
        .env("GRACEFORK_HEADER_TIMEOUT_USEC", "50000")
        .start();
    let mut first = pod.connect();
    let mut later = pod.connect();
    assert_eq!(later.get("/").status, 200);
    for client in [&mut first, &mut later] {
        client.send("GET / HTTP/1.1\r\nhost: te");
        let reply = client.reply();
        assert!(reply.status == 408 && reply.is_last());
        client.expect_end();
    }
}

#[test]
fn a_body_that_does_not_come_to_its_end_is_refused() {
    let pod = Pod::with()
        .env("GRACEFORK_BODY_TIMEOUT_USEC", "50000")
        .start();
    // Small enough to be waited for before the handler is called, where that may block.
    let mut client = pod.connect();
    client.send("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nfour");
    let reply = client.reply();
    assert!(reply.status == 408 && reply.is_last());
    client.expect_end();
}

#[test]
fn an_idle_or_silent_connection_is_closed_after_the_keep_alive_time() {
    let pod = Pod::with()
        .env("GRACEFORK_KEEP_ALIVE_USEC", "1000000")
        .start();
    let mut silent = pod.connect();
    let mut idle = pod.connect();
    assert!(!idle.get("/").is_last());
    silent.expect_end();
    idle.expect_end();
}

#[test]
fn no_keep_alive_time_means_one_request_a_connection() {
    let pod = Pod::with().env("GRACEFORK_KEEP_ALIVE_USEC", "0").start();
    let mut client = pod.connect();
    client.ask("/");
    // The connection may not even wait for the first byte.
    if let Ok(reply) = client.try_reply() {
        assert!(reply.is_last());
        client.expect_end();
    }
}

#[test]
fn blank_lines_between_requests_do_not_end_a_connection() {
    let pod = Pod::with()
        .env("GRACEFORK_HEADER_TIMEOUT_USEC", "20000")
        .start();
    let mut client = pod.connect();
    assert_eq!(client.get("/").status, 200);
    client.send("\r\n");
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn an_old_client_is_served_and_closed() {
    let pod = Pod::start();
    let mut client = pod.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.reply().text(), "hello");
    client.expect_end();
}

#[test]
fn a_head_request_gets_no_body_and_keeps_its_connection() {
    let pod = Pod::start();
    let mut client = pod.connect();
    client.send("HEAD /nowhere HTTP/1.1\r\nhost: test\r\n\r\n");
    client.ask("/");
    let (head, get) = (client.bytes_until_blank(), client.reply());
    assert!(head.starts_with("HTTP/1.1 404"));
    assert_eq!(get.text(), "hello");
}

#[test]
fn requests_responses_and_connections_are_counted() {
    let mut pod = Pod::start();
    let mut client = pod.connect();
    client.get("/");
    client.get("/nowhere");
    pod.until("the counts", |pod| {
        let row = pod.row();
        (row.connections, row.in_flight, row.requests) == (1, 0, 2)
            && row.responses == [0, 1, 0, 1, 0]
    });
    assert_eq!(client.get("/hooks").text(), "3 2");
    client.ask("/hold");
    pod.expect("holding");
    assert_eq!(pod.row().in_flight, 1);
    pod.release();
    client.reply();
    drop(client);
    pod.until("closed", |pod| {
        (pod.row().connections, pod.row().in_flight) == (0, 0)
    });
}

#[test]
fn the_built_in_health_path_is_answered_before_the_app() {
    let mut pod = Pod::with()
        .env("GRACEFORK_HEALTH_PATH", "/up")
        .env("GRACEFORK_UNHEALTHY_STATUS", "500")
        .start();
    let mut client = pod.connect();
    let reply = client.get("/up");
    let pid = pod.row().pid;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.text(), format!(r#"{{"pid": {pid}, "status": "ok"}}"#));
    assert_eq!(client.get("/up/x").status, 404);
    pod.lameduck();
    let reply = client.get("/up");
    assert!(reply.status == 500 && reply.is_last());
    assert_eq!(
        reply.text(),
        format!(r#"{{"pid": {pid}, "status": "unhealthy"}}"#)
    );
}

#[test]
fn a_worker_without_free_descriptors_serves_the_queue_when_it_has_some_again() {
    let pod = Pod::with().env("DESCRIPTORS", "40").start();
    let clients: Vec<_> = (0..80).map(|_| pod.connect()).collect();
    for client in &clients {
        client.ask("/");
    }
    pod.until("it took what it could", |pod| pod.row().connections > 10);
    for mut client in clients {
        assert_eq!(client.reply().text(), "hello");
    }
}

#[test]
fn a_unix_socket_is_served_as_well() {
    let path = scratch("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let pod = Pod::with().start_on(listener.into(), None);
    let stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut client = Client::new(stream);
    assert_eq!(client.get("/").text(), "hello");
    pod.drain();
    client.expect_end();
    assert_eq!(pod.drained(), (1, 0));
}

#[test]
fn a_worker_rests_while_it_works_for_a_client_that_has_gone_or_wants_more() {
    let mut pod = Pod::start();
    let gone = pod.connect();
    gone.ask("/hold");
    pod.expect("holding");
    drop(gone);
    let mut eager = pod.connect();
    eager.ask("/hold");
    eager.ask("/hold");
    pod.expect("holding");
    let before = processor_time(&pod);
    std::thread::sleep(Duration::from_millis(400));
    let spent = processor_time(&pod) - before;
    assert!(spent < Duration::from_millis(100), "{spent:?}");
    pod.release();
    pod.release();
    assert_eq!(eager.reply().status, 200);
}

/// What the worker has had so far.
fn processor_time(pod: &Pod) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pod.row().pid)).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}
