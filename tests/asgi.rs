//! ASGI apps under a real master: nothing lost, and no loop that stays blocked.

use crate::harness::Builder;
use crate::harness::programs::{Program, hosting_python, need, root};
use crate::reload::twenty_reloads;
use crate::shutdown::{LAMEDUCK, promptly, sigterm_under_load};

/// The app of `tests/workers/asgi_app.py`.
fn raw() -> Builder {
    let python = hosting_python("sys").unwrap();
    Builder::new(Program::new("asgi_app:app"))
        .set("chdir", root().join("tests/workers").to_str().unwrap())
        .set("python.executable", python.to_str().unwrap())
        .set("python.interface", "asgi")
        .set("health.path", "/health")
        .env("PYTHONDONTWRITEBYTECODE", "1")
}

#[test]
fn sigterm_under_load_loses_nothing_with_an_asgi_app() {
    need!(hosting_python("sys"), "the package");
    promptly("the exit, after lameduck", || {
        let server = raw().lameduck("3s").start();
        let (term, exit) = sigterm_under_load(&server, &server.target, "/health");
        exit.after(term + LAMEDUCK)
    });
}

#[test]
fn twenty_reloads_in_a_row_lose_nothing_with_an_asgi_app() {
    need!(hosting_python("sys"), "the package");
    twenty_reloads(raw());
}

#[test]
fn a_blocked_loop_is_told_of_with_its_traceback_and_its_worker_replaced() {
    need!(hosting_python("sys"), "the package");
    let server = raw()
        .workers(1)
        .set("workers.hang_timeout", "500ms")
        .start();
    let before = server.watch_workers();
    let mut busy = server.connect();
    busy.send_get("/block").unwrap();
    server.wait_log(&["worker told to abort", "hung", "GET /block"]);
    server.wait_log(&["in block"]);
    server.wait_gone(&before[0]);
    server.wait_ready();
    assert_eq!(server.get("/").status, 200);
    server.shut_down();
}
