//! What the pod tells of its requests: while they run, when they are cut off, and one by one in the
//! access log.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Builder, Load, Server, Signal, eventually};

#[test]
fn status_names_the_requests_that_run_and_counts_bytes() {
    let server = Builder::axum().workers(1).start();
    let mut slow = server.connect();
    slow.send_get("/slow/30?token=secret").unwrap();
    let mut second = server.connect();
    server.wait_status("the first", |status| status.workers[0].in_flight == 1);
    second.send_get("/slow/29").unwrap();
    let worker = server.wait("both by name", || {
        let status: Value = serde_json::from_slice(&server.ops("/status")?.body).unwrap();
        let worker = status["workers"][0].clone();
        (worker["oldest_requests"].as_array()?.len() == 2).then_some(worker)
    });
    let (first, second) = (&worker["oldest_requests"][0], &worker["oldest_requests"][1]);
    assert_eq!(
        (&first["method"], &first["path"]),
        (&"GET".into(), &"/slow/30".into())
    );
    assert_eq!(second["path"], "/slow/29");
    assert!(first["age_seconds"].as_f64() >= second["age_seconds"].as_f64());
    assert!(worker["received_bytes"].as_u64() > Some(40));
    assert!(worker["rss_bytes"].as_u64() > Some(1 << 20), "{worker}");
    assert!(!worker.to_string().contains("secret"));
    // A worker that dies takes them along, and the log says which.
    server.watch_workers()[0].signal(Signal::KILL);
    let line = server.wait_log(&["worker died", "in_flight=2"]);
    assert!(
        line.contains(&["GET /slow/30 for ", "GET /slow/29 for "]),
        "{}",
        line.text
    );
    assert!(!server.log.text().contains("secret"));
    server.wait_ready();
    server.shut_down();
}

#[test]
fn a_worker_that_is_forced_is_told_with_its_requests() {
    let server = Builder::axum().workers(1).drain_timeout("300ms").start();
    let mut slow = server.connect();
    slow.send_get("/slow/30").unwrap();
    server.wait_status("the request", |status| status.workers[0].in_flight == 1);
    server.signal(Signal::TERM);
    server.expect_exit(5);
    server.wait_log(&["worker told to abort", "GET /slow/30 for "]);
}

#[test]
fn the_totals_outlive_workers_and_hold_every_request() {
    let server = Builder::axum().start();
    let load = Load::start(&server.target);
    load.wait_for(500);
    let report = load.stop();
    eventually("every answer is counted", || {
        total(&server, "gracefork_request_duration_seconds_count ") >= report.ok as f64
    });
    let names = [
        "gracefork_request_duration_seconds_count ",
        "gracefork_request_duration_seconds_sum ",
        "gracefork_request_duration_seconds_bucket{le=\"+Inf\"} ",
        "gracefork_received_bytes_total ",
        "gracefork_sent_bytes_total ",
    ];
    let before = names.map(|name| total(&server, name));
    for process in server.watch_workers() {
        process.signal(Signal::KILL);
        server.wait_gone(&process);
        let after = names.map(|name| total(&server, name));
        assert!(
            after
                .iter()
                .zip(before)
                .all(|(after, before)| *after >= before)
        );
    }
    assert_eq!(total(&server, names[0]), report.ok as f64);
    assert!(before[1] > 0.0 && before[3] > 20.0 * report.ok as f64);
    server.wait_ready();
    server.shut_down();
}

#[test]
fn what_is_refused_is_counted_beside_the_requests() {
    const BODY_GOES_WRONG: &[u8] =
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
    for builder in [Builder::axum(), Builder::hello()] {
        let server = builder.workers(1).start();
        let before = total(&server, "gracefork_requests_total ");
        for (bytes, status) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"[..], 400),
            (b"nonsense\r\n\r\n", 400),
            (BODY_GOES_WRONG, 400),
        ] {
            let mut client = server.connect();
            client.send(bytes).unwrap();
            assert_eq!(client.read_response().unwrap().status, status);
        }
        let name = "gracefork_refused_requests_total ";
        eventually("each is counted", || total(&server, name) == 3.0);
        let begun = total(&server, "gracefork_requests_total ") - before;
        assert!(begun <= 1.0, "only the third got as far: {begun}");
        for process in server.watch_workers() {
            process.signal(Signal::KILL);
            server.wait_gone(&process);
        }
        assert_eq!(total(&server, name), 3.0, "its worker is dead");
        server.wait_ready();
        server.shut_down();
    }
}

#[test]
fn every_request_has_one_line_over_reload_reopen_and_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let server = Builder::axum()
        .set("log.access", path.to_str().unwrap())
        .set("log.access_format", "json")
        .lameduck("200ms")
        .start();
    let load = Load::start(&server.target);
    load.wait_for(300);
    let moved = folder.path().join("access.log.1");
    fs::rename(&path, &moved).unwrap();
    server.signal(Signal::USR1);
    server.wait("a new file", || fs::metadata(&path).is_ok().then_some(()));
    load.wait_for(300);
    server.signal(Signal::HUP);
    server.wait_status("the reload done", |status| {
        status
            .last_reload
            .as_ref()
            .is_some_and(|reload| reload.outcome == "done")
    });
    load.wait_for(300);
    let report = load.stop();
    report.assert_none_lost();
    server.shut_down();
    let mut lines = 0;
    let mut pids: BTreeMap<u64, u64> = BTreeMap::new();
    for file in [&moved, &path] {
        for line in fs::read_to_string(file).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!((&line["path"], &line["status"]), (&"/".into(), &200.into()));
            assert_eq!(line["body_bytes"], 5);
            *pids.entry(line["pid"].as_u64().unwrap()).or_default() += 1;
            lines += 1;
        }
    }
    assert_eq!(lines, report.ok, "{}", report.describe());
    assert!(pids.len() >= 4, "two generations of two workers: {pids:?}");
}

#[test]
fn gunicorns_lines_come_on_standard_output() {
    let server = Builder::axum().set("log.access", "-").start();
    let mut connection = server.connect();
    let request = "GET /%22?q=1 HTTP/1.1\r\nHost: a\r\nUser-Agent: \"x\" 200\r\n\r\n";
    connection.send(request.as_bytes()).unwrap();
    assert_eq!(connection.read_response().unwrap().status, 404);
    let line = server.wait_log(&["127.0.0.1 - - [", r#""GET /%22?q=1 HTTP/1.1" 404 0"#]);
    assert!(line.text.ends_with(r#" "-" "\"x\" 200""#), "{}", line.text);
    server.shut_down();
}

#[test]
fn an_access_log_that_cannot_be_opened_ends_the_start() {
    let server = Builder::axum()
        .set("log.access", "/no/such/folder/access.log")
        .spawn();
    let exit = server.wait_exit_for(Duration::from_secs(30));
    assert_eq!(exit.code(), Some(1));
    server.wait_log(&["the access log /no/such/folder/access.log cannot be opened"]);
}

fn total(server: &Server, name: &str) -> f64 {
    let text = server.ops("/metrics").unwrap().text();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        .parse()
        .unwrap()
}
