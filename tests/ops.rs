//! The ops listener: right in every phase, alive to the last moment, deaf to slow clients.

use std::time::Duration;

use crate::harness::balancer::first_503;
use crate::harness::{Builder, Conn, Prober, Server, Signal, eventually};

#[test]
fn readyz_follows_the_count_of_ready_workers() {
    let server = Builder::python("notifier.py", &["--boot", "1"])
        .level("notify")
        .set("workers.min_ready", 2)
        .start();
    let workers = server.watch_workers();
    workers[0].signal(Signal::KILL);
    server.wait("503 of /readyz", || {
        (server.ops("/readyz")?.status == 503).then_some(())
    });
    assert_eq!(server.ops("/livez").unwrap().status, 200);
    server.wait_ready();
    server.shut_down();
}

#[test]
fn the_ops_listener_answers_to_the_last_moment() {
    let server = Builder::axum().lameduck("500ms").start();
    let (mut connection, mut last) = (server.connect(), server.connect());
    connection.send_get("/slow/2").unwrap();
    last.send_get("/slow/4").unwrap();
    let live = Prober::start(&server.ops, "/livez", Duration::from_millis(5));
    server.signal(Signal::TERM);
    server.wait_status("drain", |status| status.phase == "drain" && !status.ready);
    assert_eq!(server.ops("/readyz").unwrap().status, 503);
    assert_eq!(server.ops("/metrics").unwrap().status, 200);
    let answered = connection.read_response().unwrap().at;
    // The master outlives it by so much that a probe falls between the two.
    assert_eq!(last.read_response().unwrap().status, 200);
    let exit = server.expect_exit(0);
    let probes = live.stop();
    let good = probes.iter().filter(|probe| probe.status == Some(200));
    let last = good.map(|probe| probe.at).max().unwrap();
    // The last probe that could be answered lies at most one slow probe before the end.
    let deaf = exit.at.saturating_duration_since(last.max(answered));
    println!("/livez was answered until {deaf:?} before the end");
    assert!(
        last >= answered,
        "/livez was answered as long as a request was in flight"
    );
}

#[test]
fn metrics_tell_how_long_each_worker_took_to_leave() {
    let server = Builder::axum().workers(2).start();
    let drained = |count: usize| {
        let text = server.ops("/metrics").unwrap().text();
        text.contains(&format!("gracefork_drain_seconds_count {count}\n"))
    };
    assert!(drained(0));
    server.signal(Signal::HUP);
    server.wait("both old workers in it", || drained(2).then_some(()));
    server.shut_down();
}

#[test]
fn readyz_turns_when_unready_delay_is_over_and_not_before() {
    let server = Builder::axum()
        .lameduck("30s")
        .set("shutdown.unready_delay", "700ms")
        .start();
    let ready = Prober::start(&server.ops, "/readyz", Duration::from_millis(5));
    let term = server.signal(Signal::TERM);
    eventually("the prober sees it", || {
        first_503(&ready.probes()).is_some()
    });
    server.signal(Signal::INT);
    server.expect_exit(0);
    let probes = ready.stop();
    let turned = probes
        .iter()
        .find(|probe| probe.status == Some(503))
        .unwrap();
    let after = turned.at.saturating_duration_since(term);
    assert!(after >= Duration::from_millis(700), "{after:?}");
    let again = probes.iter().filter(|probe| probe.at > turned.at);
    assert!(again.filter(|probe| probe.status == Some(200)).count() == 0);
}

#[test]
fn livez_says_503_once_work_is_forced() {
    // A worker that is told to abort and does not keeps the pod in force for a second: on a busy
    // machine no probe may fall into it.
    let seen = (0..5).any(|_| {
        let server = Builder::native(&["silent"]).start();
        assert_eq!(server.ops("/livez").unwrap().status, 200);
        let live = Prober::start(&server.ops, "/livez", Duration::from_millis(5));
        server.signal(Signal::QUIT);
        server.expect_exit(5);
        first_503(&live.stop()).is_some()
    });
    assert!(seen);
}

#[test]
fn slow_and_silent_clients_do_not_keep_others_from_an_answer() {
    let server = Builder::axum().start();
    let mut held: Vec<Conn> = (0..200).map(|_| Conn::open(&server.ops).unwrap()).collect();
    for (number, connection) in held.iter_mut().enumerate() {
        if number % 2 == 0 {
            // A client that the listener turns away is slow no more.
            let _ = connection.send(b"GET /metrics HTTP/1.1\r\nHost:");
        }
    }
    for path in ["/livez", "/readyz", "/status", "/metrics"] {
        let answered = server.wait(path, || server.ops(path));
        assert_eq!(answered.status, 200, "{path}");
    }
    server.shut_down();
}

