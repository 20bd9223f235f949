//! Deaths: replaced at once, then with patience, told by name; and the death of the master itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::process::zombies;
use crate::harness::skip::skip;
use crate::harness::{Builder, Load, Server, Signal, eventually};

#[test]
fn a_worker_that_is_killed_is_replaced_and_told_by_name() {
    let server = Builder::axum().start();
    let before = server.status();
    let victim = server.watch(before.pids()[0]);
    victim.signal(Signal::KILL);
    server.wait_gone(&victim);
    let after = server.wait_status("the replacement", |status| {
        status.ready_workers == 2 && !status.pids().contains(&victim.pid)
    });
    server.wait_log(&["SIGKILL", &victim.pid.to_string()]);
    let (old, new) = (&before.workers[0], &after.workers[0]);
    assert_eq!((new.slot, new.generation), (old.slot, old.generation));
    assert_eq!(new.restarts, old.restarts + 1);
    assert_eq!(
        after.workers[1].pid, before.workers[1].pid,
        "the other worker is untouched"
    );
    assert!(zombies(server.pid()).is_empty());
    server.shut_down();
}

#[test]
fn every_kind_of_death_is_told_by_its_name() {
    for (how, name) in [
        ("SIGSEGV", "SIGSEGV"),
        ("SIGABRT", "SIGABRT"),
        ("77", "exit status 77"),
    ] {
        let server = Builder::python("exit_at_once.py", &[how])
            .workers(1)
            .set("workers.ready_after", "5s")
            .set("workers.restart.crash_limit", 1)
            .spawn();
        server.expect_exit(3);
        server.wait_log(&[name]);
    }
}

#[test]
fn an_app_that_ends_at_once_halts_the_start_with_3_after_crash_limit() {
    let server = Builder::python("exit_at_once.py", &["7"])
        .workers(1)
        .set("workers.ready_after", "5s")
        .set("workers.restart.crash_limit", 3)
        .set("workers.restart.backoff", "10ms")
        .spawn();
    server.expect_exit(3);
    let deaths =
        server.log.count(&["worker", "status 7"]) + server.log.count(&["worker", "code 7"]);
    assert!(deaths >= 3, "three deaths are told:\n{}", server.log.text());
}

#[test]
fn a_worker_that_keeps_dying_later_in_life_only_backs_off() {
    let server = Builder::native(&["dies"])
        .workers(1)
        .set("workers.restart.backoff", "400ms")
        .set("workers.restart.backoff_max", "1s")
        .set("workers.restart.crash_limit", 3)
        .spawn();
    let restarts = |count: u64| {
        server.wait_status("restarts", |status| {
            status.workers.iter().any(|worker| worker.restarts >= count)
        });
    };
    let begun = Instant::now();
    restarts(6);
    // Five waits of at least half of 400 ms each (jitter), and six lives of 0.1 s.
    let took = begun.elapsed();
    assert!(
        took > Duration::from_millis(1600),
        "six restarts took only {took:?}"
    );
    assert!(
        server.is_running(),
        "crashes after Ready never halt the pod"
    );
    server.shut_down();
}

#[test]
fn a_worker_that_says_fatal_is_not_started_again() {
    let server = Builder::native(&["fatal"]).workers(1).spawn();
    server.expect_exit(3);
    server.wait_log(&["there is no database"]);
    assert_eq!(
        server.log.count(&["there is no database"]),
        1,
        "one start:\n{}",
        server.log.text()
    );
}

#[test]
fn a_worker_that_is_killed_in_boot_is_replaced() {
    let server = Builder::python("notifier.py", &["--boot", "1"])
        .level("notify")
        .spawn();
    let status = server.wait_status("two workers", |status| status.pids().len() == 2);
    assert_eq!(status.phase, "boot");
    server.watch(status.pids()[0]).signal(Signal::KILL);
    let after = server.wait_status("both Ready", |after| after.ready_workers == 2);
    assert_ne!(after.pids()[0], status.pids()[0]);
    server.shut_down();
}

#[test]
fn a_worker_that_is_killed_in_lameduck_is_replaced() {
    let server = Builder::axum().lameduck("30s").start();
    let victim = server.watch_workers().remove(0);
    server.signal(Signal::TERM);
    server.wait_status("lameduck", |status| status.phase == "lameduck");
    victim.signal(Signal::KILL);
    server.wait_status("a replacement", |status| {
        status.workers.len() == 2 && !status.pids().contains(&victim.pid)
    });
    for _ in 0..20 {
        assert_eq!(server.get("/").status, 200);
        assert_eq!(
            server.get("/health").status,
            503,
            "the replacement is unhealthy from its start"
        );
    }
    server.signal(Signal::INT);
    server.expect_exit(0);
    server.assert_no_leftovers();
}

#[test]
fn a_worker_that_is_killed_in_drain_is_not_replaced() {
    let server = Builder::axum().drain_timeout("40s").start();
    let mut connection = server.connect();
    connection.send_get("/slow/30").unwrap();
    let status = server.wait_status("the request", |status| {
        status.workers.iter().any(|worker| worker.in_flight == 1)
    });
    let busy = status
        .workers
        .iter()
        .find(|worker| worker.in_flight == 1)
        .unwrap()
        .pid
        .unwrap();
    server.signal(Signal::TERM);
    server.wait_status("drain", |status| status.phase == "drain");
    server.watch(busy).signal(Signal::KILL);
    let exit = server.wait_exit();
    assert_eq!(exit.code(), Some(5), "a request was aborted");
    assert!(connection.read_response().is_err());
    server.assert_no_leftovers();
    server.wait_log(&["SIGKILL", &busy.to_string()]);
}

