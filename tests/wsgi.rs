//! WSGI apps under a real master: nothing lost, whatever goes, and no call that hangs for ever.

use crate::harness::Builder;
use crate::harness::programs::{Program, hosting_python, need, root};
use crate::recycle::recycles;
use crate::shutdown::{LAMEDUCK, promptly, sigterm_under_load};

/// The app of `tests/workers/wsgi_app.py`, called by so many threads.
fn raw(threads: i64) -> Builder {
    let python = hosting_python("sys").unwrap();
    Builder::new(Program::new("wsgi_app:app"))
        .set("chdir", root().join("tests/workers").to_str().unwrap())
        .set("python.executable", python.to_str().unwrap())
        .set("workers.threads", threads)
        .set("health.path", "/health")
        .env("PYTHONDONTWRITEBYTECODE", "1")
}

#[test]
fn sigterm_under_load_loses_nothing_with_a_wsgi_app() {
    need!(hosting_python("sys"), "the package");
    for threads in [1, 8] {
        promptly("the exit, after lameduck", || {
            let server = raw(threads).lameduck("3s").start();
            let (term, exit) = sigterm_under_load(&server, &server.target, "/health");
            exit.after(term + LAMEDUCK)
        });
    }
}

#[test]
fn thirty_two_clients_lose_nothing_to_max_requests_of_a_wsgi_app() {
    need!(hosting_python("sys"), "the package");
    recycles(raw(1).set("workers.preload", true));
}

#[test]
fn a_call_that_hangs_is_told_of_with_its_traceback_and_its_worker_replaced() {
    need!(hosting_python("sys"), "the package");
    let server = raw(2).workers(1).set("workers.hang_timeout", "2s").start();
    let before = server.watch_workers();
    let (mut busy, mut second) = (server.connect(), server.connect());
    busy.send_get("/block?secret").unwrap();
    server.wait_log(&["does not return; others are made", "GET /block for "]);
    assert_eq!(server.get("/").status, 200, "the other thread serves");
    assert_eq!(server.log.count(&["hung"]), 0);
    second.send_get("/block?secret").unwrap();
    server.wait_log(&["hung: a call of the app does not return", "GET /block for "]);
    server.wait_log(&["worker told to abort", "hung"]);
    server.wait_log(&["in block"]);
    server.wait_gone(&before[0]);
    server.wait_ready();
    assert_eq!(server.get("/").status, 200);
    assert_eq!(server.log.count(&["secret"]), 0);
    server.shut_down();
}
