//! The app of the worker process once more, as a plain function for the baton driver.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode, header};
use worker_api::Worker;
use worker_http::{Body, Request, Response, Surroundings, Upgraded};

use crate::app::{Counts, LARGE, Side, give_hints, give_late_hint};

pub(crate) fn serve(worker: Worker, side: Arc<Side>, counts: Arc<Counts>) {
    let own = Arc::clone(&side);
    let handler = move |request: Request| answer(request, &own, &counts);
    worker_http::serve_within(worker, handler, Around(side)).unwrap();
}

/// Says that a call hangs, where a test has set a time for that.
struct Around(Arc<Side>);

impl Surroundings for Around {
    fn hang_timeout(&self) -> Option<Duration> {
        let millis = std::env::var("TEST_HANG_MILLIS").ok()?;
        Some(Duration::from_millis(millis.parse().unwrap()))
    }

    fn hung(&self, all: bool) {
        self.0.tell(if all { "all hung" } else { "hung" });
    }
}

fn answer(request: Request, side: &Arc<Side>, counts: &Counts) -> Response {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => text("hello"),
        (&Method::GET, "/large") => text(vec![b'x'; LARGE]),
        (&Method::GET, "/hold") => {
            side.tell("holding");
            side.block();
            text("held")
        }
        (&Method::GET, "/block") => {
            side.tell("blocking");
            side.block();
            text("blocked")
        }
        (&Method::GET, "/spin") => {
            side.tell("spinning");
            side.spin();
            text("spun")
        }
        (&Method::GET, "/stream") => stream(side),
        (&Method::GET, "/hooks") => text(format!(
            "{} {}",
            counts.before.load(Ordering::Relaxed),
            counts.after.load(Ordering::Relaxed)
        )),
        (_, "/hint" | "/hints" | "/late-hint") => hinted(request, side),
        (&Method::GET, "/threads") => text(threads().to_string()),
        (&Method::GET, "/memory") => text(peak_memory().to_string()),
        (&Method::GET, "/panic") => panic!("as told"),
        (&Method::GET, "/broken") => Response::new(Body::chunks((0..3).map(|n| {
            assert!(n < 2, "as told");
            vec![b'x'; 10]
        }))),
        (&Method::GET, "/file") => {
            let file = File::open(std::env::current_exe().unwrap()).unwrap();
            Response::new(Body::file(file).unwrap())
        }
        (&Method::GET, "/file-that-is-too-short") => {
            let file = File::open(std::env::current_exe().unwrap()).unwrap();
            Response::new(Body::file_part(file, 0, u64::MAX))
        }
        (&Method::GET, "/endless") => {
            side.tell("endless");
            let side = Arc::clone(side);
            let chunks = std::iter::repeat_with(|| vec![b'x'; 1 << 16]);
            let told = Told(side);
            Response::new(Body::chunks(chunks.inspect(move |_| {
                let _ = &told;
            })))
        }
        (&Method::POST, _) => receive(request, side),
        (&Method::GET, "/upgrade") => upgrade(side, echo),
        (&Method::GET, "/listen") => upgrade(side, listen),
        _ => status(StatusCode::NOT_FOUND),
    }
}

fn hinted(request: Request, side: &Arc<Side>) -> Response {
    let hints = request.body().early_hints().cloned();
    match request.uri().path() {
        "/hints" => {
            side.tell(give_hints(hints.as_ref(), 2));
            side.block();
        }
        "/late-hint" => give_late_hint(hints.unwrap(), Arc::clone(side)),
        _ => _ = give_hints(hints.as_ref(), 1),
    }
    text(request.into_body().into_bytes(LARGE).unwrap())
}

fn receive(request: Request, side: &Arc<Side>) -> Response {
    match request.uri().path() {
        "/echo" => Response::new(Body::reader(request.into_body())),
        "/count" => {
            side.tell("counting");
            let counted = io::copy(&mut request.into_body(), &mut io::sink());
            side.tell(if counted.is_ok() { "whole" } else { "cut off" });
            text(counted.unwrap_or(0).to_string())
        }
        "/early" => {
            let side = Arc::clone(side);
            thread::spawn(move || {
                let body = request.into_body().into_bytes(LARGE);
                side.tell(&format!("got {}", body.map_or(0, |body| body.len())));
            });
            text("early")
        }
        "/refuse" => status(StatusCode::PAYLOAD_TOO_LARGE),
        _ => status(StatusCode::NOT_FOUND),
    }
}

fn text(body: impl Into<Body>) -> Response {
    Response::new(body.into())
}

fn status(status: StatusCode) -> Response {
    let mut answer = text("");
    *answer.status_mut() = status;
    answer
}

/// Says when it is dropped.
struct Told(Arc<Side>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.tell("dropped");
    }
}

/// One chunk at once, another one when released.
fn stream(side: &Arc<Side>) -> Response {
    let side = Arc::clone(side);
    let chunks = ["first,", "last"].into_iter().map(move |chunk| {
        if chunk == "last" {
            side.tell("streaming");
            side.block();
        }
        Bytes::from(chunk)
    });
    Response::new(Body::chunks(chunks))
}

fn upgrade(side: &Arc<Side>, then: fn(Upgraded, &Arc<Side>)) -> Response {
    let side = Arc::clone(side);
    let mut answer = Response::new(Body::upgrade(move |socket| {
        thread::spawn(move || then(socket, &side));
    }));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")] {
        answer.headers_mut().insert(name, value.parse().unwrap());
    }
    answer
}

/// Reads for as long as the test wants, on another thread than the one that ends it.
fn listen(socket: Upgraded, side: &Arc<Side>) {
    let (mut reader, told) = (socket.clone(), Arc::clone(side));
    thread::spawn(move || {
        let len = reader.read(&mut [0]).unwrap();
        told.tell(&format!("{len} bytes"));
    });
    side.tell("listening");
    side.block();
    socket.stop_reading();
}

fn echo(mut socket: Upgraded, side: &Arc<Side>) {
    side.tell("upgraded");
    let mut buf = [0; 64];
    while let Ok(len @ 1..) = socket.read(&mut buf) {
        socket.write_all(&buf[..len]).unwrap();
    }
    side.tell("upgrade ended");
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")))
        .filter(|name| {
            name.as_ref()
                .is_ok_and(|name| name.trim() == "gracefork-app")
        })
        .count()
}

/// In kilobytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.unwrap().split_whitespace().nth(1);
    number.unwrap().parse().unwrap()
}
