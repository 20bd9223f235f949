//! SIGHUP: a new generation, or the old one serves on; never a lost request.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::load::Plan;
use crate::harness::ports::free_port;
use crate::harness::programs::{Program, example, python};
use crate::harness::schedule::alone;
use crate::harness::status::{LastReload, Status};
use crate::harness::{Builder, Conn, Load, Server, Signal, Target};

#[test]
pub(crate) fn twenty_reloads_in_a_row_lose_nothing_with_the_axum_app() {
    twenty_reloads(Builder::axum());
}

#[test]
pub(crate) fn twenty_reloads_in_a_row_lose_nothing_with_the_mio_app() {
    twenty_reloads(Builder::mio());
}

#[test]
pub(crate) fn twenty_reloads_in_a_row_lose_nothing_with_blocking_handlers() {
    twenty_reloads(Builder::hello());
}

#[test]
fn a_reload_takes_the_new_environment_and_arguments() {
    let server = Builder::plain("plain.py", &[])
        .set("env.COLOUR", "red")
        .start();
    assert_eq!(server.get("/env").json()["env"]["COLOUR"], "red");
    server.set("env.COLOUR", "blue");
    reload(&server);
    assert_eq!(server.get("/env").json()["env"]["COLOUR"], "blue");
    server.shut_down();
}

#[test]
fn what_a_start_or_a_reload_took_is_unmapped_once_it_is_quiet() {
    let server = Builder::mio().set("log.level", "debug").start();
    let unmapped = |times| {
        server.wait("the master has let go of what it has read", || {
            let said = server.log.count(&["is unmapped", "bytes="]);
            let nothing = server.log.count(&["is unmapped", "bytes=0"]);
            (said == times && nothing == 0).then_some(())
        });
    };
    unmapped(1);
    server.signal(Signal::HUP);
    unmapped(2);
    server.shut_down();
}

#[test]
fn a_reload_changes_the_number_of_workers() {
    let server = Builder::axum().start();
    server.set("workers.count", 3);
    server.signal(Signal::HUP);
    server.wait_status("three workers", |status| {
        status.target == 3 && status.ready_workers == 3
    });
    server.set("workers.count", 1);
    server.signal(Signal::HUP);
    server.wait_status("one worker", |status| {
        status.workers.len() == 1 && status.ready_workers == 1
    });
    server.shut_down();
}

#[test]
fn a_reload_to_a_config_that_is_no_toml_is_refused() {
    refused(|server| server.write_config("[shutdown\nlameduck = "));
}

#[test]
fn a_reload_to_a_config_with_a_typo_is_refused() {
    refused(|server| server.set("shutdown.lamedcuk", "1s"));
}

#[test]
fn a_reload_to_a_config_with_an_impossible_sum_is_refused() {
    refused(|server| server.set("shutdown.lameduck", "59s"));
}

#[test]
fn a_reload_without_a_config_file_is_refused() {
    refused(|server| fs::remove_file(server.config_path()).unwrap());
}

#[test]
fn a_reload_to_an_app_that_does_not_exist_leaves_the_old_generation_serving() {
    rolled_back(|app| app.remove());
}

#[test]
fn a_reload_to_an_app_that_is_not_executable_leaves_the_old_generation_serving() {
    rolled_back(|app| app.write("no program", 0o644));
}

#[test]
fn a_reload_to_an_app_that_ends_at_once_leaves_the_old_generation_serving() {
    rolled_back(|app| app.write("#!/bin/sh\nexit 7\n", 0o755));
}

#[test]
fn a_reload_to_an_app_that_gets_ready_and_dies_leaves_the_old_generation_serving() {
    rolled_back(|app| app.become_python("native.py", "dies"));
}

#[test]
fn a_reload_to_an_app_that_never_gets_ready_leaves_the_old_generation_serving() {
    rolled_back(|app| app.become_python("native.py", "unready"));
}

#[test]
fn after_a_reload_that_failed_the_next_one_works() {
    let app = App::new();
    let server = app.builder().start();
    app.write("#!/bin/sh\nexit 7\n", 0o755);
    server.signal(Signal::HUP);
    wait_failure(&server);
    app.point_at(&example("axum-app").path);
    reload(&server);
    server.shut_down();
}

#[test]
fn a_reload_that_is_rolled_back_leaves_the_ops_listener_where_it_was() {
    let app = App::new();
    let server = app.builder().start();
    server.set("health.listen", format!("127.0.0.1:{}", free_port()));
    app.write("#!/bin/sh\nexit 7\n", 0o755);
    server.signal(Signal::HUP);
    let failed = wait_failure(&server);
    assert_eq!(server.ops("/readyz").unwrap().status, 200);
    let reason = failed.reason.unwrap();
    assert!(reason.contains("exit status 7"), "{reason}");
    server.shut_down();
}

