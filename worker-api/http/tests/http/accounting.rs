//! What a worker tells of its work: bytes, times, requests in flight, and the access log.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use worker_api::message::Command;
use worker_api::scoreboard::monotonic_now;

use super::Pod;
use crate::client::Client;
use crate::pod::scratch;

const HOSTILE: &[u8] = b"GET /?a=%22&b=\" HTTP/1.1\r\nhost: test\r\nreferer: x\" 200 1\r\n\
    user-agent: \xff\\ \"} \t[x]\r\nauthorization: Basic ZXZlIC0gW3hdOnB3\r\n\r\n";

/// A worker that logs to a file of its own.
fn logging(format: &str) -> (Pod, std::path::PathBuf) {
    let path = scratch("access");
    let pod = Pod::with()
        .env("GRACEFORK_ACCESS_LOG", path.to_str().unwrap())
        .env("GRACEFORK_ACCESS_FORMAT", format)
        .start();
    (pod, path)
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let _ = std::fs::remove_file(path);
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn bytes_and_times_are_on_the_scoreboard() {
    let pod = Pod::start();
    let mut client = pod.connect();
    let request = "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n";
    for _ in 0..3 {
        client.send(request);
        client.send(vec![b'x'; 100_000]);
        assert_eq!(client.reply().body.len(), 100_000);
    }
    pod.until("three answers", |pod| pod.row().in_flight == 0);
    let row = pod.row();
    assert_eq!(row.received_bytes, 3 * (request.len() as u64 + 100_000));
    assert!((300_000..301_000).contains(&row.sent_bytes), "{row:?}");
    assert_eq!(row.latency.counts.iter().sum::<u64>(), 3);
    assert!(row.latency.sum > Duration::from_micros(3));
    drop(client);
    pod.drain();
    assert_eq!(pod.drained(), (3, 0));
}

#[test]
fn requests_in_flight_are_named_the_oldest_first() {
    let mut pod = Pod::start();
    let before = monotonic_now();
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..10 {
        clients.push(pod.connect());
        clients[number].ask(&format!("/hold?token=secret{number}"));
        pod.expect("holding");
    }
    let oldest = pod.board.row(0).unwrap().oldest();
    assert_eq!(oldest.len(), 8);
    for request in &oldest {
        assert_eq!((&*request.method, &*request.path), ("GET", "/hold"));
        assert!(request.started + Duration::from_micros(1) > before);
    }
    assert!(oldest.is_sorted_by_key(|request| request.started));
    (0..10).for_each(|_| pod.release());
    clients.iter_mut().for_each(|client| {
        assert_eq!(client.reply().status, 200);
    });
    pod.until("nothing in flight", |pod| {
        pod.board.row(0).unwrap().oldest().is_empty()
    });
    drop(clients);
    pod.drain();
    assert_eq!(pod.drained(), (10, 0));
}

#[test]
fn each_request_has_a_line_as_gunicorn_writes_it() {
    let (pod, path) = logging(worker_api::access_log::DEFAULT_FORMAT);
    let mut client = pod.connect();
    assert_eq!(client.get("/large?x=1").status, 200);
    assert_eq!(client.get("/nothing").status, 404);
    client.send(HOSTILE);
    assert_eq!(client.reply().status, 200);
    drop(client);
    pod.drain();
    assert_eq!(pod.drained(), (3, 0));
    let lines = lines(&path);
    let length = crate::app::LARGE;
    for (line, request) in lines.iter().zip([
        format!(r#""GET /large?x=1 HTTP/1.1" 200 {length} "-" "-""#),
        r#""GET /nothing HTTP/1.1" 404 0 "-" "-""#.to_owned(),
        r#""GET /?a=%22&b=%22 HTTP/1.1" 200 5 "x\" 200 1" "\xff\\ \"} \x09[x]""#.to_owned(),
    ]) {
        assert!(line.ends_with(&request), "{line}");
    }
    assert!(lines[0].starts_with("127.0.0.1 - - ["), "{}", lines[0]);
    let user = r"127.0.0.1 - eve\x20-\x20[x] [";
    assert!(lines[2].starts_with(user), "{}", lines[2]);
    assert_eq!(lines.len(), 3);
}

#[test]
fn fields_of_request_and_answer_can_be_asked_for() {
    let (pod, path) = logging("%(s)s %({X-Id}i)s %({content-type}o)s %({connection}o)s %(D)s");
    let mut client = pod.connect();
    client.send("GET /health HTTP/1.1\r\nhost: test\r\nx-id: a\r\nx-id: b c\r\n\r\n");
    client.reply();
    drop(client);
    pod.drain();
    pod.drained();
    let lines = lines(&path);
    let (rest, micros) = lines[0].rsplit_once(' ').unwrap();
    assert_eq!(rest, r"404 b\x20c - -");
    assert!(micros.parse::<u64>().is_ok());
}

#[test]
fn a_request_that_is_cut_off_is_logged_without_a_status() {
    let (mut pod, path) = logging("json");
    let mut client = pod.connect();
    client.ask("/hold");
    pod.expect("holding");
    let gone: TcpStream = {
        let other = pod.connect();
        other.ask("/hold?b");
        pod.expect("holding");
        other.stream().try_clone().unwrap()
    };
    gone.shutdown(std::net::Shutdown::Both).unwrap();
    pod.until("one is left", |pod| pod.row().in_flight == 1);
    pod.drain();
    pod.command(&Command::Quit);
    assert_eq!(pod.drained(), (0, 1));
    assert!(client.try_reply().is_err());
    let lines = lines(&path);
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in lines {
        assert!(line.contains(r#""path":"/hold""#) && line.contains(r#""status":null"#));
    }
}

#[test]
fn the_log_is_opened_anew_at_the_order() {
    let (pod, path) = logging("%(U)s");
    let mut client = pod.connect();
    client.get("/");
    pod.until("a line", |_| {
        std::fs::read(&path).is_ok_and(|text| !text.is_empty())
    });
    let moved = scratch("access");
    std::fs::rename(&path, &moved).unwrap();
    pod.command(&Command::Reopen);
    pod.until("a new file", |_| path.exists());
    client.get("/nothing");
    drop(client);
    pod.drain();
    pod.drained();
    assert_eq!(lines(&moved), ["/"]);
    assert_eq!(lines(&path), ["/nothing"]);
}
