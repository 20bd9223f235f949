//! gunicorn's hooks of the master, which run in the host; and its config file.

use super::site::Site;
use super::{host, reload};
use crate::harness::{Server, Signal};

/// Every hook of the master writes a line, at one go: a host and its workers share the log.
const HOOKS: &str = "
import os

def line(*words):
    print('hook', *words, flush=True)

def on_starting(server): line('on_starting')
def when_ready(server): line('when_ready')
def pre_fork(server, worker): line('pre_fork', worker.age)
def post_fork(server, worker): line('post_fork', worker.pid, os.getpid() == worker.pid)
def child_exit(server, worker): line('child_exit', worker.pid)
def nworkers_changed(server, new, old): line('nworkers_changed', new, old)
def on_reload(server): line('on_reload')
def on_exit(server): line('on_exit')
";

fn hooks(server: &Server) -> Vec<String> {
    let lines = server.log.lines();
    let hooks = lines
        .iter()
        .filter_map(|line| line.text.strip_prefix("hook "));
    hooks.map(str::to_owned).collect()
}

fn count(server: &Server, hook: &str) -> usize {
    hooks(server)
        .iter()
        .filter(|line| line.starts_with(hook))
        .count()
}

#[test]
fn the_masters_hooks_run_in_the_host_in_gunicorns_order() {
    let site = Site::new();
    site.config(HOOKS);
    let server = site.builder().workers(1).start();
    server.wait_log(&["hook when_ready"]);
    let pid = server.worker_pids()[0];
    let expected = [
        "nworkers_changed 1 None".to_owned(),
        "on_starting".to_owned(),
        "pre_fork 1".to_owned(),
        format!("post_fork {pid} True"),
        "when_ready".to_owned(),
    ];
    assert_eq!(hooks(&server), expected);
    server.signal(Signal::TTIN);
    server.wait_log(&["hook nworkers_changed 2 1"]);
    server.wait_status("two workers", |status| status.ready_workers == 2);
    let workers = server.worker_pids();
    server.shut_down();
    for pid in workers {
        assert_eq!(count(&server, &format!("child_exit {pid}")), 1);
    }
    assert_eq!(hooks(&server).last().unwrap(), "on_exit");
}

#[test]
fn what_belongs_to_the_servers_life_runs_once_however_many_hosts_there_are() {
    let site = Site::new();
    site.config(HOOKS);
    let server = site.builder().start();
    let first = server.worker_pids();
    reload(&server);
    server.wait_log(&["on_starting and when_ready ran in the process before"]);
    // What the host that is killed has been told and not yet done is lost with it.
    for pid in first {
        server.wait_log(&[&format!("hook child_exit {pid}")]);
    }
    server.watch(host(&server)).signal(Signal::KILL);
    server.wait_status("no host", |status| status.hosts.is_empty());
    let gone = server.worker_pids()[0];
    server.watch(gone).signal(Signal::KILL);
    // The host that had forked it is dead: the next one is told.
    server.wait_log(&[&format!("hook child_exit {gone}")]);
    server.wait_status("two workers", |status| status.ready_workers == 2);
    server.shut_down();
    for hook in ["on_starting", "when_ready", "on_reload", "on_exit"] {
        assert_eq!(count(&server, hook), 1, "{hook}: {:?}", hooks(&server));
    }
    assert_eq!(count(&server, "pre_fork"), 5);
    assert_eq!(count(&server, "child_exit"), 5);
}

#[test]
fn a_hook_that_fails_later_is_logged_and_changes_nothing() {
    let site = Site::new();
    site.config("def when_ready(server):\n    raise RuntimeError('nobody listens')\n");
    let server = site.builder().start();
    server.wait_log(&["nobody listens"]);
    host(&server);
    server.shut_down();
}

#[test]
fn an_end_that_takes_too_long_is_cut_short() {
    let site = Site::new();
    site.config("import time\ndef on_exit(server):\n    time.sleep(600)\n");
    let server = site.builder().set("shutdown.kill_margin", "1s").start();
    server.signal(Signal::TERM);
    server.expect_exit(0);
    server.wait_log(&["host killed", "did not end in time"]);
}
