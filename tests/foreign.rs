//! Real programs, unchanged: what users have today.

use crate::harness::programs::{Program, need, node, python, uvicorn};
use crate::harness::{Builder, Load, Signal};

#[test]
fn uvicorn_runs_unchanged() {
    let server = Builder::new(need!(uvicorn(), "uvicorn")).start();
    serves_and_ends(server);
}

#[test]
fn uvicorn_is_reloaded() {
    let server = Builder::new(need!(uvicorn(), "uvicorn")).start();
    let old = server.watch_workers();
    server.signal(Signal::HUP);
    for process in &old {
        server.wait_gone(process);
    }
    server.wait_status("the new generation", |status| {
        status.generation == 2 && status.ready_workers == 2
    });
    serves_and_ends(server);
}

#[test]
fn a_node_server_on_the_inherited_socket_runs_unchanged() {
    let program = need!(node("server.js"), "node").arg("{fd}");
    serves_and_ends(Builder::new(program).start());
}

#[test]
fn pythons_own_http_server_runs_unchanged() {
    // With its site packages: the standard library's server wants no more than that.
    let program = Program::new(python("http_server.py").path)
        .arg(python("http_server.py").args.pop().unwrap());
    let server = Builder::new(program.arg("{fd}"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .start();
    assert_eq!(server.get("/").status, 200);
    server.shut_down();
}

/// It starts the server and waits for it, as many images do: a shell passes no signal on, and does
/// not outlive one itself.
fn behind_a_shell(script: &str) -> Builder {
    let server = python(script);
    let mut line = Program::new("/bin/sh").arg("-c").arg("\"$@\"; true");
    line = line.arg("sh").arg(server.path.to_str().unwrap());
    line.args.extend(server.args);
    Builder::new(line).silent().workers(1)
}

#[test]
fn a_server_behind_a_shell_finishes_what_it_has() {
    let server = behind_a_shell("plain.py").start();
    let mut connection = server.connect();
    connection.send_get("/slow/2").unwrap();
    server.wait_log(&["takes its time"]);
    server.signal(Signal::TERM);
    assert_eq!(connection.read_response().unwrap().status, 200);
    server.expect_exit(0);
    server.wait_log(&["what it started is told to stop", "SIGTERM"]);
    assert_eq!(server.log.count(&["killed"]), 0);
}

#[test]
fn a_server_behind_a_shell_finishes_what_it_has_in_a_reload() {
    let server = behind_a_shell("plain.py").start();
    let old = server.watch_workers().remove(0);
    let mut connection = server.connect();
    connection.send_get("/slow/3").unwrap();
    server.wait_log(&["takes its time"]);
    server.signal(Signal::HUP);
    assert_eq!(connection.read_response().unwrap().status, 200);
    server.wait_gone(&old);
    server.wait_status("the new one alone", |status| {
        status.generation == 2 && status.workers.len() == 1
    });
    server.shut_down();
}

#[test]
fn a_server_behind_a_shell_that_does_not_end_is_forced() {
    let server = behind_a_shell("swallow.py").drain_timeout("1s").start();
    server.signal(Signal::TERM);
    server.wait_log(&["swallows signal 15"]);
    server.expect_exit(5);
    server.assert_no_leftovers();
}

fn serves_and_ends(server: crate::harness::Server) {
    let load = Load::start(&server.target);
    load.wait_for(100);
    load.stop().assert_none_lost();
    server.shut_down();
}
