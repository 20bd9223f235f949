//! ASGI apps under a real master: nothing lost, and gone at once.

use crate::harness::Builder;
use crate::harness::programs::{Program, hosting_python, need, root};
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
