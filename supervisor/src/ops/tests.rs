//! The listener in a real mio loop, with real sockets. Time is the rig's own: deadlines come by
//! moving it, never by waiting.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use mio::{Events, Poll, Waker};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

const WAKER: Token = Token(0);
const TOKENS: Range<usize> = 100..100 + OpsServer::TOKENS;

/// Only ever reached by a hang.
const STUCK: Duration = Duration::from_secs(60);

pub(super) fn view() -> View {
    let mut workers = vec![worker(0), worker(1)];
    workers[0].responses = [0, 117, 0, 2, 0];
    View {
        phase: "ready",
        live: true,
        ready: true,
        generation: 1,
        target: 4,
        ready_workers: 4,
        hosts: vec![],
        uptime: Duration::from_millis(61_500),
        last_reload: Some(ReloadView {
            generation: 1,
            outcome: "rolled_back",
            reason: Some("worker 0 was killed by SIGSEGV".to_owned()),
            age: Duration::from_millis(250),
        }),
        workers,
    }
}

pub(super) fn worker(slot: usize) -> WorkerView {
    WorkerView {
        slot,
        pid: 4711,
        generation: 1,
        level: "native",
        state: "ready",
        healthy: true,
        in_flight: 0,
        connections: 0,
        requests: 0,
        responses: [0; 5],
        aborted: 0,
        received_bytes: 0,
        sent_bytes: 0,
        latency: worker_api::Latency::default(),
        log_lines_dropped: 0,
        refused: 0,
        oldest_requests: Vec::new(),
        age: Duration::from_millis(4_100),
        restarts: 0,
        status: None,
        rss_bytes: Some(9 << 20),
    }
}

struct Rig {
    poll: Poll,
    waker: Arc<Waker>,
    server: OpsServer,
    metrics: Metrics,
    view: View,
    now: Instant,
}

impl Rig {
    fn new() -> Rig {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Rig::with(|registry| OpsServer::bind(any_port, registry, TOKENS).unwrap())
    }

    fn with(server: impl FnOnce(&Registry) -> OpsServer) -> Rig {
        let poll = Poll::new().unwrap();
        Rig {
            waker: Arc::new(Waker::new(poll.registry(), WAKER).unwrap()),
            server: server(poll.registry()),
            poll,
            metrics: Metrics::new(SystemTime::UNIX_EPOCH, &[]),
            view: view(),
            now: Instant::now(),
        }
    }

    /// Waits for events at most so long, and says how many were the server's.
    fn turn(&mut self, wait: Duration) -> usize {
        let mut events = Events::with_capacity(64);
        self.poll.poll(&mut events, Some(wait)).unwrap();
        assert!(wait.is_zero() || !events.is_empty(), "stuck");
        let mut count = 0;
        for event in &events {
            if !self.server.owns(event.token()) {
                continue;
            }
            let mut view = |_: Depth| self.view.clone();
            self.server.ready(
                event.token(),
                self.poll.registry(),
                self.now,
                &self.metrics,
                &mut view,
            );
            count += 1;
        }
        count
    }

    fn until(&mut self, done: impl Fn(&OpsServer) -> bool) {
        while !done(&self.server) {
            self.turn(STUCK);
        }
    }

    fn expire_after(&mut self, duration: Duration) {
        self.now += duration;
        self.server.expire(self.now, self.poll.registry());
    }

    /// Runs a blocking client in its own thread, and the loop until the client is done.
    fn drive<T: Send>(&mut self, client: impl FnOnce(TcpStream) -> T + Send) -> T {
        let stream = self.connect();
        let done = AtomicBool::new(false);
        let finish = Finish(&done, Arc::clone(&self.waker));
        std::thread::scope(|scope| {
            let client = scope.spawn(move || {
                let _finish = finish;
                client(stream)
            });
            while !done.load(Ordering::Acquire) {
                self.turn(STUCK);
            }
            client.join().unwrap()
        })
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.local_addr()).unwrap();
        stream.set_read_timeout(Some(STUCK)).unwrap();
        stream.set_write_timeout(Some(STUCK)).unwrap();
        stream
    }

    fn get(&mut self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: pod\r\n\r\n");
        self.drive(move |mut stream| {
            stream.write_all(request.as_bytes()).unwrap();
            read_all(stream)
        })
    }

    /// A client that asks for more than all socket buffers hold, and does not read it.
    fn connect_without_reading(&mut self) -> TcpStream {
        let mut worker = worker(0);
        worker.status = Some("x".repeat(16 << 20));
        self.view.workers = vec![worker];
        let mut client = self.connect();
        client.write_all(b"GET /status HTTP/1.1\r\n\r\n").unwrap();
        self.until(|server| server.conns.iter().flatten().any(Conn::is_answering));
        client
    }
}