#[test]
fn a_reload_that_is_refused_leaves_the_ops_listener_of_the_one_under_way() {
    let app = App::new();
    let server = app.builder().set("workers.boot_timeout", "30s").start();
    let next = format!("127.0.0.1:{}", free_port());
    app.become_python("native.py", "unready");
    let answers = || TcpStream::connect(&next).is_ok();
    for count in 1..=2 {
        // The second one overtakes the first, and has its listener.
        server.set("health.listen", next.as_str());
        server.signal(Signal::HUP);
        server.wait("the reload", || {
            (server.log.count(&["reload: replacing the workers"]) == count).then_some(())
        });
        server.wait("the next ops listener", || answers().then_some(()));
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set("health.listen", taken.local_addr().unwrap().to_string());
    server.signal(Signal::HUP);
    server.wait_log(&["the ops listener cannot listen"]);
    assert!(answers());
    server.shut_down();
}

#[test]
fn sigterm_in_the_middle_of_a_reload_is_a_normal_shutdown() {
    let app = App::new();
    let server = app
        .builder()
        .set("workers.boot_timeout", "30s")
        .lameduck("30s")
        .start();
    let load = Load::start(&server.target);
    load.wait_for(50);
    app.become_python("native.py", "unready");
    server.signal(Signal::HUP);
    server.wait_status("a new worker in its start", |status| {
        status.workers.iter().any(|worker| worker.is("booting"))
    });
    assert!(
        server.status().ready,
        "a reload does not make the pod unready"
    );
    server.signal(Signal::TERM);
    server.wait_status("lameduck", |status| status.phase == "lameduck");
    assert_eq!(server.get("/health").status, 503);
    load.wait_for(50);
    load.stop().assert_none_lost();
    server.signal(Signal::INT);
    server.expect_exit(0);
}

#[test]
fn a_request_in_flight_outlives_the_worker_generation_it_began_with() {
    let server = Builder::axum().start();
    let mut connection = server.connect();
    connection.send_get("/slow/3").unwrap();
    server.wait_status("the request", |status| {
        status.workers.iter().any(|worker| worker.in_flight == 1)
    });
    server.signal(Signal::HUP);
    server.wait_status("the new generation ready beside it", |status| {
        status
            .workers
            .iter()
            .filter(|worker| worker.generation == status.generation)
            .count()
            == 2
    });
    assert_eq!(connection.read_response().unwrap().status, 200);
    server.wait_status("the new generation alone", settled);
    server.shut_down();
}

#[test]
fn listeners_are_added_kept_and_removed_by_address() {
    addresses_come_and_go(Builder::axum());
}

#[test]
fn the_baton_driver_adds_keeps_and_removes_listeners_too() {
    addresses_come_and_go(Builder::hello());
}

fn addresses_come_and_go(builder: Builder) {
    let server = builder.start();
    let Target::Tcp(first) = server.target else {
        unreachable!()
    };
    let second = format!("127.0.0.1:{}", free_port());
    let second_target = Target::Tcp(second.parse().unwrap());
    assert!(Conn::open(&second_target).is_err());

    let load = Load::start(&server.target);
    load.wait_for(20);
    server.set("listen.bind", vec![first.to_string(), second.clone()]);
    reload(&server);
    load.stop().assert_none_lost();
    assert_eq!(server.get("/").status, 200);
    assert_eq!(
        Conn::open(&second_target).unwrap().get("/").unwrap().status,
        200
    );

    // A connection that stays open on an address does not keep it alive for new ones.
    let mut idle = server.connect();
    assert_eq!(idle.get("/").unwrap().status, 200);
    server.set("listen.bind", vec![second]);
    server.signal(Signal::HUP);
    server.wait("the first address to be closed", || {
        Conn::open(&server.target).is_err().then_some(())
    });
    assert_eq!(idle.get("/").unwrap().status, 200);
    assert_eq!(
        Conn::open(&second_target).unwrap().get("/").unwrap().status,
        200
    );
    server.shut_down();
}

#[test]
fn a_reload_to_an_address_that_is_taken_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(move |server| {
        let Target::Tcp(own) = &server.target else {
            unreachable!()
        };
        server.set("listen.bind", vec![own.to_string(), address]);
    });
}

#[test]
fn workers_are_recycled_after_max_lifetime_and_nothing_is_lost() {
    let server = Builder::axum().set("workers.max_lifetime", "1s").start();
    recycles_under_load(&server);
}

#[test]
fn a_worker_over_max_rss_is_recycled() {
    let server = Builder::plain("grow.py", &[])
        .workers(1)
        .set("workers.max_rss", "100MiB")
        .start();
    let old = server.watch_workers().remove(0);
    assert_eq!(server.get("/slow/0").status, 200);
    server.wait_gone(&old);
    server.wait_status("another worker", |status| {
        status.ready_workers == 1 && status.pids() != [old.pid]
    });
    server.shut_down();
}

/// An app whose file the test exchanges under the running master.
struct App {
    folder: tempfile::TempDir,
}

impl App {
    /// The axum app, at first.
    fn new() -> App {
        let app = App {
            folder: tempfile::tempdir().unwrap(),
        };
        app.point_at(&example("axum-app").path);
        app
    }

    fn builder(&self) -> Builder {
        Builder::new(Program::new(self.path()))
            .level("native")
            .set("workers.boot_timeout", "3s")
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("app")
    }

