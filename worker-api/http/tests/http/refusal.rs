//! Refusals on real sockets, and whom the worker believes.

use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use super::Pod;
use crate::client::{Client, PATIENCE};
use crate::pod::scratch;

const BAD: &str = "GET / HTTP/1.1\r\nHost: a\nHost: b\r\n\r\n";

#[test]
fn a_refusal_comes_after_the_answers_before_it() {
    let mut pod = Pod::start();
    let mut client = pod.connect();
    client.ask("/hold");
    pod.expect("holding");
    client.send(BAD.repeat(1000));
    pod.release();
    assert_eq!(client.reply().text(), "held");
    let reply = client.reply();
    assert!(reply.status == 400 && reply.is_last());
    assert_eq!(reply.text(), "400 Bad Request: a line ends with LF alone\n");
    client.expect_end();
    pod.until("one request was counted", |pod| {
        let row = pod.row();
        row.requests == 1 && row.in_flight == 0 && row.connections == 0
    });
}

#[test]
fn a_body_that_is_too_long_does_not_reset_the_refusal() {
    let pod = Pod::with().env("GRACEFORK_MAX_BODY", "1000").start();
    for head in ["Content-Length: 8000000", "Transfer-Encoding: chunked"] {
        let mut client = pod.connect();
        client.send(format!("POST /echo HTTP/1.1\r\n{head}\r\n\r\n7a1200\r\n"));
        client.send(vec![b'x'; 8_000_000]);
        let reply = client.reply();
        assert!(reply.status == 413 && reply.is_last(), "{head}");
        client.expect_end();
    }
}

#[test]
fn a_client_that_has_closed_its_side_gets_its_answer() {
    let mut pod = Pod::start();
    let mut client = pod.connect();
    client.ask("/hold");
    pod.expect("holding");
    client.stream().shutdown(Shutdown::Write).unwrap();
    // The worker has seen the end once it serves what came later.
    assert_eq!(pod.connect().get("/").status, 200);
    pod.release();
    assert_eq!(client.reply().text(), "held");
    client.expect_end();
}

#[test]
fn forwarding_headers_count_from_believed_proxies_alone() {
    let ask = "GET /client HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n\
               X-Forwarded-Proto: https\r\n\r\n";
    for (believed, told) in [
        ("127.0.0.0/8", "true Some(192.0.2.1) true"),
        ("10.0.0.0/8", "true Some(127.0.0.1) false"),
        ("*", "true Some(6.6.6.6) true"),
    ] {
        let pod = Pod::with()
            .env("GRACEFORK_FORWARDED_ALLOW_IPS", believed)
            .start();
        let mut client = pod.connect();
        client.send(ask);
        assert_eq!(client.reply().text(), told);
    }
}

#[test]
fn a_proxy_header_counts_from_believed_proxies_alone() {
    let ask = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET /client HTTP/1.1\r\n\r\n";
    let proxy = || Pod::with().env("GRACEFORK_PROXY_PROTOCOL", "1");
    let pod = proxy().start();
    let mut client = pod.connect();
    client.send(ask);
    assert_eq!(client.reply().text(), "true Some(192.0.2.1) false");
    assert_eq!(client.get("/").text(), "hello");

    // A balancer that passes on what its clients write is no witness of who they are.
    let pod = proxy()
        .env("GRACEFORK_FORWARDED_ALLOW_IPS", "10.0.0.0/8")
        .start();
    let mut client = pod.connect();
    client.send(ask.replace("\r\n\r\n", "\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"));
    assert_eq!(client.reply().text(), "true Some(192.0.2.1) false");

    let pod = proxy()
        .env("GRACEFORK_PROXY_ALLOW_IPS", "10.0.0.0/8")
        .start();
    let mut client = pod.connect();
    client.send(ask);
    let reply = client.reply();
    assert!(reply.status == 403 && reply.is_last());
    client.expect_end();
    assert_eq!(pod.connect().get("/").text(), "hello");
}

#[test]
fn whoever_comes_by_a_unix_socket_is_believed() {
    let path = scratch("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let _pod = Pod::with()
        .env("GRACEFORK_FORWARDED_ALLOW_IPS", "10.0.0.0/8")
        .start_on(listener.into(), None);
    let stream = UnixStream::connect(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client::new(stream);
    client.send("GET /client HTTP/1.1\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n");
    client.stream().flush().unwrap();
    assert_eq!(client.reply().text(), "false Some(192.0.2.1) false");
}
