//! What others wait for while the only thread of the app is busy.

use std::thread;
use std::time::{Duration, Instant};

use crate::cores::{self, Cores};
use crate::harness::{Builder, Conn, Server, eventually};
use crate::table::{Row, Section, Unit};

const PROBES: usize = 200;
/// All probes fit into one call.
const APART: Duration = Duration::from_millis(20);
const CALL: &str = "6";

/// What is called.
#[derive(Clone, Copy)]
enum Call {
    Sleeps,
    Spins,
}

pub(crate) fn measure() -> Section {
    let mut rows = Vec::new();
    for (call, words) in [(Call::Sleeps, "sleeps"), (Call::Spins, "spins")] {
        let server = Builder::hello()
            .workers(1)
            .set("workers.threads", 1)
            .start();
        let (kept, new) = probe(&server, call);
        let row = |what: &str, times| {
            let figure = format!("while a call {words}: health on {what}");
            Row::new(figure, Unit::Milliseconds, times).at_most(5.0)
        };
        rows.extend([row("a kept connection", kept), row("a new connection", new)]);
    }
    let server = Builder::hello()
        .workers(1)
        .set("workers.threads", 1)
        .start();
    cores::pin(server.worker_pids()[0], Cores::pick().server);
    let (kept, _) = probe(&server, Call::Spins);
    let figure = "the same, all of the worker on one core";
    rows.push(Row::new(figure, Unit::Milliseconds, kept).at_most(5.0));
    Section {
        title: "The built-in health path while the only app thread is busy (hello, threads = 1)"
            .to_owned(),
        how: vec![
            format!(
                "{PROBES} probes of each kind, one every {} ms, within one call of {CALL} s: from the write, or the connect,",
                APART.as_millis()
            ),
            "to the last byte of the answer.".to_owned(),
        ],
        rows,
    }
}

/// Milliseconds on a connection that was there before, and on a new one each.
fn probe(server: &Server, call: Call) -> (Vec<f64>, Vec<f64>) {
    let mut kept = server.connect();
    kept.get("/health").unwrap();
    let mut busy = server.connect();
    let path = match call {
        Call::Sleeps => format!("/slow/{CALL}"),
        Call::Spins => format!("/spin/{CALL}"),
    };
    busy.send_get(&path).unwrap();
    eventually("the call to run", || {
        server.status().workers[0].in_flight == 1
    });
    let (mut on_kept, mut on_new) = (Vec::new(), Vec::new());
    for _ in 0..PROBES {
        thread::sleep(APART);
        on_kept.push(answered(|| kept.get("/health").unwrap().status));
        on_new.push(answered(|| {
            Conn::open(&server.target)
                .unwrap()
                .get("/health")
                .unwrap()
                .status
        }));
    }
    assert_eq!(server.status().workers[0].in_flight, 1, "the call is over");
    assert_eq!(busy.read_response().unwrap().status, 200);
    (on_kept, on_new)
}

fn answered(ask: impl FnOnce() -> u16) -> f64 {
    let begun = Instant::now();
    assert_eq!(ask(), 200);
    begun.elapsed().as_secs_f64() * 1000.0
}
