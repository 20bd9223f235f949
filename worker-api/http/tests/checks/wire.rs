//! A connection over a socket that is not one, without a runtime and without time.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer, Write};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, Version};
use worker_api::Worker;
use worker_http::conn::Connection;
use worker_http::{Client, RawTarget, Setup};

/// The worker of this process; it has the settings that the environment gives.
fn setup() -> &'static Arc<Setup> {
    static SETUP: OnceLock<Arc<Setup>> = OnceLock::new();
    SETUP.get_or_init(|| {
        let worker = Worker::builder().standalone_bind("127.0.0.1:0");
        Setup::new(&worker.init().unwrap())
    })
}

/// A request as the app saw it, to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: [u64; 2],
    /// Names in upper case, sorted; values of one name in their order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) trailers: Vec<(String, String)>,
}

/// What came of a stream of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Requests that the app got to the end of.
    pub(crate) seen: Vec<Seen>,
    pub(crate) clients: Vec<String>,
    /// Requests whose body failed.
    pub(crate) broken: usize,
    /// What was answered.
    pub(crate) answers: String,
    /// Whether the server said good-bye before the peer did.
    pub(crate) hung_up: bool,
    /// Whether it was closed in the end.
    pub(crate) closed: bool,
}

impl Outcome {
    /// The statuses of the answers, in their order.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let lines = self.answers.lines();
        let heads = lines.filter_map(|line| line.split_once("HTTP/1."));
        heads.map(|(_, line)| line[2..5].parse().unwrap()).collect()
    }
}

/// Sends the pieces, one at a time, and then the end of the stream.
pub(crate) fn send<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    send_and_wait(pieces, Duration::ZERO)
}

/// Sends the pieces, one at a time, and waits so long before the end of the stream.
pub(crate) fn send_and_wait<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    pause: Duration,
) -> Outcome {
    let clock = Clock::default();
    let wire = Arc::new(Mutex::new(Wire::default()));
    let log = Arc::new(Mutex::new(Outcome::default()));
    let (fd, _other) = UnixStream::pair().unwrap();
    let socket = Socket {
        fd,
        wire: Arc::clone(&wire),
    };
    let recorder = Arc::clone(&log);
    let app = service_fn(move |request| record(request, Arc::clone(&recorder)));
    let mut connection = pin!(Connection::new(setup(), clock.clone(), socket, app));
    let woken = Arc::new(Woken::default());
    let mut run = |wire: &Mutex<Wire>| {
        woken.0.store(true, Ordering::Relaxed);
        while woken.0.swap(false, Ordering::Relaxed) {
            let waker = Waker::from(Arc::clone(&woken));
            if connection
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
            {
                wire.lock().unwrap().gone = true;
                break;
            }
        }
        wire.lock().unwrap().gone
    };
    for piece in pieces {
        wire.lock().unwrap().incoming.push_back(piece.to_vec());
        if run(&wire) {
            break;
        }
    }
    *clock.0.lock().unwrap() += pause;
    run(&wire);
    let hung_up = wire.lock().unwrap().half_closed;
    wire.lock().unwrap().ended = true;
    let closed = run(&wire);
    let mut outcome = log.lock().unwrap().clone();
    outcome.hung_up = hung_up;
    outcome.closed = closed;
    outcome.answers = latin1(&wire.lock().unwrap().outgoing);
    outcome
}

async fn record(
    request: Request<Incoming>,
    log: Arc<Mutex<Outcome>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let target = match head.extensions.get::<RawTarget>() {
        Some(target) => latin1(&target.0),
        None => head.uri.to_string(),
    };
    let client = head.extensions.get::<Client>().unwrap();
    let client = format!("{:?} {}", client.peer, client.https);
    let body = match body.collect().await {
        Ok(body) => body,
        Err(_) => {
            log.lock().unwrap().broken += 1;
            return Ok(Response::new("broken".into()));
        }
    };
    let trailers = body.trailers().map(listed).unwrap_or_default();
    let mut log = log.lock().unwrap();
    log.clients.push(client);
    log.seen.push(Seen {
        method: head.method.to_string(),
        target,
        version: [1, u64::from(head.version == Version::HTTP_11)],
        headers: listed(&head.headers),
        body: latin1(&body.to_bytes()),
        trailers,
    });
    Ok(Response::new("seen".into()))
}

fn listed(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut listed: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_uppercase(), latin1(value.as_bytes())))
        .collect();
    listed.sort_by(|one, other| one.0.cmp(&other.0));
    listed
}

pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

#[derive(Default)]
struct Wire {
    incoming: VecDeque<Vec<u8>>,
    ended: bool,
    outgoing: Vec<u8>,
    half_closed: bool,
    gone: bool,
}

struct Socket {
    fd: UnixStream,
    wire: Arc<Mutex<Wire>>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl worker_http::Socket for Socket {
    fn poll_recv(&mut self, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.wire.lock().unwrap();
        let Some(piece) = wire.incoming.front_mut() else {
            return if wire.ended {
                Poll::Ready(Ok(0))
            } else {
                Poll::Pending
            };
        };
        let len = piece.len().min(buf.len());
        buf[..len].copy_from_slice(&piece[..len]);
        piece.drain(..len);
        if piece.is_empty() {
            wire.incoming.pop_front();
        }
        Poll::Ready(Ok(len))
    }
}

impl Write for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.wire.lock().unwrap().outgoing.extend(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.lock().unwrap().half_closed = true;
        Poll::Ready(Ok(()))
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A clock that the test moves on.
#[derive(Clone)]
struct Clock(Arc<Mutex<Instant>>);

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Timer for Clock {
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + time)
    }

    fn sleep_until(&self, until: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Alarm(self.clone(), until))
    }

    fn now(&self) -> Instant {
        *self.0.lock().unwrap()
    }
}

struct Alarm(Clock, Instant);

impl Future for Alarm {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match self.0.now() >= self.1 {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Sleep for Alarm {}
