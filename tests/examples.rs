//! The Python examples, unchanged: what a load balancer sees of them when their pod goes down.

use crate::harness::programs::{Program, hosting_python, need, root};
use crate::harness::{Builder, Server};
use crate::shutdown::{LAMEDUCK, promptly, sigterm_under_load};

#[test]
fn flask_with_the_well_known_trick_turns_unhealthy_serves_on_and_drains() {
    need!(hosting_python("flask"), "the package, and Flask");
    promptly("the exit, after lameduck", || {
        let config = root().join("examples/flask-unchanged/gunicorn_config.py");
        let server = example("flask-unchanged")
            .set("python.config", config.to_str().unwrap())
            .start();
        let took = goes_down(&server);
        let told = server.log.count(&["SIGTERM, unhealthy from now on"]);
        assert_eq!(told, 2, "the handler of each worker has run");
        took
    });
}

#[test]
fn flask_that_does_nothing_for_it_turns_unhealthy_serves_on_and_drains() {
    need!(hosting_python("flask"), "the package, and Flask");
    promptly("the exit, after lameduck", || {
        let server = example("flask-plain")
            .set("health.path", "/health")
            .set("workers.threads", 4)
            .start();
        goes_down(&server)
    });
}

#[test]
fn fastapi_with_handlers_of_its_own_turns_unhealthy_serves_on_and_drains() {
    need!(hosting_python("fastapi"), "the package, and FastAPI");
    promptly("the exit, after lameduck", || {
        let server = example("fastapi-signals").start();
        goes_down(&server)
    });
}

/// The app of a folder of `examples`, whose own health is asked.
fn example(name: &str) -> Builder {
    let folder = root().join("examples").join(name);
    let python = hosting_python("sys").unwrap();
    Builder::new(Program::new("main:app"))
        .set("chdir", folder.to_str().unwrap())
        .set("python.executable", python.to_str().unwrap())
        .set("health.path", "off")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .lameduck("3s")
}

/// SIGTERM under load: nothing is lost; how long after lameduck it is gone.
fn goes_down(server: &Server) -> std::time::Duration {
    let (term, exit) = sigterm_under_load(server, &server.target, "/health");
    exit.after(term + LAMEDUCK)
}
