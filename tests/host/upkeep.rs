//! Deaths, reloads and recycling.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use nix::libc::O_NONBLOCK;

use super::site::Site;
use super::{has, host, reload, reload_in_vain, version};
use crate::harness::{Signal, eventually, process};

#[test]
fn a_worker_that_dies_is_forked_anew_by_the_same_host() {
    let site = Site::new();
    let server = site.plain().start();
    let (host_before, worker) = (host(&server), server.watch(server.worker_pids()[0]));
    worker.signal(Signal::SEGV);
    server.wait_status("a new worker", |status| {
        status.workers.iter().any(|worker| worker.restarts == 1) && status.ready_workers == 2
    });
    server.wait_log(&["worker died", "SIGSEGV"]);
    assert_eq!(host(&server), host_before);
    assert!(process::zombies(server.pid()).is_empty());
    server.shut_down();
}

#[test]
fn a_host_that_dies_leaves_its_workers_and_the_next_one_comes_with_the_next_worker() {
    let site = Site::new();
    let server = site.plain().start();
    let (first, workers) = (host(&server), server.worker_pids());
    server.watch(first).signal(Signal::KILL);
    server.wait_status("no host", |status| status.hosts.is_empty());
    server.wait_log(&["host died", "SIGKILL"]);
    assert_eq!(server.worker_pids(), workers);
    assert_eq!(version(&server), "one");
    server.watch(workers[0]).signal(Signal::KILL);
    let status = server.wait_status("a new worker", |status| {
        status.workers.iter().any(|worker| worker.restarts == 1) && status.ready_workers == 2
    });
    assert_ne!(status.hosts[0].pid, first);
    assert!(status.pids().contains(&workers[1]));
    assert!(process::zombies(server.pid()).is_empty());
    server.shut_down();
}

#[test]
fn what_a_long_reload_takes_is_unmapped_when_it_is_over_and_not_in_its_midst() {
    let site = Site::new();
    let server = site.plain().set("log.level", "debug").start();
    let unmapped = ["what the start or the reload took is unmapped"];
    server.wait("the start is over", || {
        (server.log.count(&unmapped) == 1).then_some(())
    });
    // Nothing happens for longer than the second of quiet that ends a start; nobody asks for the
    // status, either.
    site.app("two", "import time\ntime.sleep(2)");
    server.signal(Signal::HUP);
    server.wait_log(&["reload done"]);
    server.wait("the reload is over", || {
        (server.log.count(&unmapped) == 2).then_some(())
    });
    let lines = server.log.lines();
    let done = lines
        .iter()
        .position(|line| line.contains(&["reload done"]));
    let last = lines.iter().rposition(|line| line.contains(&unmapped));
    assert!(done < last, "{}", server.log.text());
    server.shut_down();
}

#[test]
fn a_reload_takes_new_code_with_preload_and_without() {
    for preload in [true, false] {
        let site = Site::new();
        let server = site.plain().set("workers.preload", preload).start();
        let first = host(&server);
        assert_eq!(version(&server), "one");
        site.app("two", "");
        reload(&server);
        assert_eq!(version(&server), "two");
        assert_ne!(host(&server), first);
        server.shut_down();
    }
}

#[test]
fn a_reload_to_code_that_does_not_import_is_rolled_back() {
    for preload in [true, false] {
        let site = Site::new();
        let server = site.plain().set("workers.preload", preload).start();
        site.app("two", "import nothing_like_this");
        let reason = reload_in_vain(&server, "rolled_back");
        assert!(reason.contains("nothing_like_this"), "{reason}");
        assert_eq!(version(&server), "one");
        site.app("three", "");
        reload(&server);
        assert_eq!(version(&server), "three");
        server.shut_down();
    }
}

#[test]
fn a_reload_to_a_config_file_that_fails_is_refused() {
    let site = Site::new();
    site.config("threads = 2\n");
    let server = site.builder().start();
    site.config("threads = 2\nthreads = many\n");
    let reason = reload_in_vain(&server, "refused");
    assert!(
        reason.contains("line 2") && reason.contains("many"),
        "{reason}"
    );
    site.config("threads = 'many'\n");
    let reason = reload_in_vain(&server, "refused");
    assert!(reason.contains("threads"), "{reason}");
    server.shut_down();
}

#[test]
fn a_reload_to_a_hook_that_fails_is_rolled_back() {
    let site = Site::new();
    site.config("");
    let server = site.builder().start();
    site.config("def nworkers_changed(server, new, old):\n    raise RuntimeError('no quorum')\n");
    let reason = reload_in_vain(&server, "rolled_back");
    assert!(reason.contains("no quorum"), "{reason}");
    server.shut_down();
}

/// A config file that takes its setting from a FIFO, another one at each run.
const GATED: &str = "
import os
here = os.path.dirname(__file__)
number = sum(name.startswith('run-') for name in os.listdir(here))
open(f'{here}/run-{number}', 'w').close()
workers = int(open(f'{here}/gate-{number}').read())
";

#[test]
fn while_a_config_file_runs_the_master_answers_and_a_second_reload_is_remembered() {
    let site = Site::new();
    site.config("");
    let server = site.builder().workers(1).start();
    // It waits for a writer, which is the test; the next time it runs, for another.
    let gates = [0, 1, 2].map(|number| site.path(&format!("gate-{number}")));
    let made = std::process::Command::new("mkfifo").args(&gates).status();
    assert!(made.unwrap().success());
    site.config(GATED);
    server.signal(Signal::HUP);
    let pid = server.pid();
    let evaluates = || process::children(pid).len() == 3;
    server.wait("the config file is being run", || evaluates().then_some(()));
    server.signal(Signal::HUP);
    server.wait("an answer", || {
        (server.ops("/readyz")?.status == 200).then_some(())
    });
    assert!(server.status().last_reload.is_none());
    // The first answer is out of date by the second signal: it is asked for anew. The new host
    // runs the file as well.
    for gate in &gates {
        server.wait("whoever reads the gate", || {
            let mut writer = OpenOptions::new();
            writer.write(true).custom_flags(O_NONBLOCK);
            let written = writer.open(gate).and_then(|mut gate| gate.write_all(b"1"));
            written.ok()
        });
    }
    server.wait_status("the reload", |status| has(status, "done"));
    assert_eq!(server.status().generation, 2);
    server.shut_down();
}

