//! Hangs, what is told of them, and what is none.

use super::{answers, hosted};
use crate::harness::programs::need;
use crate::harness::status::Status;
use crate::harness::{Builder, Server, Signal};

#[test]
fn a_wsgi_call_that_does_not_return_is_told_and_its_worker_replaced() {
    let builder = need!(hosted("hangs_wsgi:app", "sys"), "the package");
    is_replaced(&hanging(builder), "does_not_return");
}

#[test]
fn a_blocked_event_loop_is_told_and_its_worker_replaced() {
    for kind in ["asyncio", "auto"] {
        let builder = need!(hosted("hangs_asgi:app", "sys"), "the package");
        let builder = builder.set("python.loop", kind);
        let server = hanging(builder);
        is_replaced(&server, "blocks_the_loop");
        assert_eq!(server.log.count(&["the event loop is blocked since"]), 1);
    }
}

#[test]
fn a_slow_request_of_an_asgi_app_is_no_hang() {
    let builder = need!(hosted("hangs_asgi:app", "sys"), "the package");
    let server = hanging(builder);
    let before = server.worker_pids();
    answers(&server, "/wait", 200, "hello");
    assert_eq!(server.worker_pids(), before);
    server.shut_down();
    assert_eq!(server.log.count(&["hung"]), 0);
    assert_eq!(server.log.count(&["blocked"]), 0);
}

/// From Python 3.12 on a coroutine begins to run before its task is scheduled, within the driver's
/// own callback.
#[test]
fn an_abort_ends_a_worker_in_the_middle_of_a_coroutine() {
    for kind in ["asyncio", "auto"] {
        for path in ["/spin", "/hang", "/wait"] {
            let builder = need!(hosted("hangs_asgi:app", "sys"), "the package");
            let server = builder.set("python.loop", kind).start();
            let mut connection = server.connect();
            connection.send_get(path).unwrap();
            server.wait_log(&["is in", path]);
            let status = server.wait_status("the request", |status| busy(status).is_some());
            let worker = server.watch(busy(&status).unwrap());
            worker.signal(Signal::ABORT);
            server.wait_gone(&worker);
            server.wait_log(&["worker died", "exit status 1"]);
            server.wait_status("the replacement", |status| status.ready_workers == 2);
            answers(&server, "/", 200, "hello");
            assert_eq!(server.log.count(&["never awaited"]), 0);
            drop(connection);
            server.shut_down();
        }
    }
}

/// The worker that has a request.
fn busy(status: &Status) -> Option<u32> {
    let mut workers = status.workers.iter();
    workers.find(|worker| worker.in_flight > 0)?.pid
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