    fn remove(&self) {
        fs::remove_file(self.path()).unwrap();
    }

    fn point_at(&self, program: &Path) {
        let fresh = self.folder.path().join("fresh");
        symlink(program, &fresh).unwrap();
        fs::rename(fresh, self.path()).unwrap();
    }

    fn write(&self, text: &str, mode: u32) {
        let fresh = self.folder.path().join("fresh");
        fs::write(&fresh, text).unwrap();
        fs::set_permissions(&fresh, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(fresh, self.path()).unwrap();
    }

    fn become_python(&self, script: &str, argument: &str) {
        let program = python(script);
        let line = format!("{} {}", program.path.display(), program.args.join(" "));
        self.write(&format!("#!/bin/sh\nexec {line} {argument}\n"), 0o755);
    }
}

pub(crate) fn twenty_reloads(builder: Builder) {
    let _alone = alone();
    twenty_reloads_lose_nothing(builder);
}

/// SIGHUP after SIGHUP under load; nothing is lost.
pub(crate) fn twenty_reloads_lose_nothing(builder: Builder) {
    let server = builder.start();
    let plan = Plan {
        slow_every: Some(50),
        echo_every: Some(7),
        ..Plan::default()
    };
    let load = Load::with(&server.target, plan);
    load.wait_for(100);
    for _ in 0..20 {
        reload(&server);
    }
    load.wait_for(100);
    let report = load.stop();
    println!("{}", report.describe());
    report.assert_none_lost();
    server.shut_down();
}

/// SIGHUP, then: another generation, old pids gone, new pids Ready.
#[track_caller]
fn reload(server: &Server) -> Status {
    let before = server.status();
    let old: Vec<_> = before
        .pids()
        .into_iter()
        .map(|pid| server.watch(pid))
        .collect();
    server.signal(Signal::HUP);
    let after = server.wait_status("the new generation alone", |status| {
        status.generation > before.generation && settled(status)
    });
    for process in &old {
        server.wait_gone(process);
        assert!(!after.pids().contains(&process.pid), "an old pid serves on");
    }
    let reload = after.last_reload.expect("/status tells the reload");
    assert_eq!(reload.generation, after.generation);
    server.status()
}

/// Whether only Ready workers of the newest generation are there.
pub(crate) fn settled(status: &Status) -> bool {
    let newest = status
        .workers
        .iter()
        .all(|worker| worker.generation == status.generation && worker.is("ready"));
    newest && status.workers.len() == status.target
}

/// A reload that is refused before any worker is started.
fn refused(spoil: impl FnOnce(&Server)) {
    let server = Builder::axum().start();
    let before = server.status();
    let load = Load::start(&server.target);
    load.wait_for(50);
    spoil(&server);
    server.signal(Signal::HUP);
    let told = wait_failure(&server);
    assert!(
        told.reason.is_some_and(|reason| !reason.is_empty()),
        "/status says why"
    );
    serves_on(&server, &before, load);
    server.shut_down();
}

/// A reload whose new generation comes to nothing.
fn rolled_back(spoil: impl FnOnce(&App)) {
    let app = App::new();
    let server = app.builder().start();
    let before = server.status();
    let load = Load::start(&server.target);
    load.wait_for(50);
    spoil(&app);
    server.signal(Signal::HUP);
    let told = wait_failure(&server);
    assert!(
        told.reason.is_some_and(|reason| !reason.is_empty()),
        "/status says why"
    );
    serves_on(&server, &before, load);
    server.shut_down();
}

/// The old workers, and no other, serve on without a loss.
#[track_caller]
fn serves_on(server: &Server, before: &Status, load: Load) {
    load.wait_for(200);
    load.stop().assert_none_lost();
    let after = server.wait_status("only the old generation", |status| {
        status.workers.len() == before.workers.len() && status.ready_workers == before.ready_workers
    });
    assert!(after.ready && after.phase == "ready");
    assert_eq!(after.pids(), before.pids(), "the old workers");
    assert_eq!(server.get("/health").status, 200);
}

#[track_caller]
fn wait_failure(server: &Server) -> LastReload {
    let failed = |reload: &LastReload| {
        ["refused", "rolled_back", "failed"].contains(&reload.outcome.as_str())
    };
    let status = server.wait_status("a reload that failed", |status| {
        status.last_reload.as_ref().is_some_and(failed)
    });
    status.last_reload.unwrap()
}

/// Under load every worker of the start is replaced, the pod stays ready, nothing is lost.
fn recycles_under_load(server: &Server) {
    let old = server.watch_workers();
    let load = Load::start(&server.target);
    for process in &old {
        server.wait_gone(process);
        assert_eq!(server.ops("/readyz").unwrap().status, 200);
    }
    load.wait_for(100);
    let report = load.stop();
    println!("{}", report.describe());
    report.assert_none_lost();
    assert_eq!(
        server
            .wait_status("both Ready", |status| status.ready_workers == 2)
            .generation,
        1
    );
    server.signal(Signal::TERM);
    let exit = server.wait_exit_for(Duration::from_secs(30));
    assert_eq!(exit.code(), Some(0));
    server.assert_no_leftovers();
}
