//! More workers, fewer, none, and two hundred.

use std::fs;
use std::time::Duration;

use crate::harness::schedule::alone;
use crate::harness::{Builder, Load, Signal};

#[test]
fn ttin_and_ttou_change_the_number_of_workers() {
    let server = Builder::axum().start();
    let load = Load::start(&server.target);
    load.wait_for(50);
    for expected in [3, 4] {
        server.signal(Signal::TTIN);
        server.wait_status("one more", |status| {
            status.target == expected && status.ready_workers == expected
        });
    }
    for expected in [3, 2, 1] {
        server.signal(Signal::TTOU);
        server.wait_status("one fewer", |status| {
            status.target == expected && status.workers.len() == expected
        });
        assert!(
            server.status().ready,
            "scaling in never turns the pod unready"
        );
    }
    load.stop().assert_none_lost();
    server.shut_down();
}

#[test]
fn signals_that_come_at_once_are_counted_or_folded_but_never_lost_for_good() {
    let server = Builder::axum().workers(1).start();
    for _ in 0..5 {
        server.signal(Signal::TTIN);
    }
    // The kernel keeps one signal of a kind at most.
    let mut target = server.wait_status("more", |it| it.target > 1).target;
    while target < 6 {
        server.signal(Signal::TTIN);
        let before = target;
        target = server
            .wait_status("one more", |it| it.target > before)
            .target;
    }
    server.wait_status("all Ready", |status| {
        status.target >= 6 && status.ready_workers == status.target
    });
    server.shut_down();
}

#[test]
fn winch_retires_all_workers_and_keeps_the_master() {
    let server = Builder::axum().start();
    let workers = server.watch_workers();
    server.signal(Signal::WINCH);
    for worker in &workers {
        server.wait_gone(worker);
    }
    server.wait_status("no worker", |status| {
        status.workers.is_empty() || status.ready_workers == 0
    });
    assert_eq!(server.ops("/livez").unwrap().status, 200);
    assert_eq!(
        server.ops("/readyz").unwrap().status,
        503,
        "readiness follows the count"
    );
    server.signal(Signal::TTIN);
    server.wait_ready();
    assert_eq!(server.get("/").status, 200);
    server.shut_down();
}

#[test]
fn usr1_reopens_the_log_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, rotated) = (folder.path().join("log"), folder.path().join("log.1"));
    let server = Builder::axum()
        .set("log.file", path.to_str().unwrap())
        .start();
    fs::rename(&path, &rotated).unwrap();
    server.signal(Signal::USR1);
    server.wait("a fresh log file", || path.exists().then_some(()));
    server.shut_down();
    let (old, new) = (
        fs::read_to_string(rotated).unwrap(),
        fs::read_to_string(path).unwrap(),
    );
    assert!(
        !old.is_empty() && !new.is_empty(),
        "old:\n{old}\nnew:\n{new}"
    );
    assert!(
        !old.contains("SIGTERM"),
        "the end is told in the new file:\n{old}"
    );
}

#[test]
fn two_hundred_workers_are_started_and_drained() {
    let _alone = alone();
    let server = Builder::mio()
        .workers(200)
        .set("workers.boot_timeout", "60s")
        .spawn();
    let all = crate::harness::wait::poll(Duration::from_secs(60), || {
        server
            .try_status()
            .filter(|status| status.ready_workers == 200)
    });
    let Some(status) = all else {
        server.fail("200 workers were not Ready within 60 s")
    };
    let mut pids = status.ready_pids();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 200);
    let load = Load::start(&server.target);
    load.wait_for(1000);
    load.stop().assert_none_lost();
    server.signal(Signal::TERM);
    let exit = server.wait_exit_for(Duration::from_secs(60));
    assert_eq!(exit.code(), Some(0), "{}", exit.status);
    server.assert_no_leftovers();
}