#[test]
fn twenty_reloads_in_a_row_leave_one_host_no_zombie_and_no_descriptor() {
    let site = Site::new();
    site.config("");
    let server = site.builder().start();
    reload(&server);
    let open = || {
        fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .count()
    };
    let before = open();
    for _ in 0..20 {
        reload(&server);
    }
    eventually("no descriptor is left open", || open() <= before);
    assert_eq!(server.status().generation, 22);
    assert_eq!(process::children(server.pid()).len(), 3);
    assert!(process::zombies(server.pid()).is_empty());
    server.shut_down();
}

#[test]
fn hurried_reloads_end_in_one_generation() {
    let site = Site::new();
    let server = site.plain().set("workers.preload", true).start();
    for _ in 0..10 {
        server.signal(Signal::HUP);
        // As fast as the master can answer between them.
        server.status();
    }
    site.app("two", "");
    server.signal(Signal::HUP);
    server.wait_status("the last reload", |status| {
        let newest = |generation| generation == status.generation;
        has(status, "done")
            && status.hosts.iter().all(|host| newest(host.generation))
            && status
                .workers
                .iter()
                .all(|worker| newest(worker.generation))
            && status.ready_workers == 2
    });
    assert_eq!(version(&server), "two");
    assert!(process::zombies(server.pid()).is_empty());
    server.shut_down();
}

#[test]
fn a_worker_that_has_served_its_share_is_replaced() {
    let site = Site::new();
    let server = site
        .plain()
        .workers(1)
        .set("workers.max_requests", 3)
        .start();
    let first = server.worker_pids();
    for _ in 0..3 {
        assert_eq!(version(&server), "one");
    }
    server.wait_status("another worker alone", |status| {
        status.pids() != first && status.workers.len() == 1 && status.ready_workers == 1
    });
    server.shut_down();
}

#[test]
fn sigterm_in_the_middle_of_a_reload_is_a_normal_shutdown() {
    let site = Site::new();
    let server = site.plain().set("workers.preload", true).start();
    site.app(
        "two",
        "import time\nprint('it takes its time', flush=True)\ntime.sleep(600)\n",
    );
    server.signal(Signal::HUP);
    server.wait_log(&["it takes its time"]);
    assert_eq!(server.status().hosts.len(), 2);
    let term = server.signal(Signal::TERM);
    let exit = server.expect_exit(0);
    assert!(exit.after(term) < Duration::from_secs(10));
}

#[test]
fn a_host_that_lies_harms_only_the_worker_that_it_lies_about() {
    let site = Site::new();
    // The channel is the descriptor behind the one listener.
    site.config(
        "
import os, socket
channel = None

def on_starting(server):
    global channel
    channel = socket.socket(fileno=os.dup(4))
    for frame in (b'FORKED=1\\nPID=1', b'no equals sign', b'\\xff' * 5000, b'FORKED=77', b'REFUSED=99'):
        channel.send(frame)

def pre_fork(server, worker):
    if worker.age == 1:
        channel.send(b'FORKED=1\\nPID=1')
",
    );
    let server = site.builder().start();
    server.wait_log(&["a worker cannot be started", "process 1 is no child"]);
    assert_eq!(server.log.count(&["a host's message is ignored"]), 1);
    // The worker that is nobody's learns that by its channel, and leaves.
    eventually("the host and two workers are all there is", || {
        process::children(server.pid()).len() == 3
    });
    assert_eq!(version(&server), "one");
    server.shut_down();
}

#[test]
fn usr1_opens_the_log_files_of_the_host_anew() {
    let site = Site::new();
    // Its mode would empty a file that is opened twice.
    site.config(
        "
import logging, os
handler = logging.FileHandler(os.path.dirname(__file__) + '/hooks.log', mode='w')

def on_starting(server): server.log.error_log.addHandler(handler)
def nworkers_changed(server, new, old): server.log.info('%s workers', new)
",
    );
    let server = site.builder().start();
    fs::rename(site.path("hooks.log"), site.path("moved.log")).unwrap();
    server.signal(Signal::USR1);
    server.signal(Signal::TTIN);
    eventually("the new file has the new line", || {
        fs::read_to_string(site.path("hooks.log")).is_ok_and(|text| text.contains("3 workers"))
    });
    server.shut_down();
}

#[test]
fn workers_that_die_as_soon_as_they_are_forked_are_none_of_them_lost() {
    let site = Site::new();
    site.config(
        "
import os, signal

def post_fork(server, worker):
    if worker.age <= 20:
        os.kill(os.getpid(), signal.SIGKILL) if worker.age % 2 else os._exit(7)
",
    );
    let server = site
        .builder()
        .set("workers.restart.backoff", "1ms")
        .set("workers.restart.backoff_max", "1ms")
        .set("workers.restart.crash_limit", 1000)
        .start();
    assert_eq!(process::children(server.pid()).len(), 3);
    server.shut_down();
    assert_eq!(server.log.count(&["worker died", "exit status 7"]), 10);
    assert_eq!(server.log.count(&["worker died", "SIGKILL"]), 10);
}