#[test]
fn a_client_that_never_reads_does_not_hold_the_end_up() {
    let server = Builder::axum().start();
    let mut deaf: Vec<Conn> = (0..4).map(|_| Conn::open(&server.ops).unwrap()).collect();
    for connection in &mut deaf {
        for _ in 0..2000 {
            if connection.send_get("/metrics").is_err() {
                break;
            }
        }
    }
    server.shut_down();
}

#[test]
fn nonsense_is_answered_with_an_error_or_an_end() {
    let server = Builder::axum().start();
    for nonsense in [
        &b"\xff\xfe\x00\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        &[b'x'; 100_000],
    ] {
        let mut connection = Conn::open(&server.ops).unwrap();
        let _ = connection.send(nonsense);
        connection.finish_writing();
        if let Ok(response) = connection.read_response() {
            assert!((400..600).contains(&response.status), "{}", response.status);
        }
    }
    assert_eq!(server.ops("/no-such-path").unwrap().status, 404);
    let mut connection = Conn::open(&server.ops).unwrap();
    assert_eq!(connection.post("/status", b"{}").unwrap().status, 405);
    server.shut_down();
}

#[test]
fn status_tells_each_workers_work() {
    let server = Builder::axum().start();
    for _ in 0..10 {
        assert_eq!(server.get("/").status, 200);
    }
    let mut connection = server.connect();
    connection.send_get("/slow/1").unwrap();
    let status = server.wait_status("the request in flight", |status| {
        status
            .workers
            .iter()
            .map(|worker| worker.in_flight)
            .sum::<u64>()
            == 1
    });
    assert_eq!(
        (status.phase.as_str(), status.ready, status.generation),
        ("ready", true, 1)
    );
    assert_eq!(
        (status.target, status.ready_workers, status.workers.len()),
        (2, 2, 2)
    );
    assert!(status.last_reload.is_none());
    assert!(
        status
            .workers
            .iter()
            .map(|worker| worker.requests)
            .sum::<u64>()
            >= 10
    );
    assert!(
        status
            .workers
            .iter()
            .map(|worker| worker.connections)
            .sum::<u64>()
            >= 1
    );
    for (slot, worker) in status.workers.iter().enumerate() {
        assert_eq!(
            (worker.slot, worker.generation, worker.restarts),
            (slot, 1, 0)
        );
        assert!(
            worker.healthy && worker.is("ready") && worker.age_seconds > 0.0,
            "{worker:?}"
        );
    }
    assert_eq!(connection.read_response().unwrap().status, 200);
    server.wait_status("nothing in flight", |status| {
        status.workers.iter().all(|worker| worker.in_flight == 0)
    });
    server.shut_down();
}

#[test]
fn metrics_are_prometheus_text_and_count_restarts() {
    let server = Builder::axum().start();
    let before = metrics(&server);
    let victim = server.watch_workers().remove(0);
    victim.signal(Signal::KILL);
    server.wait_status("the replacement", |status| {
        status.ready_workers == 2 && !status.pids().contains(&victim.pid)
    });
    let after = metrics(&server);
    let restarts = |samples: &[(String, f64)]| {
        let of = samples.iter().filter(|(name, _)| name.contains("restarts"));
        of.map(|(_, value)| value).sum::<f64>()
    };
    assert!(
        (restarts(&after) - restarts(&before) - 1.0).abs() < 0.01,
        "{after:?}"
    );
    for name in ["phase", "workers", "restarts", "forced", "drain"] {
        assert!(
            after.iter().any(|(sample, _)| sample.contains(name)),
            "no sample of {name}: {after:?}"
        );
    }
    server.shut_down();
}

/// All samples of `/metrics`; every line must be one, or a comment.
fn metrics(server: &Server) -> Vec<(String, f64)> {
    let response = server.ops("/metrics").unwrap();
    assert_eq!(response.status, 200);
    assert!(
        response.header("content-type").unwrap().contains("text"),
        "{:?}",
        response.headers
    );
    let text = response.text();
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let samples = lines.map(|line| {
        let (name, value) = line
            .rsplit_once(' ')
            .unwrap_or_else(|| panic!("no sample: {line}"));
        (
            name.to_owned(),
            value
                .parse()
                .unwrap_or_else(|_| panic!("no number: {line}")),
        )
    });
    samples.collect()
}
