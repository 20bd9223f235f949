//! The app of the worker process once more, as futures on a tiny loop that hosts the baton driver.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode, header};
use rustix::event::{PollFd, PollFlags};
use worker_api::{Stage, Worker};
use worker_http::hosted::{self, Answer, Driver, Inquiry, LoopHandler, Reply, RequestBody, Start};

use crate::app::{Counts, LARGE, Side, give_hints, give_late_hint};

struct Loop {
    side: Arc<Side>,
    counts: Arc<Counts>,
    driver: OnceLock<Driver<Handler>>,
    is_over: AtomicBool,
    stage: AtomicU8,
    turns: AtomicU64,
    /// How often the loop was told to be stalled.
    stalls: AtomicU64,
}

/// The handler, as the driver has it.
struct Handler(Arc<Loop>);

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) fn serve(worker: Worker, side: Arc<Side>, counts: Arc<Counts>) {
    let this = Arc::new(Loop {
        side,
        counts,
        driver: OnceLock::new(),
        is_over: AtomicBool::new(false),
        stage: AtomicU8::new(0),
        turns: AtomicU64::new(0),
        stalls: AtomicU64::new(0),
    });
    let driver = hosted::start(
        worker,
        Handler(Arc::clone(&this)),
        Some(Duration::from_secs(1)),
    )
    .unwrap();
    let _ = this.driver.set(driver);
    let driver = this.driver.get().unwrap();
    while !this.is_over.load(Ordering::Relaxed) {
        let mut fds = [
            PollFd::from_borrowed_fd(driver.kernel(), PollFlags::IN),
            PollFd::from_borrowed_fd(driver.bell(), PollFlags::IN),
        ];
        rustix::event::poll(&mut fds, None).unwrap();
        this.turns.fetch_add(1, Ordering::Relaxed);
        if fds[0].revents().contains(PollFlags::IN) {
            driver.turn();
        }
        if fds[1].revents().contains(PollFlags::IN) {
            driver.answer_bell();
        }
    }
    driver.drained();
}

impl LoopHandler for Handler {
    fn call(&self, inquiry: Inquiry, _start: Start) {
        let this = Arc::clone(&self.0);
        spawn(&self.0, async move { this.answer(inquiry).await });
    }

    fn stage_changed(&self, stage: Stage) {
        assert!(self.0.stage.swap(stage as u8, Ordering::Relaxed) < stage as u8);
    }

    fn stalled(&self, _since: Duration) {
        self.0.stalls.fetch_add(1, Ordering::Relaxed);
        self.0.side.tell("stalled");
    }

