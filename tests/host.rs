//! Python apps: forked by a host, which comes and goes while its workers serve. The native part is
//! written by hand (`tests/workers/host`): what is tested is the supervisor, and the fork server.

mod hooks;
mod settings;
mod site;
mod start;
mod upkeep;

use crate::harness::status::Status;
use crate::harness::{Server, Signal};

/// The one host there is.
#[track_caller]
fn host(server: &Server) -> u32 {
    let hosts = server.status().hosts;
    assert_eq!(hosts.len(), 1, "{hosts:?}");
    assert_eq!(hosts[0].state, "ready");
    hosts[0].pid
}

/// What the app answers.
#[track_caller]
fn version(server: &Server) -> String {
    let answer = server.get("/version");
    assert_eq!(answer.status, 200);
    answer.text()
}

fn has(status: &Status, outcome: &str) -> bool {
    let reload = status.last_reload.as_ref();
    reload.is_some_and(|reload| reload.outcome == outcome)
}

/// SIGHUP, and its end: one host, of the new generation, with all workers.
#[track_caller]
fn reload(server: &Server) {
    let before = server.status().generation;
    server.signal(Signal::HUP);
    server.wait_status("the new generation alone", |status| {
        let all_new = status
            .workers
            .iter()
            .all(|worker| worker.generation > before);
        let host = status.hosts.iter().all(|host| host.generation > before);
        has(status, "done") && all_new && host && status.ready_workers == status.target
    });
}

/// SIGHUP, and that it changed nothing; why.
#[track_caller]
fn reload_in_vain(server: &Server, outcome: &str) -> String {
    let (pids, host) = (server.worker_pids(), host(server));
    server.signal(Signal::HUP);
    let status = server.wait_status("the old generation alone", |status| {
        has(status, outcome) && status.hosts.len() == 1 && status.workers.len() == status.target
    });
    assert_eq!(status.pids(), pids);
    assert_eq!(status.hosts[0].pid, host);
    status.last_reload.unwrap().reason.unwrap()
}
