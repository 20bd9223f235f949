//! WebSockets that are open when their worker goes.

use std::thread;
use std::time::Duration;

use super::{answers, hosted};
use crate::harness::programs::need;
use crate::harness::{Builder, Conn, Server, Signal};

/// The handshake, and `tea` as a masked text frame.
const HELLO: &[u8] = b"GET /talk HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x83\0\0\0\0tea";

#[test]
fn a_websocket_is_told_1001_when_the_pod_drains() {
    let server = need!(fastapi(), "the package, and FastAPI").start();
    let connection = talk(&server);
    server.signal(Signal::TERM);
    assert_eq!(told(connection), 1001);
    server.expect_exit(0);
}

#[test]
fn a_websocket_is_told_1012_when_its_worker_is_replaced() {
    let server = need!(fastapi(), "the package, and FastAPI").start();
    let connection = talk(&server);
    server.signal(Signal::HUP);
    assert_eq!(told(connection), 1012);
    server.shut_down();
}

#[test]
fn a_websocket_whose_client_says_no_good_bye_is_cut_off_after_the_grace() {
    let builder = need!(fastapi(), "the package, and FastAPI");
    // The usual grace of 5 s would be ended by force.
    let builder = builder.set("shutdown.drain_timeout", "2s");
    let server = builder.set("python.ws_close_grace", "10ms").start();
    let mut connection = talk(&server);
    server.signal(Signal::TERM);
    // It reads, and neither says good-bye nor closes.
    connection.wait_closed().unwrap();
    server.expect_exit(0);
}

#[test]
fn a_websocket_takes_no_message_that_is_longer_than_it_may_be() {
    let builder = need!(fastapi(), "the package, and FastAPI");
    let server = builder.set("python.ws_max_message_size", 2).start();
    let mut connection = server.connect();
    connection.send(HELLO).unwrap();
    let all = connection.wait_closed().unwrap();
    // 1009: too long.
    let close = [0x88, 2, 0x03, 0xf1];
    let found = all.windows(4).any(|four| four == close);
    assert!(found, "{all:?}");
    server.shut_down();
}

#[test]
fn a_websocket_in_a_wsgi_app_lives_until_its_worker_goes() {
    for signal in [Signal::TERM, Signal::HUP] {
        let builder = hosted("sock_app:app", "flask, flask_sock");
        let builder = need!(builder, "the package, and Flask-Sock");
        let builder = builder.set("workers.threads", 4);
        // It lasts, and does not hang.
        let server = builder.set("workers.hang_timeout", "300ms").start();
        let mut connection = talk(&server);
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(150));
            connection.send(b"\x81\x83\0\0\0\0tea").unwrap();
        }
        server.wait("five words", || {
            (server.log.count(&["the socket said tea"]) == 5).then_some(())
        });
        answers(&server, "/", 200, "hello");
        server.signal(signal);
        let all = connection.wait_closed().unwrap();
        assert!(all.ends_with(&b"\x81\x03TEA".repeat(5)), "{all:?}");
        assert_eq!(server.log.count(&["does not return"]), 0);
        assert_eq!(server.log.count(&["Traceback"]), 0);
        server.shut_down();
    }
}

fn fastapi() -> Option<Builder> {
    hosted("fastapi_app:app", "fastapi")
}

/// A WebSocket on which the app has spoken.
fn talk(server: &Server) -> Conn {
    let mut connection = server.connect();
    connection.send(HELLO).unwrap();
    server.wait_log(&["the socket said tea"]);
    connection
}

/// The code of the close frame that ends the connection.
fn told(mut connection: Conn) -> u16 {
    let all = connection.wait_closed().unwrap();
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let (head, frames) = (&all[..end], &all[end + 4..]);
    assert!(head.starts_with(b"HTTP/1.1 101"), "{head:?}");
    assert!(frames.starts_with(b"\x81\x03TEA"), "{frames:?}");
    let close = &frames[5..];
    assert_eq!(close[0], 0x88, "{frames:?}");
    u16::from_be_bytes([close[2], close[3]])
}