#[test]
fn a_worker_that_is_killed_in_force_ends_the_force() {
    let server = Builder::native(&["silent"]).start();
    let workers = server.watch_workers();
    server.signal(Signal::QUIT);
    server.wait_log(&["phase force"]);
    for worker in &workers {
        worker.signal(Signal::KILL);
    }
    server.expect_exit(5);
}

#[test]
fn a_worker_that_is_killed_in_retire_does_not_stop_the_reload() {
    let server = Builder::axum().start();
    let old = server.watch_workers();
    let mut connection = server.connect();
    connection.send_get("/slow/10").unwrap();
    let status = server.wait_status("the request", |status| {
        status.workers.iter().any(|worker| worker.in_flight == 1)
    });
    let busy = status
        .workers
        .iter()
        .find(|worker| worker.in_flight == 1)
        .unwrap()
        .pid
        .unwrap();
    server.signal(Signal::HUP);
    server.wait_status("the busy worker retiring", |status| {
        status
            .workers
            .iter()
            .any(|worker| worker.pid == Some(busy) && !worker.is("ready"))
    });
    server.watch(busy).signal(Signal::KILL);
    for process in &old {
        server.wait_gone(process);
    }
    server.wait_status("the new generation", |status| {
        status.ready_workers == 2 && status.workers.len() == 2
    });
    server.shut_down();
}

#[test]
fn all_workers_killed_at_once_come_back() {
    let server = Builder::axum().workers(4).start();
    server.wait_status("all Ready", |status| status.ready_workers == 4);
    let old = server.watch_workers();
    old.iter().for_each(|worker| worker.signal(Signal::KILL));
    server.wait_status("four others", |status| {
        status.ready_workers == 4
            && old
                .iter()
                .all(|worker| !status.pids().contains(&worker.pid))
    });
    assert_eq!(server.get("/").status, 200);
    server.shut_down();
}

#[test]
fn native_workers_whose_master_is_killed_drain_and_end_by_themselves() {
    for builder in [Builder::axum(), Builder::mio()] {
        let server = builder.start();
        let mut connection = server.connect();
        connection.send_get("/slow/2").unwrap();
        server.wait_status("the request", |status| {
            status.workers.iter().any(|worker| worker.in_flight == 1)
        });
        kill_master(&server);
        let response = connection.read_response().unwrap();
        assert_eq!(response.status, 200, "what is in flight is finished");
        drop(connection);
        eventually("the workers have ended", || server.leftovers().is_empty());
    }
}

#[test]
fn plain_workers_whose_master_is_killed_get_the_death_signal() {
    let server = Builder::plain("plain.py", &[]).start();
    kill_master(&server);
    eventually("the workers have ended", || server.leftovers().is_empty());
}

#[test]
fn a_master_that_is_killed_in_lameduck_leaves_no_worker() {
    let server = Builder::axum().lameduck("30s").start();
    server.signal(Signal::TERM);
    server.wait_status("lameduck", |status| status.phase == "lameduck");
    kill_master(&server);
    eventually("the workers have ended", || server.leftovers().is_empty());
}

#[test]
fn a_crash_under_load_costs_only_what_the_worker_had() {
    let server = Builder::axum().start();
    let load = Load::start(&server.target);
    load.wait_for(100);
    server.watch_workers()[0].signal(Signal::KILL);
    server.wait_log(&["SIGKILL"]);
    server.wait_status("both Ready", |status| status.ready_workers == 2);
    load.wait_for(100);
    let report = load.stop();
    assert!(
        report.lost.len() <= crate::harness::load::CLIENTS,
        "{}",
        report.describe()
    );
    server.shut_down();
}

fn kill_master(server: &Server) {
    server.signal(Signal::KILL);
    assert_eq!(server.wait_exit().signal(), Some(9));
}

#[test]
fn a_worker_that_the_kernel_kills_for_memory_is_told_as_such() {
    let Some(cgroup) = MemoryCgroup::create(120 << 20) else {
        return skip("a memory cgroup that may be made");
    };
    let server = Builder::plain("grow.py", &[]).inside(&cgroup.0).start();
    let mut connection = server.connect();
    connection.send_get("/slow/0").unwrap();
    assert!(connection.read_response().is_err());
    server.wait_log(&["worker died", "out of memory"]);
    server.wait_status("the replacement", |status| status.ready_workers == 2);
    server.shut_down();
}

/// A memory cgroup of its own, of either version.
struct MemoryCgroup(PathBuf);

impl MemoryCgroup {
    fn create(limit: u64) -> Option<MemoryCgroup> {
        let name = format!("gracefork-test-{}", std::process::id());
        let places = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        places.iter().find_map(|(place, limits)| {
            let folder = Path::new(place).join(&name);
            fs::create_dir(&folder).ok()?;
            let cgroup = MemoryCgroup(folder);
            // Without the controller there is no such file, and sysfs makes none.
            fs::write(cgroup.0.join(limits), limit.to_string()).ok()?;
            Some(cgroup)
        })
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // Its processes are gone, but the kernel may need a moment to notice.
        eventually("the cgroup to be empty", || fs::remove_dir(&self.0).is_ok());
    }
}
