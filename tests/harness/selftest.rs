//! The harness held against servers whose faults are known: a client that misses a lost request
//! would make every scenario pass.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::balancer::{LoadBalancer, last_200_after_first_503};
use super::http::{Conn, Stage, Target};
use super::load::{Load, Plan};
use super::process::{MARKER, Watched, marked};
use super::schedule::Schedule;
use super::wait::eventually;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// Answers request after request with what `answer` gives for its path; `None` closes.
fn serve(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || converse(stream.unwrap(), &*answer));
        }
    });
    target
}

fn converse(mut stream: TcpStream, answer: &dyn Fn(&str) -> Option<String>) {
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).unwrap_or(0) == 0 {
                return;
            }
            request.push(byte[0]);
        }
        let request = String::from_utf8(request).unwrap();
        let Some(text) = answer(request.split(' ').nth(1).unwrap()) else {
            return;
        };
        if stream.write_all(text.as_bytes()).is_err() || text.contains("Connection: close") {
            return;
        }
    }
}

#[test]
fn the_client_reads_whole_responses_of_every_framing() {
    let target = serve(|path| {
        Some(match path {
            "/length" => OK.to_owned(),
            "/chunks" => {
                let chunks = "3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n";
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
            }
            _ => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello".to_owned(),
        })
    });
    let mut connection = Conn::open(&target).unwrap();
    for path in ["/length", "/chunks", "/length", "/end"] {
        let response = connection.get(path).unwrap();
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "hello"),
            "{path}"
        );
        assert_eq!(response.close, path == "/end", "{path}");
    }
    assert!(connection.wait_closed().unwrap().is_empty());
    assert!(connection.is_closed());
}

#[test]
fn a_request_without_a_whole_response_is_lost() {
    let target = serve(|path| match path {
        "/cut" => Some(
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nhello".to_owned(),
        ),
        "/half-a-head" => Some("HTTP/1.1 200 OK\r\nConnection: close\r\n".to_owned()),
        _ => None,
    });
    let stage = |path: &str| Conn::open(&target).unwrap().get(path).unwrap_err().stage;
    assert_eq!(stage("/cut"), Stage::CutShort);
    assert_eq!(stage("/half-a-head"), Stage::CutShort);
    assert_eq!(stage("/nothing"), Stage::NoResponse);

    // Bound, so that nobody else gets the port, and not listening.
    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    deaf.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let refused = deaf.local_addr().unwrap().as_socket().unwrap();
    let lost = Conn::open(&Target::Tcp(refused)).err().unwrap();
    assert_eq!(lost.stage, Stage::Connect, "{lost}");
}

#[test]
fn the_load_counts_a_sound_server_as_sound() {
    let target = serve(|_| Some(OK.to_owned()));
    let load = Load::with(
        &target,
        Plan {
            clients: 4,
            ..Plan::default()
        },
    );
    load.wait_for(50);
    let report = load.stop();
    report.assert_none_lost();
    assert!(report.sent >= 50 && report.last_response_at.is_some());
}

#[test]
fn the_load_counts_what_an_untold_close_and_a_wrong_status_lose() {
    let count = AtomicUsize::new(0);
    let target = serve(move |_| match count.fetch_add(1, Ordering::Relaxed) % 10 {
        3 => None,
        7 => Some("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_owned()),
        _ => Some(OK.to_owned()),
    });
    let load = Load::with(
        &target,
        Plan {
            clients: 1,
            ..Plan::default()
        },
    );
    eventually("both faults", || load.lost_stages().len() >= 2);
    let report = load.stop();
    let stages: Vec<Stage> = report.lost.iter().map(|lost| lost.stage).collect();
    assert_eq!(
        stages[..2],
        [Stage::NoResponse, Stage::Status],
        "{}",
        report.describe()
    );
    assert_eq!(report.sent, report.ok + report.lost.len() as u64);
}

#[test]
fn the_load_balancer_takes_the_pod_out_after_three_failures() {
    let sick = Arc::new(AtomicBool::new(false));
    let health = Arc::clone(&sick);
    let target = serve(move |path| {
        let sick = path == "/health" && health.load(Ordering::Relaxed);
        Some(if sick {
            OK.replace("200 OK", "503 Sick")
        } else {
            OK.to_owned()
        })
    });
    let load = Load::with(
        &target,
        Plan {
            clients: 2,
            ..Plan::default()
        },
    );
    let balancer = LoadBalancer::start(&target, "/health", load.route());
    load.wait_for(10);
    sick.store(true, Ordering::Relaxed);
    eventually("the pod is taken out", || load.is_stopped());
    let probes = balancer.stop();
    let report = load.stop();
    report.assert_none_lost();
    let stopped = report.stopped_at.unwrap();
    let failures = probes
        .iter()
        .filter(|probe| probe.status == Some(503) && probe.at <= stopped)
        .count();
    assert_eq!(failures, 3, "{probes:?}");
    assert!(last_200_after_first_503(&probes).is_none());
}

#[test]
fn a_grandchild_is_found_by_its_marker_until_it_is_gone() {
    let id = super::server::new_id();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "sleep 100 >/dev/null 2>&1 & echo $!"])
        .env(MARKER, &id);
    let output = shell.stdin(Stdio::null()).output().unwrap();
    let pid: u32 = String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();

    // In the middle of its exec it has no environment that can be read.
    eventually("the sleeper is found", || marked(&id) == [pid]);
    let sleeper = Watched::open(pid).unwrap();
    assert!(sleeper.wait_exit(Duration::ZERO).is_none() && !sleeper.is_gone());
    sleeper.signal(rustix::process::Signal::KILL);
    assert!(sleeper.wait_exit(super::LIMIT).is_some());
    eventually("the sleeper is reaped", || sleeper.is_gone());
    assert!(marked(&id).is_empty());
}

#[test]
fn a_test_alone_waits_for_those_that_share_and_keeps_others_out() {
    static OWN: Schedule = Schedule::new();
    let shared = OWN.share();
    drop(OWN.share());
    let (leave, left) = mpsc::channel::<()>();
    let alone = std::thread::spawn(move || {
        let turn = OWN.alone();
        left.recv().unwrap_err();
        drop(turn);
    });
    eventually("it waits", || OWN.waiting_alone() == 1);
    drop(shared);
    eventually("it is alone", || OWN.waiting_alone() == 0);
    let other = std::thread::spawn(|| drop(OWN.share()));
    eventually("the other one waits", || OWN.waiting_to_share() == 1);
    drop(leave);
    alone.join().unwrap();
    other.join().unwrap();
    assert_eq!(OWN.waiting_to_share(), 0);
}
