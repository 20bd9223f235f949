//! The worker process: this test binary again, run for this one "test".

use std::convert::Infallible;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use worker_api::{Hooks, RequestInfo, Worker, WorkerInfo};
use worker_http::EarlyHints;

/// Says that this process is a worker, and where its side channel is.
pub(crate) const SIDE: &str = "WORKER_HTTP_TEST_SIDE";

/// Names the driver.
pub(crate) const DRIVER: &str = "WORKER_HTTP_TEST_DRIVER";

/// More than the kernel buffers between two sockets.
pub(crate) const LARGE: usize = 32 << 20;

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// What the test's master does with the app: a byte on the side channel releases one request
/// that is held; the app tells on it what it saw.
pub(crate) struct Side {
    stream: UnixStream,
    released: Semaphore,
    blocked: (Mutex<u64>, Condvar),
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) before: AtomicU64,
    pub(crate) after: AtomicU64,
}

struct CountingHooks(Arc<Counts>);

impl Hooks for CountingHooks {
    fn pre_request(&self, _worker: &WorkerInfo, request: &RequestInfo<'_>) {
        assert!(!request.target.is_empty());
        self.0.before.fetch_add(1, Ordering::Relaxed);
    }

    fn post_request(&self, _worker: &WorkerInfo, _request: &RequestInfo<'_>, status: u16) {
        assert!(status >= 100);
        self.0.after.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
#[ignore = "it is the worker of the other tests"]
fn the_worker_process() {
    let path = std::env::var(SIDE).unwrap();
    let counts = Arc::new(Counts::default());
    let worker = Worker::builder()
        .hooks(CountingHooks(Arc::clone(&counts)))
        .init()
        .unwrap();
    let side = Arc::new(Side {
        stream: UnixStream::connect(path).unwrap(),
        released: Semaphore::new(0),
        blocked: Default::default(),
    });
    let heard = Arc::clone(&side);
    std::thread::spawn(move || heard.hear());
    match std::env::var(DRIVER).unwrap().as_str() {
        "baton" => return crate::blocking_app::serve(worker, side, counts),
        "hosted" => return crate::looped_app::serve(worker, side, counts),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let service = service_fn(move |request| answer(request, side.clone(), counts.clone()));
        worker_http::tokio::serve_hyper(worker, service)
            .await
            .unwrap();
    });
}

impl Side {
    fn hear(&self) {
        let mut stream = &self.stream;
        while stream.read_exact(&mut [0]).is_ok() {
            self.released.add_permits(1);
            *self.blocked.0.lock().unwrap() += 1;
            self.blocked.1.notify_all();
        }
    }

    pub(crate) fn tell(&self, line: &str) {
        (&self.stream)
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }

    pub(crate) async fn hold(&self) {
        self.released.acquire().await.unwrap().forget();
    }

    /// Burns the thread's time.
    pub(crate) fn spin(&self) {
        while *self.blocked.0.lock().unwrap() == 0 {
            std::hint::spin_loop();
        }
        self.block();
    }

    /// Holds the thread.
    pub(crate) fn block(&self) {
        let mut released = self.blocked.0.lock().unwrap();
        while *released == 0 {
            released = self.blocked.1.wait(released).unwrap();
        }
        *released -= 1;
    }
}

async fn answer(
    request: Request<Incoming>,
    side: Arc<Side>,
    counts: Arc<Counts>,
) -> Result<Answer, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => text("hello"),
        (&Method::GET, "/large") => text(vec![b'x'; LARGE]),
        (&Method::GET, "/hold") => {
            side.tell("holding");
            side.hold().await;
            text("held")
        }
        (&Method::GET, "/block") => {
            side.tell("blocking");
            side.block();
            text("blocked")
        }
        (&Method::GET, "/stream") => stream(side),
        (_, "/hint" | "/hints" | "/late-hint") => hinted(request, side).await,
        (&Method::GET, "/client") => {
            let client = request.extensions().get::<worker_http::Client>().unwrap();
            let (peer, address) = (client.peer.is_some(), client.address);
            text(format!("{peer} {address:?} {}", client.https))
        }
        (&Method::GET, "/hooks") => {
            let (before, after) = (&counts.before, &counts.after);
            text(format!(
                "{} {}",
                before.load(Ordering::Relaxed),
                after.load(Ordering::Relaxed)
            ))
        }
        (&Method::POST, "/echo") => match request.into_body().collect().await {
            Ok(body) => text(body.to_bytes()),
            Err(_) => status(StatusCode::BAD_REQUEST),
        },
        (&Method::POST, "/early") => {
            tokio::spawn(async move {
                let len = request
                    .into_body()
                    .collect()
                    .await
                    .map(|body| body.to_bytes().len());
                side.tell(&format!("got {}", len.unwrap_or(0)));
            });
            text("early")
        }
        (&Method::POST, "/refuse") => status(StatusCode::PAYLOAD_TOO_LARGE),
        (&Method::GET, "/upgrade") => {
            tokio::spawn(echo_upgraded(request, side));
            let mut answer = status(StatusCode::SWITCHING_PROTOCOLS);
            for (name, value) in [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")] {
                answer.headers_mut().insert(name, value.parse().unwrap());
            }
            answer
        }
        _ => status(StatusCode::NOT_FOUND),
    })
}

async fn hinted(request: Request<Incoming>, side: Arc<Side>) -> Answer {
    let hints = request.extensions().get::<EarlyHints>().cloned();
    match request.uri().path() {
        "/hints" => {
            side.tell(give_hints(hints.as_ref(), 2));
            side.hold().await;
        }
        "/late-hint" => give_late_hint(hints.unwrap(), side),
        _ => _ = give_hints(hints.as_ref(), 1),
    }
    text(request.into_body().collect().await.unwrap().to_bytes())
}

/// Gives so many hints, if there may be any.
pub(crate) fn give_hints(hints: Option<&EarlyHints>, count: usize) -> &'static str {
    let Some(hints) = hints else {
        return "no hints";
    };
    for number in 0..count {
        let link = HeaderValue::from_str(&format!("</{number}.css>")).unwrap();
        let fields = HeaderMap::from_iter([(header::LINK, link)]);
        hints.send(&fields).unwrap();
    }
    "hinted"
}

/// Gives a hint when the request is over.
pub(crate) fn give_late_hint(hints: EarlyHints, side: Arc<Side>) {
    std::thread::spawn(move || {
        side.block();
        side.tell(give_hints(Some(&hints), 1));
    });
}

fn text(body: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(body.into()).boxed())
}

fn status(status: StatusCode) -> Answer {
    let mut answer = text("");
    *answer.status_mut() = status;
    answer
}

/// One chunk at once, another one when released.
fn stream(side: Arc<Side>) -> Answer {
    let (sender, body) = http_body_util::channel::Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        let mut sender = sender;
        let _ = sender.send(Frame::data("first,".into())).await;
        side.tell("streaming");
        side.hold().await;
        let _ = sender.send(Frame::data("last".into())).await;
    });
    Response::new(body.boxed())
}

async fn echo_upgraded(request: Request<Incoming>, side: Arc<Side>) {
    let upgraded = hyper::upgrade::on(request).await.unwrap();
    let mut socket = hyper_util::rt::TokioIo::new(upgraded);
    side.tell("upgraded");
    let mut buf = [0; 64];
    while let Ok(len @ 1..) = socket.read(&mut buf).await {
        socket.write_all(&buf[..len]).await.unwrap();
    }
    side.tell("upgrade ended");
}
