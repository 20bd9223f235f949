//! What a worker is given and what it can say: environment, arguments, descriptors, sd_notify.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Builder, LIMIT, Signal, Target};

#[test]
fn each_level_is_recognised_by_what_the_worker_says() {
    let level = |builder: Builder| {
        let server = builder.start();
        let status = server.wait_status("both Ready", |status| status.ready_workers == 2);
        let level = status.workers[0].level.clone();
        assert_eq!(status.workers[1].level, level);
        server.shut_down();
        level
    };
    assert_eq!(level(Builder::axum()), "native");
    assert_eq!(level(Builder::mio()), "native");
    let notifier = || Builder::python("notifier.py", &[]);
    // Long enough that it has said something before it would count as plain.
    assert_eq!(
        level(notifier().set("workers.ready_after", "10s")),
        "notify"
    );
    assert_eq!(level(Builder::plain("plain.py", &[])), "plain");
    // Told, not recognised: a notifier that is only to be signalled.
    assert_eq!(level(notifier().level("plain")), "plain");
}

#[test]
fn a_native_worker_that_takes_long_to_speak_is_recognised_when_it_does() {
    let server = Builder::native(&["good", "--boot", "1"])
        .set("workers.ready_after", "200ms")
        .start();
    server.wait_status("native workers", |status| {
        status.workers.iter().all(|worker| worker.level == "native")
    });
    server.shut_down();
    assert_eq!(
        server.log.count(&["was told", "DRAIN"]),
        2,
        "{}",
        server.log.text()
    );
}

#[test]
fn placeholders_in_the_arguments_are_replaced() {
    let server = Builder::plain(
        "plain.py",
        &["--fd={fd}", "--port={port}", "w{worker}", "{other}"],
    )
    .start();
    let Target::Tcp(address) = server.target else {
        unreachable!()
    };
    let argv = server.get("/env").json()["argv"].clone();
    let expected = |slot: usize| {
        serde_json::json!([
            "--fd=3",
            format!("--port={}", address.port()),
            format!("w{slot}"),
            "{other}"
        ])
    };
    assert!(argv == expected(0) || argv == expected(1), "{argv}");
    server.shut_down();
}

#[test]
fn a_worker_finds_the_environment_of_the_contract() {
    let server = Builder::plain("plain.py", &[])
        .workers(1)
        .set("env.COLOUR", "red")
        .set("chdir", "/usr")
        .start();
    let seen = server.get("/env").json();
    let env = |key: &str| {
        seen["env"][key]
            .as_str()
            .unwrap_or_else(|| panic!("{key} is missing: {seen}"))
    };
    assert_eq!(env("LISTEN_FDS"), "1");
    assert_eq!(env("LISTEN_PID"), seen["pid"].to_string());
    assert_eq!(env("LISTEN_FDNAMES").split(':').count(), 1);
    assert_eq!(env("GRACEFORK_WORKER"), "0");
    assert_eq!(env("GRACEFORK_GENERATION"), "1");
    assert!(!env("NOTIFY_SOCKET").is_empty());
    assert_eq!(env("COLOUR"), "red");
    assert_eq!(seen["cwd"], "/usr");
    server.shut_down();
}

#[test]
fn a_worker_inherits_its_sockets_and_nothing_else() {
    let server = Builder::plain("plain.py", &[]).workers(2).start();
    let seen = server.get("/env").json();
    let env = |key: &str| seen["env"][key].as_str().unwrap_or_default().to_owned();
    let allowed = [
        "0",
        "1",
        "2",
        "3",
        &env("GRACEFORK_CONTROL_FD"),
        &env("GRACEFORK_SCOREBOARD_FD"),
    ];
    // What Python opens for itself: its own listener copy, the wake-up pipe, this connection.
    let own = 4;
    let Value::Object(fds) = &seen["fds"] else {
        panic!("{seen}")
    };
    let extra: Vec<_> = fds
        .iter()
        .filter(|(fd, _)| !allowed.contains(&fd.as_str()))
        .collect();
    assert!(extra.len() <= own, "{extra:?}");
    for (_, what) in extra {
        let what = what.as_str().unwrap();
        let foreign = ["eventpoll", "pidfd", "signalfd", ".toml", "timerfd"];
        assert!(
            !foreign.iter().any(|name| what.contains(name)),
            "the master's own descriptor: {what}"
        );
    }
    server.shut_down();
}

