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

fn serves_and_ends(server: crate::harness::Server) {
    let load = Load::start(&server.target);
    load.wait_for(100);
    load.stop().assert_none_lost();
    server.shut_down();
}