/// Tells the loop that the client's thread is done, even if it panicked.
struct Finish<'a>(&'a AtomicBool, Arc<Waker>);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.wake().unwrap();
    }
}

fn read_all(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("no reset");
    answer
}

fn open(server: &OpsServer) -> usize {
    server.conns.iter().flatten().count()
}

#[test]
fn a_probe_is_answered_and_leaves_nothing_behind() {
    let mut rig = Rig::new();
    assert!(rig.get("/readyz").ends_with("\r\n\r\nready\n"));
    assert!(rig.get("/livez").starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(rig.get("/metrics").ends_with("# EOF\n"));
    assert!(rig.get("/nowhere").starts_with("HTTP/1.1 404 "));
    rig.until(|server| open(server) == 0);
    assert_eq!(rig.server.next_deadline(), None);
    assert_eq!(rig.turn(Duration::ZERO), 0);
}

#[test]
fn the_view_is_asked_at_each_answer() {
    let mut rig = Rig::new();
    assert!(rig.get("/readyz").starts_with("HTTP/1.1 200 "));
    (rig.view.ready, rig.view.phase) = (false, "lameduck");
    assert!(rig.get("/readyz").starts_with("HTTP/1.1 503 "));
    assert!(rig.get("/readyz").ends_with("\r\n\r\nlameduck\n"));
    assert!(rig.get("/livez").starts_with("HTTP/1.1 200 "));
    assert_eq!(rig.server.answered_unready(), 2);
}

#[test]
fn a_client_that_sends_byte_by_byte_is_answered() {
    let mut rig = Rig::new();
    let answer = rig.drive(|mut stream| {
        stream.set_nodelay(true).unwrap();
        for byte in b"GET /livez HTTP/1.1\r\nHost: pod\r\nUser-Agent: slow\r\n\r\n" {
            stream.write_all(&[*byte]).unwrap();
        }
        read_all(stream)
    });
    assert!(answer.ends_with("ok\n"));
}

#[test]
fn head_gets_the_header_alone() {
    let mut rig = Rig::new();
    let answer = rig.drive(|mut stream| {
        stream.write_all(b"HEAD /livez HTTP/1.1\r\n\r\n").unwrap();
        read_all(stream)
    });
    assert!(answer.contains("\r\nContent-Length: 3\r\n"));
    assert!(answer.ends_with("\r\n\r\n"));
}

#[test]
fn a_client_that_closes_its_half_first_is_answered() {
    let mut rig = Rig::new();
    for (request, status) in [
        ("GET /livez HTTP/1.1\r\n\r\n", "HTTP/1.1 200 "),
        ("GET /livez HTTP/1.1\r\nHo", "HTTP/1.1 400 "),
    ] {
        let answer = rig.drive(|mut stream| {
            stream.write_all(request.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            read_all(stream)
        });
        assert!(answer.starts_with(status), "{answer}");
    }
    rig.until(|server| open(server) == 0);
}

#[test]
fn a_client_that_connects_and_goes_is_forgotten() {
    let mut rig = Rig::new();
    drop(rig.connect());
    rig.until(|server| server.accepted == 1 && open(server) == 0);

    let mut client = rig.connect();
    client.write_all(b"GET /livez").unwrap();
    rig.until(|server| server.accepted == 2);
    SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    rig.until(|server| open(server) == 0);
}

#[test]
fn pipelined_garbage_does_not_reset_the_answer() {
    let mut rig = Rig::new();
    let answer = rig.drive(|mut stream| {
        let mut request = b"GET /livez HTTP/1.1\r\n\r\n".to_vec();
        request.resize(600 * 1024, b'\xff');
        stream.write_all(&request).unwrap();
        read_all(stream)
    });
    assert!(answer.starts_with("HTTP/1.1 200 "));
    assert!(answer.ends_with("ok\n"));
}

#[test]
fn a_body_is_ignored_and_does_not_reset_the_answer() {
    let mut rig = Rig::new();
    let answer = rig.drive(|mut stream| {
        let head = "POST /livez HTTP/1.1\r\nContent-Length: 200000\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![b'x'; 200_000]).unwrap();
        read_all(stream)
    });
    assert!(answer.starts_with("HTTP/1.1 405 "));
}

#[test]
fn a_huge_head_is_431_and_a_flood_is_cut_off() {
    let mut rig = Rig::new();
    let answer = rig.drive(|mut stream| {
        let mut request = b"GET /livez HTTP/1.1\r\nCookie: ".to_vec();
        request.resize(512 * 1024, b'x');
        stream.write_all(&request).unwrap();
        read_all(stream)
    });
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");

    let error = rig.drive(|mut stream| {
        let flood = vec![b'x'; 64 * 1024];
        loop {
            if let Err(error) = stream.write_all(&flood) {
                return error.kind();
            }
        }
    });
    assert!(
        matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        "{error}"
    );
    rig.until(|server| open(server) == 0);
}

#[test]
fn silent_clients_push_out_each_other_and_never_a_probe() {
    let mut rig = Rig::new();
    let mut silent: Vec<TcpStream> = (0..80).map(|_| rig.connect()).collect();
    rig.until(|server| server.accepted == 80);
    assert_eq!(open(&rig.server), MAX_CONNECTIONS);
    for pushed_out in silent.drain(..16) {
        assert_eq!(read_all(pushed_out), "");
    }
    assert!(rig.get("/livez").starts_with("HTTP/1.1 200 "));

    // The younger ones are still heard.
    let mut youngest = silent.pop().unwrap();
    youngest.write_all(b"GET /livez HTTP/1.1\r\n\r\n").unwrap();
    let answer = rig.drive(|_| read_all(youngest));
    assert!(answer.starts_with("HTTP/1.1 200 "));
}

#[test]
fn clients_that_have_their_answer_make_room_too() {
    let mut rig = Rig::new();
    let mut lingering = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut client = rig.connect();
        client.write_all(b"GET /livez HTTP/1.1\r\n\r\n").unwrap();
        lingering.push(client);
    }
    rig.until(|server| server.accepted == MAX_CONNECTIONS as u64);
    rig.until(|server| server.conns.iter().flatten().all(Conn::has_asked));
    assert_eq!(open(&rig.server), MAX_CONNECTIONS);
    assert!(rig.get("/readyz").starts_with("HTTP/1.1 200 "));
    for client in lingering {
        assert!(read_all(client).starts_with("HTTP/1.1 200 "));
    }
}

#[test]
fn a_client_has_five_seconds_whatever_it_does() {
    let mut rig = Rig::new();
    let silent = rig.connect();
    let mut half = rig.connect();
    half.write_all(b"GET /livez HT").unwrap();
    let mut lingering = rig.connect();
    lingering.write_all(b"GET /livez HTTP/1.1\r\n\r\n").unwrap();
    rig.until(|server| server.accepted == 3);
    rig.until(|server| server.conns.iter().flatten().any(Conn::has_asked));
    assert_eq!(rig.server.next_deadline(), Some(rig.now + EXCHANGE));

    rig.expire_after(EXCHANGE - Duration::from_nanos(1));
    assert_eq!(open(&rig.server), 3);
    rig.expire_after(Duration::from_nanos(1));
    assert_eq!(open(&rig.server), 0);
    assert_eq!(rig.server.next_deadline(), None);
    assert_eq!(read_all(silent), "");
    assert!(read_all(lingering).ends_with("ok\n"));
}

#[test]
fn a_client_that_never_reads_holds_up_nobody() {
    let mut rig = Rig::new();
    let client = rig.connect_without_reading();
    assert!(rig.get("/livez").starts_with("HTTP/1.1 200 "));
    assert_eq!(rig.server.next_deadline(), Some(rig.now + EXCHANGE));
    rig.expire_after(EXCHANGE);
    assert!(!rig.server.conns.iter().flatten().any(Conn::is_answering));
    drop(client);
}

#[test]
fn a_long_answer_arrives_whole_at_a_client_that_reads_late() {
    let mut rig = Rig::new();
    let client = rig.connect_without_reading();
    let answer = rig.drive(|_| read_all(client));
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(body.len() > 16 << 20 && body.ends_with("}\n"));
}

#[test]
fn flush_writes_what_is_pending_and_gives_up_at_its_deadline() {
    let mut rig = Rig::new();
    let client = rig.connect_without_reading();
    let reader = std::thread::spawn(move || read_all(client));
    assert_eq!(rig.server.flush(Instant::now() + STUCK), 0);
    assert!(reader.join().unwrap().ends_with("}\n"));

    let deaf = rig.connect_without_reading();
    assert_eq!(rig.server.flush(Instant::now()), 1);
    assert_eq!(open(&rig.server), 0);
    drop(deaf);
}

#[test]
fn flush_does_not_wait_for_clients_that_owe_the_next_step() {
    let mut rig = Rig::new();
    let silent = rig.connect();
    let mut lingering = rig.connect();
    lingering.write_all(b"GET /livez HTTP/1.1\r\n\r\n").unwrap();
    rig.until(|server| server.accepted == 2);
    rig.until(|server| server.conns.iter().flatten().any(Conn::has_asked));
    assert_eq!(rig.server.flush(Instant::now() + STUCK), 0);
    assert!(read_all(lingering).ends_with("ok\n"));
    assert_eq!(read_all(silent), "");
}

#[test]
fn the_listening_socket_outlives_its_server() {
    let first = Rig::new();
    let address = first.server.local_addr();
    let kept = first.server.as_fd().try_clone_to_owned().unwrap();
    drop(first);
    let mut second =
        Rig::with(|registry| OpsServer::from_listener(kept.into(), registry, TOKENS).unwrap());
    assert_eq!(second.server.local_addr(), address);
    assert!(second.get("/livez").starts_with("HTTP/1.1 200 "));
}

#[test]
fn what_cannot_be_bound_is_an_error() {
    let rig = Rig::new();
    let registry = rig.poll.registry();
    let taken = OpsServer::bind(rig.server.local_addr(), registry, 500..510);
    assert_eq!(taken.err().unwrap().kind(), ErrorKind::AddrInUse);
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let tokenless = OpsServer::bind(any_port, registry, 500..501);
    assert_eq!(tokenless.err().unwrap().kind(), ErrorKind::InvalidInput);
}

#[test]
fn only_a_lack_of_descriptors_costs_a_client_its_place() {
    let lack = |errno: Errno| is_out_of_descriptors(&io::Error::from(errno));
    assert!(lack(Errno::MFILE) && lack(Errno::NFILE));
    assert!(!lack(Errno::NOMEM) && !lack(Errno::PERM));
}

#[test]
fn without_descriptors_accept_pauses_and_then_goes_on() {
    run_alone("ops::tests::alone_accept_pauses");
}

#[test]
#[ignore = "run by without_descriptors_accept_pauses_and_then_goes_on, in a process of its own"]
fn alone_accept_pauses() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    client.write_all(b"GET /livez HTTP/1.1\r\n\r\n").unwrap();
    let limit = use_up_descriptors();

    rig.until(|server| server.accept_again_at.is_some());
    assert_eq!(rig.server.next_deadline(), Some(rig.now + ACCEPT_PAUSE));
    assert_eq!(rig.turn(Duration::ZERO), 0, "accept must not spin");
    rig.expire_after(ACCEPT_PAUSE);
    assert_eq!(rig.turn(STUCK), 1);
    assert_eq!(rig.server.next_deadline(), Some(rig.now + ACCEPT_PAUSE));

    setrlimit(Resource::Nofile, limit).unwrap();
    rig.expire_after(ACCEPT_PAUSE);
    rig.until(|server| server.accepted == 1);
    rig.until(|server| !server.accept_failed);
    assert_eq!(rig.server.accept_again_at, None);
    assert!(read_all(client).ends_with("ok\n"));
}