#[test]
fn a_worker_starts_with_clean_signals() {
    let server = Builder::plain("plain.py", &[]).start();
    let seen = server.get("/env").json();
    assert_eq!(seen["blocked"], "0000000000000000");
    let ignored = u64::from_str_radix(seen["ignored"].as_str().unwrap(), 16).unwrap();
    // Python itself ignores SIGPIPE and SIGXFSZ; 32 and 33 are the C library's own, and posix_spawn,
    // which starts the master here, leaves them ignored.
    let bit = |signal: u64| 1_u64 << (signal - 1);
    assert_eq!(
        ignored & !(bit(13) | bit(25) | bit(32) | bit(33)),
        0,
        "{ignored:x}"
    );
    server.shut_down();
}

#[test]
fn a_notify_worker_is_ready_when_it_says_so() {
    let server = Builder::python("notifier.py", &["--boot", "1"])
        .level("notify")
        .spawn();
    let status = server.wait_status("two workers", |status| status.pids().len() == 2);
    assert!(!status.ready && status.phase == "boot");
    server.wait_ready();
    let status = server.wait_status("what they say", |status| {
        status
            .workers
            .iter()
            .all(|worker| worker.status.as_deref() == Some("serving"))
    });
    assert_eq!(status.phase, "ready");
    server.shut_down();
}

#[test]
fn the_child_of_a_wrapper_may_speak_for_it() {
    let server = Builder::python("notifier.py", &["--child"])
        .level("notify")
        .start();
    server.shut_down();
}

#[test]
fn a_program_of_worker_api_drains_by_sigterm_where_it_is_called_plain() {
    let server = Builder::hello().level("plain").drain_timeout("20s").start();
    let mut connection = server.connect();
    connection.send_get("/slow/1").unwrap();
    server.signal(Signal::TERM);
    assert_eq!(connection.read_response().unwrap().status, 200);
    // It was not killed when its time was over: that is 5.
    server.expect_exit(0);
}

#[test]
fn a_notify_worker_serves_through_lameduck_before_it_is_told() {
    let server = Builder::python("notifier.py", &[])
        .level("notify")
        .lameduck("30s")
        .start();
    server.signal(Signal::TERM);
    server.wait_status("lameduck", |status| status.phase == "lameduck");
    assert_eq!(server.ops("/readyz").unwrap().status, 503);
    let response = server.get("/");
    assert!(
        response.status == 200 && !response.close,
        "it does not know of the end yet"
    );
    server.signal(Signal::INT);
    server.expect_exit(0);
}

#[test]
fn a_worker_without_signs_of_life_is_killed_and_replaced() {
    let server = Builder::python("notifier.py", &["--mute-after", "3"])
        .level("notify")
        .workers(1)
        .set("workers.hang_timeout", "1s")
        .start();
    let worker = server.watch_workers().remove(0);
    server.wait_gone(&worker);
    server.wait_log(&[&worker.pid.to_string(), "watchdog"]);
    server.wait_status("another worker", |status| {
        status.ready_workers == 1 && status.pids() != [worker.pid]
    });
    server.signal(Signal::TERM);
    server.wait_exit();
    server.assert_no_leftovers();
}

#[test]
fn a_worker_with_signs_of_life_lives_on() {
    let server = Builder::python("notifier.py", &[])
        .level("notify")
        .set("workers.hang_timeout", "2s")
        .start();
    let pids = server.worker_pids();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(server.worker_pids(), pids);
    server.shut_down();
}

