//! Hangs, what is told of them, and what is none.

use super::{answers, hosted};
use crate::harness::programs::need;
use crate::harness::{Builder, Server};

#[test]
fn a_wsgi_call_that_does_not_return_is_told_and_its_worker_replaced() {
    for threads in [1, 4] {
        let builder = need!(hosted("hangs_wsgi:app", "sys"), "the package");
        let builder = builder.set("workers.threads", threads);
        is_replaced(&hanging(builder), "does_not_return");
    }
}

#[test]
fn a_blocked_event_loop_is_told_and_its_worker_replaced() {
    for kind in ["asyncio", "auto"] {
        let builder = need!(hosted("hangs_asgi:app", "sys"), "the package");
        let builder = builder.set("python.loop", kind);
        is_replaced(&hanging(builder), "blocks_the_loop");
    }
}

#[test]
fn a_slow_request_of_an_asgi_app_is_no_hang() {
    let builder = need!(hosted("hangs_asgi:app", "sys"), "the package");
    let server = hanging(builder);
    let before = server.worker_pids();
    answers(&server, "/wait", 200, "hello");
    assert_eq!(server.worker_pids(), before);
    assert_eq!(server.log.count(&["hung"]), 0);
    server.shut_down();
}

fn hanging(builder: Builder) -> Server {
    builder.set("workers.hang_timeout", "2s").start()
}

/// Slot, request and traceback are in the log; another worker comes in its place.
fn is_replaced(server: &Server, function: &str) {
    let before = server.watch_workers();
    let mut connection = server.connect();
    connection.send_get("/hang?secret=1").unwrap();
    let line = server.wait_log(&["hung", "slot", "GET /hang for"]);
    assert!(!line.contains(&["secret"]), "{}", line.text);
    server.wait_log(&["line", &format!("in {function}")]);
    server.wait("the end of the one that hung", || {
        before.iter().any(|worker| worker.is_gone()).then_some(())
    });
    let gone = before.iter().filter(|worker| worker.is_gone()).count();
    assert_eq!(gone, 1, "the other worker is untouched");
    server.wait_status("the replacement", |status| status.ready_workers == 2);
    answers(server, "/", 200, "hello");
    drop(connection);
    server.shut_down();
}