#[test]
fn without_descriptors_a_silent_client_gives_its_own_to_a_probe() {
    run_alone("ops::tests::alone_silent_client_gives_way");
}

#[test]
#[ignore = "run by without_descriptors_a_silent_client_gives_its_own_to_a_probe, likewise"]
fn alone_silent_client_gives_way() {
    let mut rig = Rig::new();
    let silent = rig.connect();
    rig.until(|server| server.accepted == 1);
    let mut client = rig.connect();
    client.write_all(b"GET /livez HTTP/1.1\r\n\r\n").unwrap();
    let limit = use_up_descriptors();

    rig.until(|server| server.accepted == 2);
    setrlimit(Resource::Nofile, limit).unwrap();
    assert_eq!(read_all(silent), "");
    assert!(read_all(client).ends_with("ok\n"));
}

/// The limit on descriptors is the process's, so what lowers it needs a process of its own.
fn run_alone(test: &str) {
    let mut alone = Command::new(std::env::current_exe().unwrap());
    let output = alone.args(["--exact", "--ignored", test]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}"
    );
}

/// Lowers the limit so that no further descriptor can be had. Returns what it was.
fn use_up_descriptors() -> Rlimit {
    let limit = getrlimit(Resource::Nofile);
    let next_free = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
    let none_left = Rlimit {
        current: Some(u64::try_from(next_free).unwrap()),
        ..limit
    };
    setrlimit(Resource::Nofile, none_left).unwrap();
    limit
}
