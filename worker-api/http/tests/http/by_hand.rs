//! The connection without any runtime: the test polls it, keeps its clock, and decides when its
//! socket notices what has come. So moments can be met that a runtime meets once in a million.

use std::convert::Infallible;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer, Write};
use hyper::service::service_fn;
use hyper::{Request, Response};
use rustix::process::Signal;
use worker_api::{Stage, Worker};
use worker_http::conn::Connection;
use worker_http::{App, Setup};

use crate::client::{Client, PATIENCE};

mod hints;

const INSIDE: &str = "WORKER_HTTP_TEST_BY_HAND";

/// Runs a scenario with a worker of its own: a process can have only one.
fn scenario(name: &str, scenario: impl FnOnce(&Worker)) {
    if std::env::var(INSIDE).is_ok() {
        let worker = Worker::builder()
            .standalone_bind("127.0.0.1:0")
            .init()
            .unwrap();
        return scenario(&worker);
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("by_hand::{name}"), "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn drain(worker: &Worker) {
    rustix::process::kill_process(rustix::process::getpid(), Signal::TERM).unwrap();
    assert!(worker.drain().wait_timeout(Stage::Draining, PATIENCE));
}

type Body = Arc<Mutex<Option<Incoming>>>;
type Hook = Box<dyn FnMut() + Send>;

/// The server's end of a connection.
#[derive(Default)]
struct Wire {
    /// Whether the socket notices bytes; a runtime may not have polled since they came.
    notices: bool,
    /// How many bytes more the kernel takes; `None` is any number.
    room: Option<usize>,
    /// Runs when a read finds nothing.
    on_empty: Option<Hook>,
}

struct Socket {
    stream: UnixStream,
    wire: Arc<Mutex<Wire>>,
}

#[derive(Clone)]
struct Clock(Arc<Mutex<Instant>>);

struct Alarm(Clock, Instant);

/// A connection and all that a test turns on it.
struct Bench {
    connection: Pin<Box<dyn Future<Output = ()>>>,
    wire: Arc<Mutex<Wire>>,
    clock: Clock,
    /// The request bodies that the app has not read.
    bodies: Body,
    client: Client<UnixStream>,
}

impl Bench {
    /// The app answers `path` at once, and keeps the request's body without reading it.
    fn new(worker: &Worker) -> Self {
        let bodies = Body::default();
        let kept = Arc::clone(&bodies);
        let app = service_fn(move |request: Request<Incoming>| {
            let path = request.uri().path().to_owned();
            *kept.lock().unwrap() = Some(request.into_body());
            async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(path)))) }
        });
        Self {
            bodies,
            ..Self::serving(worker, app)
        }
    }

    fn serving(worker: &Worker, app: impl App + 'static) -> Self {
        let (stream, client) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let wire = Arc::new(Mutex::new(Wire {
            notices: true,
            room: None,
            on_empty: None,
        }));
        let clock = Clock(Arc::new(Mutex::new(Instant::now())));
        let socket = Socket {
            stream,
            wire: Arc::clone(&wire),
        };
        let connection = Connection::new(&Setup::new(worker), clock.clone(), socket, app);
        let client = Client::new(client);
        Self {
            connection: Box::pin(connection),
            wire,
            clock,
            bodies: Body::default(),
            client,
        }
    }

    fn poll(&mut self) -> Poll<()> {
        // A runtime polls once more for whatever woke the task in the meantime.
        for _ in 0..4 {
            if self.poll_once().is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    fn poll_once(&mut self) -> Poll<()> {
        self.connection
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    }

    fn pass(&self, time: Duration) {
        *self.clock.0.lock().unwrap() += time;
    }

    fn notices(&self, notices: bool) {
        self.wire.lock().unwrap().notices = notices;
    }

    fn get(&mut self, path: &str) {
        self.client.ask(path);
        assert!(self.poll().is_pending());
        assert_eq!(self.client.reply().text(), path);
    }
}

#[test]
fn bytes_that_the_runtime_has_not_noticed_are_seen_before_an_idle_connection_is_closed() {
    scenario(
        "bytes_that_the_runtime_has_not_noticed_are_seen_before_an_idle_connection_is_closed",
        |worker| {
            let mut fresh = Bench::new(worker);
            let mut idle = Bench::new(worker);
            idle.get("/1");
            for bench in [&mut fresh, &mut idle] {
                bench.client.ask("/late");
                bench.notices(false);
                bench.pass(worker.settings().keep_alive);
                assert!(bench.poll().is_pending());
                bench.notices(true);
                assert!(bench.poll().is_pending());
                assert!(!bench.client.reply().is_last());
            }
            idle.client.ask("/later");
            idle.notices(false);
            drain(worker);
            assert!(idle.poll().is_pending());
            idle.notices(true);
            assert!(idle.poll().is_pending());
            let reply = idle.client.reply();
            assert!(reply.text() == "/later" && reply.is_last());
            idle.client.expect_end();
        },
    );
}

/// hyper then ends as if the protocol had been switched, and keeps its parts.
#[test]
fn an_upgrade_that_was_offered_in_vain_changes_nothing_for_what_follows() {
    scenario(
        "an_upgrade_that_was_offered_in_vain_changes_nothing_for_what_follows",
        |worker| {
            let offered = || {
                let mut bench = Bench::new(worker);
                let fields = "host: test\r\nconnection: upgrade\r\nupgrade: h2c";
                bench
                    .client
                    .send(format!("GET /1 HTTP/1.1\r\n{fields}\r\n\r\n"));
                assert!(bench.poll().is_pending());
                assert_eq!(bench.client.reply().text(), "/1");
                bench
            };
            let mut slow = offered();
            slow.client.send("GET");
            assert!(slow.poll().is_pending());
            slow.pass(worker.settings().header_timeout);
            assert!(slow.poll().is_pending());
            assert_eq!(slow.client.reply().status, 408);
            slow.client.expect_end();

            let mut blank = offered();
            blank.client.send("\r\n");
            assert!(blank.poll().is_pending());
            blank.pass(worker.settings().header_timeout);
            assert!(blank.poll().is_pending());
            blank.get("/after");

            let mut late = offered();
            late.client.ask("/late");
            late.notices(false);
            drain(worker);
            assert!(late.poll().is_pending());
            late.notices(true);
            assert!(late.poll().is_pending());
            let reply = late.client.reply();
            assert!(reply.text() == "/late" && reply.is_last());
            late.client.expect_end();
        },
    );
}

#[test]
fn an_idle_connection_is_half_closed_in_the_pass_that_found_nothing() {
    scenario(
        "an_idle_connection_is_half_closed_in_the_pass_that_found_nothing",
        |worker| {
            let mut bench = Bench::new(worker);
            bench.get("/1");
            drain(worker);
            assert!(bench.poll_once().is_pending());
            bench.client.expect_end();
            bench.pass(Duration::from_millis(100));
            assert!(bench.poll_once().is_ready());
        },
    );
}

#[test]
fn a_connection_from_the_queue_may_speak_a_little_late_in_a_drain() {
    scenario(
        "a_connection_from_the_queue_may_speak_a_little_late_in_a_drain",
        |worker| {
            drain(worker);
            let mut late = Bench::new(worker);
            assert!(late.poll().is_pending());
            late.pass(Duration::from_millis(74));
            assert!(late.poll().is_pending());
            late.client.ask("/late");
            assert!(late.poll().is_pending());
            assert!(late.client.reply().is_last());
            let mut silent = Bench::new(worker);
            silent.pass(Duration::from_millis(75));
            assert!(silent.poll().is_pending());
            silent.client.expect_end();
        },
    );
}

/// The rest of a body must never be parsed as a request: whoever can arrange for that speaks with
/// another's voice behind a proxy.
#[test]
fn the_rest_of_a_body_is_never_taken_for_a_request() {
    scenario(
        "the_rest_of_a_body_is_never_taken_for_a_request",
        |worker| {
            for read in 1..8 {
                drop_a_body_in_read(worker, read);
            }
        },
    );
}

/// The idle time is over, the rest of the body comes, and in the middle of it, in the given read
/// that finds nothing, the app (on another thread) drops the body.
fn drop_a_body_in_read(worker: &Worker, read: u32) {
    let mut bench = Bench::new(worker);
    let hidden = "GET /hidden HTTP/1.1\r\nhost: test\r\n\r\n";
    let len = hidden.len() + 3;
    bench.client.send(format!(
        "POST /early HTTP/1.1\r\nhost: test\r\ncontent-length: {len}\r\n\r\n..."
    ));
    assert!(bench.poll().is_pending());
    assert_eq!(bench.client.reply().text(), "/early");
    // The app reads on: hyper waits for more of the body now, as it waits for a request.
    let mut body = bench.bodies.lock().unwrap().take().unwrap();
    for _ in 0..4 {
        let _ = read_on(&mut body);
        assert!(bench.poll().is_pending());
    }
    assert!(read_on(&mut body).is_pending());
    bench.client.send(hidden);
    bench.notices(false);
    let (mut reads, mut body) = (0, Some(body));
    bench.wire.lock().unwrap().on_empty = Some(Box::new(move || {
        reads += 1;
        if reads == read {
            body.take();
        }
    }));
    bench.pass(worker.settings().keep_alive);
    assert!(bench.poll_once().is_pending());
    bench.notices(true);
    // However it ends, nothing is answered.
    let _ = bench.poll();
    bench.client.stream().set_nonblocking(true).unwrap();
    let answer = bench.client.bytes(1);
    assert!(answer.is_err(), "read {read}");
}

#[test]
fn an_early_answer_is_not_waited_for_once_it_is_out() {
    scenario(
        "an_early_answer_is_not_waited_for_once_it_is_out",
        |worker| {
            // The app holds the body without reading it, and answers after the client has left.
            let (kept, answers) = (Body::default(), Arc::new(AtomicBool::new(false)));
            let app = {
                let answers = Arc::clone(&answers);
                service_fn(move |request: Request<Incoming>| {
                    *kept.lock().unwrap() = Some(request.into_body());
                    let answers = Arc::clone(&answers);
                    std::future::poll_fn(move |_| match answers.load(Ordering::Relaxed) {
                        true => Poll::Ready(Ok::<_, Infallible>(Response::new(Full::default()))),
                        false => Poll::Pending,
                    })
                })
            };
            let mut bench = Bench::serving(worker, app);
            let head = "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
            bench.client.send(format!("{head}3\r\n...\r\n0\r\n\r\n"));
            assert!(bench.poll().is_pending());
            let stream = bench.client.stream();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(bench.poll().is_pending());
            answers.store(true, Ordering::Relaxed);
            assert!(bench.poll().is_pending());
            assert_eq!(bench.client.reply().status, 200);
            let wakes = Arc::new(Wakes::default());
            let waker = Waker::from(Arc::clone(&wakes));
            for _ in 0..4 {
                wakes.0.store(0, Ordering::Relaxed);
                let connection = bench.connection.as_mut();
                assert!(
                    connection
                        .poll(&mut Context::from_waker(&waker))
                        .is_pending()
                );
            }
            assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
        },
    );
}

#[test]
fn a_client_that_leaves_is_missed_whatever_it_asked_for() {
    scenario(
        "a_client_that_leaves_is_missed_whatever_it_asked_for",
        |worker| {
            for fields in [
                "",
                "connection: upgrade\r\nupgrade: h2c\r\n",
                "connection: close\r\n",
            ] {
                let never = service_fn(|_: Request<Incoming>| {
                    std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
                });
                let mut bench = Bench::serving(worker, never);
                let head = "GET / HTTP/1.1\r\nhost: test\r\n";
                bench.client.send(format!("{head}{fields}\r\n"));
                assert!(bench.poll().is_pending());
                let stream = bench.client.stream();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                assert!(bench.poll().is_pending());
                bench.pass(Duration::from_secs(5));
                assert!(bench.poll().is_ready(), "{fields:?}");
            }
        },
    );
}

#[test]
fn a_client_that_does_not_read_is_hung_up_on() {
    scenario("a_client_that_does_not_read_is_hung_up_on", |worker| {
        let limit = worker.settings().write_timeout;
        let mut bench = Bench::new(worker);
        bench.wire.lock().unwrap().room = Some(10);
        bench.client.ask("/");
        assert!(bench.poll().is_pending());
        bench.pass(limit / 2);
        // Slowly is all right.
        bench.wire.lock().unwrap().room = Some(10);
        assert!(bench.poll().is_pending());
        bench.pass(limit / 2);
        assert!(bench.poll().is_pending());
        bench.pass(limit / 2);
        assert!(bench.poll().is_ready());
        let Bench {
            connection,
            mut client,
            ..
        } = bench;
        drop(connection);
        assert_eq!(client.bytes(20).unwrap()[..12], *b"HTTP/1.1 200");
        client.expect_end();
    });
}

/// Counts.
#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn read_on(body: &mut Incoming) -> Poll<()> {
    let mut cx = Context::from_waker(Waker::noop());
    http_body::Body::poll_frame(Pin::new(body), &mut cx).map(drop)
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn polled<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl worker_http::Socket for Socket {
    fn poll_recv(&mut self, _cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.wire.lock().unwrap();
        let read = if wire.notices {
            polled((&self.stream).read(buf))
        } else {
            Poll::Pending
        };
        if let (Poll::Pending, Some(hook)) = (&read, &mut wire.on_empty) {
            hook();
        }
        read
    }
}

impl Write for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.wire.lock().unwrap();
        let len = wire.room.unwrap_or(usize::MAX).min(buf.len());
        if len == 0 && !buf.is_empty() {
            return Poll::Pending;
        }
        let polled = polled((&self.stream).write(&buf[..len]));
        if let (Some(room), Poll::Ready(Ok(len))) = (&mut wire.room, &polled) {
            *room -= len;
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(std::net::Shutdown::Write))
    }
}

impl Timer for Clock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Alarm(self.clone(), deadline))
    }

    fn now(&self) -> Instant {
        *self.0.lock().unwrap()
    }
}

impl Sleep for Alarm {}

impl Future for Alarm {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        if self.0.now() >= self.1 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
