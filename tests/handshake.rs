//! Connections that are being made when the pod drains: who was answered is served, and nobody else
//! is answered.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_tcp_quickack;
use socket2::{Domain, SockFilter, Socket, Type};

use crate::harness::ports::free_port;
use crate::harness::schedule::alone;
use crate::harness::skip::skip;
use crate::harness::{Builder, LIMIT, Server, Signal, Target};

/// The way of a handshake's last segment: longer than a worker needs to close its listener, and
/// less than it waits.
const WAY: Duration = Duration::from_millis(20);

/// Clients come one after the other, and do not wait for each other: so many before the signal,
/// and all in all at most.
const BEFORE: usize = 40;
const MOST: usize = 2_000;
const APART: Duration = Duration::from_micros(500);

/// What became of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    /// No connection: it may ask elsewhere.
    Refused,
    /// It had a connection.
    Reset,
    /// It was not given the processor in time: a worker need not wait for so long.
    Late,
}

#[test]
fn handshakes_that_have_begun_when_the_drain_starts_end_in_an_answer() {
    if !filters_work() {
        return skip(FILTERS);
    }
    let _alone = alone();
    for builder in [Builder::axum, Builder::hello] {
        for host in ["127.0.0.1", "[::1]"] {
            let mut rounds = (0..5).map(|_| {
                let server = start_at(builder(), host)?;
                Some(all_begun_are_answered(&server))
            });
            let in_time = rounds.any(|in_time| in_time != Some(false));
            assert!(in_time, "the test is never given the processor in time");
        }
    }
}

/// `false` where the test itself was late: workers wait for handshakes 50 ms.
fn all_begun_are_answered(server: &Server) -> bool {
    let clients: Vec<TcpStream> = (0..16).map(|_| begin(address(server)).unwrap()).collect();
    let told = server.signal(Signal::TERM);
    thread::sleep((told + WAY).saturating_duration_since(Instant::now()));
    let ask = |mut client: &TcpStream| client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let asked: io::Result<Vec<()>> = clients.iter().map(ask).collect();
    let in_time = told.elapsed() < 2 * WAY;
    let answer = |mut client: &TcpStream| {
        let mut answer = String::new();
        client.read_to_string(&mut answer).map(|_| answer)
    };
    let answers: io::Result<Vec<String>> = clients.iter().map(answer).collect();
    server.expect_exit(0);
    match asked.and(answers) {
        Ok(answers) => {
            let whole = |answer: &String| answer.starts_with("HTTP/1.1 200 OK\r\n");
            assert!(!in_time || answers.iter().all(whole), "{answers:?}");
        }
        Err(error) if in_time => server.fail(&format!("reset: {error}")),
        Err(_) => {}
    }
    in_time
}

/// The figures in `docs/architecture.md` are of this; `--nocapture` shows them.
#[test]
fn of_connections_that_keep_coming_over_the_start_of_drain_none_is_reset() {
    if !filters_work() {
        return skip(FILTERS);
    }
    let _alone = alone();
    for builder in [Builder::axum, Builder::hello] {
        let server = builder().start();
        let over = AtomicBool::new(false);
        let outcomes: Vec<Outcome> = thread::scope(|scope| {
            let mut clients = Vec::new();
            while !over.load(Ordering::Relaxed) && clients.len() < MOST {
                if clients.len() == BEFORE {
                    server.signal(Signal::TERM);
                }
                let (address, over) = (address(&server), &over);
                clients.push(scope.spawn(move || {
                    let outcome = come(address);
                    over.fetch_or(outcome == Outcome::Refused, Ordering::Relaxed);
                    outcome
                }));
                thread::sleep(APART);
            }
            let ended = clients.into_iter().map(|client| client.join().unwrap());
            ended.collect()
        });
        let count = |outcome| outcomes.iter().filter(|other| **other == outcome).count();
        let [answered, refused, reset] =
            [Outcome::Answered, Outcome::Refused, Outcome::Reset].map(count);
        println!("{answered} answered, {refused} refused, {reset} reset");
        assert!(answered > 0 && refused > 0, "{outcomes:?}");
        assert_eq!(reset, 0, "{outcomes:?}");
        server.expect_exit(0);
    }
}

#[test]
fn in_drain_nobody_is_answered_whom_nobody_would_serve() {
    if !filters_work() {
        return skip(FILTERS);
    }
    let server = Builder::axum().start();
    let workers = server.watch_workers();
    // They keep their listeners open.
    workers
        .iter()
        .for_each(|worker| worker.signal(Signal::STOP));
    server.signal(Signal::TERM);
    server.wait_status("drain", |status| status.phase == "drain");
    let tried = TcpStream::connect_timeout(&address(&server), Duration::from_millis(100));
    assert_eq!(tried.unwrap_err().kind(), io::ErrorKind::TimedOut);
    workers
        .iter()
        .for_each(|worker| worker.signal(Signal::CONT));
    server.expect_exit(0);
}

#[test]
fn a_socket_that_was_handed_over_answers_those_who_come_after_the_pod() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap();
    let passed = vec![OwnedFd::from(listener.try_clone().unwrap())];
    let builder = Builder::axum().target(Target::Tcp(local));
    let mut builder = builder.socket_activated(passed);
    builder.config.remove("listen");
    let server = builder.start();
    assert_eq!(server.get("/").status, 200);
    server.shut_down();
    TcpStream::connect_timeout(&local, LIMIT).unwrap();
}

const FILTERS: &str = "to set filters on TCP sockets (CAP_NET_ADMIN on newer kernels)";

/// Whether the kernel takes a filter from this process, and so from its masters: one that lets
/// everything pass.
fn filters_work() -> bool {
    const RETURN: u16 = 0x06;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .attach_filter(&[SockFilter::new(RETURN, 0, 0, u32::MAX)])
        .is_ok()
}

/// A server at a free port of `host`; `None` where there is no such host.
fn start_at(builder: Builder, host: &str) -> Option<Server> {
    drop(TcpListener::bind(format!("{host}:0")).ok()?);
    let address = format!("{host}:{}", free_port());
    let target = Target::Tcp(address.parse().unwrap());
    Some(builder.bind([address]).target(target).start())
}

fn address(server: &Server) -> SocketAddr {
    match &server.target {
        Target::Tcp(address) => *address,
        Target::Unix(path) => unreachable!("{}", path.display()),
    }
}

/// Asks over a way of a quarter of [`WAY`].
fn come(address: SocketAddr) -> Outcome {
    let begun = Instant::now();
    let Ok(mut client) = begin(address) else {
        return Outcome::Refused;
    };
    thread::sleep(WAY / 4);
    let _ = client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let late = begun.elapsed() > WAY;
    let mut answer = String::new();
    match client.read_to_string(&mut answer) {
        Ok(1..) => Outcome::Answered,
        _ if late => Outcome::Late,
        _ => Outcome::Reset,
    }
}

/// A connection as its client sees it, of which the server has not heard yet: the last segment of
/// the handshake waits for the first data (or for 200 ms).
fn begin(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), None)?;
    set_tcp_quickack(&socket, false)?;
    socket.connect(&address.into())?;
    socket.set_read_timeout(Some(LIMIT))?;
    Ok(socket.into())
}