#[test]
fn extend_timeout_usec_lengthens_the_start() {
    let slow = |boot_timeout: &str, args: &[&str]| {
        Builder::python("notifier.py", args)
            .level("notify")
            .workers(1)
            .set("workers.boot_timeout", boot_timeout)
            .set("workers.restart.crash_limit", 1)
            .spawn()
    };
    let server = slow("3s", &["--boot", "5", "--extend", "3"]);
    server.wait_ready();
    server.shut_down();

    let server = slow("1s", &["--boot", "30"]);
    server.expect_exit(3);
}

#[test]
fn extend_timeout_usec_lengthens_a_retire_but_no_shutdown() {
    let args = ["--stop", "10", "--extend", "3"];
    let server = Builder::python("notifier.py", &args)
        .level("notify")
        .drain_timeout("3s")
        .start();
    let old = server.watch_workers();
    server.signal(Signal::HUP);
    for worker in &old {
        server.wait_gone(worker);
    }
    assert_eq!(server.log.count(&["killed"]), 0, "{}", server.log.text());
    server.wait_status("the new generation", |status| status.workers.len() == 2);

    let term = server.signal(Signal::TERM);
    let exit = server.expect_exit(5);
    assert!(exit.after(term) >= Duration::from_secs(3));
    assert!(
        exit.after(term) < Duration::from_secs(8),
        "the pod's own deadline holds"
    );
}

#[test]
fn stop_signal_is_what_a_plain_worker_gets() {
    let server = Builder::plain("plain.py", &["--signal", "SIGINT"])
        .set("workers.stop_signal", "SIGINT")
        .start();
    server.shut_down();
    assert_eq!(server.log.count(&["got SIGINT"]), 2);
}

#[test]
fn term_immediately_sends_sigterm_first_and_the_stop_signal_at_drain() {
    let server = Builder::plain("marks_unhealthy.py", &[])
        .workers(1)
        .set("workers.term_immediately", true)
        .set("workers.stop_signal", "SIGQUIT")
        .lameduck("30s")
        .start();
    server.signal(Signal::TERM);
    server.wait_log(&["is unhealthy now"]);
    assert_eq!(server.get("/health").status, 503);
    assert_eq!(server.get("/").status, 200, "it serves on");
    assert_eq!(server.status().phase, "lameduck");
    server.signal(Signal::INT);
    server.expect_exit(0);
}

#[test]
fn whoever_started_the_master_is_told_how_it_is_doing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let server = Builder::axum()
        .lameduck("30s")
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .start();
    assert_eq!(heard(), "READY=1\nSTATUS=serving");
    server.signal(Signal::HUP);
    assert!(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(heard(), "READY=1\nSTATUS=serving");
    server.write_config("[nonsense");
    server.signal(Signal::HUP);
    assert!(heard().starts_with("RELOADING=1\n"), "it is refused");
    assert_eq!(heard(), "READY=1\nSTATUS=serving");
    server.signal(Signal::TERM);
    assert_eq!(heard(), "STOPPING=1\nSTATUS=lameduck");
    server.signal(Signal::INT);
    assert_eq!(heard(), "STOPPING=1\nSTATUS=drain");
    server.expect_exit(0);
}

#[test]
fn a_plain_worker_counts_as_ready_once_it_has_lived_for_ready_after() {
    let begun = Instant::now();
    let server = Builder::plain("plain.py", &[])
        .set("workers.ready_after", "1500ms")
        .start();
    assert!(begun.elapsed() >= Duration::from_millis(1500));
    server.shut_down();
}

#[test]
fn the_exit_status_of_a_plain_worker_that_was_told_to_stop_is_its_own_affair() {
    let server = Builder::plain("plain.py", &["--status", "1"]).start();
    server.signal(Signal::TERM);
    server.expect_exit(0);
    server.wait_log(&["worker gone", "exit status 1"]);
}