    fn over(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// Runs a future on the loop, beginning at once.
fn spawn(this: &Arc<Loop>, future: impl Future<Output = ()> + Send + 'static) {
    let task = Arc::new(Mutex::new(Some(Box::pin(future) as BoxFuture)));
    poll(this, &task);
}

fn poll(this: &Arc<Loop>, task: &Arc<Mutex<Option<BoxFuture>>>) {
    let driver = this.driver.get().unwrap();
    let (again, of_it) = (Arc::clone(this), Arc::clone(task));
    let waker = driver.waker(move || poll(&again, &of_it));
    let mut future = task.lock().unwrap();
    if let Some(running) = &mut *future {
        let mut cx = Context::from_waker(&waker);
        if driver.with_connections_soon(|| running.as_mut().poll(&mut cx).is_ready()) {
            *future = None;
        }
    }
}

impl Loop {
    async fn answer(&self, inquiry: Inquiry) {
        let Inquiry {
            head,
            client,
            reply,
            ..
        } = &inquiry;
        let side = &self.side;
        if head.uri.path().contains("hint") {
            return self.hint(inquiry).await;
        }
        if head.method == Method::POST {
            return self.receive(inquiry).await;
        }
        match head.uri.path() {
            "/" => text(reply, "hello"),
            "/large" => text(reply, vec![b'x'; LARGE]),
            "/hold" => {
                side.tell("holding");
                side.hold().await;
                text(reply, "held");
            }
            "/block" => {
                side.tell("blocking");
                side.block();
                text(reply, "blocked");
            }
            "/spin" => {
                side.tell("spinning");
                side.spin();
                text(reply, "spun");
            }
            "/client" => {
                let (peer, address) = (client.peer.is_some(), client.address);
                text(reply, format!("{peer} {address:?} {}", client.https));
            }
            "/hooks" => {
                let (before, after) = (&self.counts.before, &self.counts.after);
                let [before, after] = [before, after].map(|count| count.load(Ordering::Relaxed));
                text(reply, format!("{before} {after}"));
            }
            "/turns" => text(reply, self.turns.load(Ordering::Relaxed).to_string()),
            "/stalls" => text(reply, self.stalls.load(Ordering::Relaxed).to_string()),
            "/upgrade" => self.upgrade(inquiry).await,
            _ => self.answer_in_parts(reply, head.uri.path()).await,
        }
    }

    async fn answer_in_parts(&self, reply: &Reply, path: &str) {
        let side = &self.side;
        match path {
            "/stream" => {
                let (stream, answer) = Answer::stream(None);
                send(reply, StatusCode::OK, &[], answer);
                stream.push("first,".into()).unwrap();
                side.tell("streaming");
                side.hold().await;
                let _ = stream.push("last".into());
                stream.finish(None);
            }
            "/endless" => self.send_endlessly(reply).await,
            "/file" => {
                let file = File::open(std::env::current_exe().unwrap()).unwrap();
                let len = file.metadata().unwrap().len();
                send(reply, StatusCode::OK, &[], Answer::file(file, 0, len));
            }
            "/gone" => {
                side.tell("waiting");
                poll_fn(|cx| reply.poll_over(cx)).await;
                side.tell("gone");
            }
            "/after" => {
                text(reply, "before");
                side.tell("answered");
                side.hold().await;
                side.tell("after");
            }
            _ => status(reply, StatusCode::NOT_FOUND),
        }
    }

    async fn hint(&self, inquiry: Inquiry) {
        let Inquiry {
            head,
            mut body,
            reply,
            ..
        } = inquiry;
        let hints = reply.early_hints();
        match head.uri.path() {
            "/hints" => {
                self.side.tell(give_hints(hints, 2));
                self.side.hold().await;
            }
            "/late-hint" => give_late_hint(hints.unwrap().clone(), Arc::clone(&self.side)),
            _ => _ = give_hints(hints, 1),
        }
        text(&reply, collect(&mut body).await.unwrap());
    }

    async fn receive(&self, inquiry: Inquiry) {
        let Inquiry {
            head,
            mut body,
            reply,
            ..
        } = inquiry;
        match head.uri.path() {
            "/echo" => match collect(&mut body).await {
                Ok(body) => text(&reply, body),
                Err(error) => self.side.tell(&error.to_string()),
            },
            "/through" => through(&mut body, &reply).await,
            "/early" => {
                text(&reply, "early");
                let got = collect(&mut body).await.map_or(0, |body| body.len());
                self.side.tell(&format!("got {got}"));
            }
            "/refuse" => status(&reply, StatusCode::PAYLOAD_TOO_LARGE),
            _ => status(&reply, StatusCode::NOT_FOUND),
        }
    }

    async fn upgrade(&self, inquiry: Inquiry) {
        let Inquiry {
            reply,
            mut switching,
            ..
        } = inquiry;
        let fields = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")];
        let answer = Answer::bytes(Bytes::new());
        send(&reply, StatusCode::SWITCHING_PROTOCOLS, &fields, answer);
        let mut socket = poll_fn(|cx| switching.poll(cx)).await.unwrap();
        drop(reply);
        self.side.tell("upgraded");
        let mut buf = [0; 64];
        while let Ok(len @ 1..) = poll_fn(|cx| socket.poll_read(cx, &mut buf)).await {
            let mut out = &buf[..len];
            while !out.is_empty() {
                let sent = poll_fn(|cx| socket.poll_write(cx, out)).await.unwrap();
                out = &out[sent..];
            }
        }
        self.side.tell("upgrade ended");
    }

    async fn send_endlessly(&self, reply: &Reply) {
        let (stream, answer) = Answer::stream(None);
        send(reply, StatusCode::OK, &[], answer);
        self.side.tell("endless");
        while stream.push(vec![b'x'; 1 << 16].into()).is_ok() {
            if poll_fn(|cx| stream.poll_room(cx)).await.is_err() {
                break;
            }
        }
        self.side.tell("dropped");
    }
}

/// Sends back what comes, as it comes.
async fn through(body: &mut RequestBody, reply: &Reply) {
    let (stream, answer) = Answer::stream(None);
    send(reply, StatusCode::OK, &[], answer);
    while let Ok(Some(chunk)) = poll_fn(|cx| body.poll_chunk(cx)).await {
        if stream.push(chunk).is_err() || poll_fn(|cx| stream.poll_room(cx)).await.is_err() {
            return;
        }
    }
    stream.finish(None);
}

async fn collect(body: &mut RequestBody) -> io::Result<Bytes> {
    let mut all = Vec::new();
    while let Some(chunk) = poll_fn(|cx| body.poll_chunk(cx)).await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all.into())
}

fn text(reply: &Reply, body: impl Into<Bytes>) {
    send(reply, StatusCode::OK, &[], Answer::bytes(body.into()));
}

fn status(reply: &Reply, status: StatusCode) {
    send(reply, status, &[], Answer::bytes(Bytes::new()));
}

fn send(reply: &Reply, status: StatusCode, fields: &[(header::HeaderName, &str)], answer: Answer) {
    let (mut head, ()) = http::Response::new(()).into_parts();
    head.status = status;
    for (name, value) in fields {
        head.headers.insert(name, value.parse().unwrap());
    }
    reply.send(head, answer);
}
