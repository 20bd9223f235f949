//! A call that does not return: what is in flight is logged, and the master told if no other call can
//! be made.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use worker_api::Worker;
use worker_http::Surroundings;

use crate::gil;

/// What surrounds the calls of the app: Python's lock, and somebody who looks at the clock.
pub(super) struct Around {
    worker: Worker,
    hang_timeout: Option<Duration>,
}

impl Around {
    pub(super) fn new(worker: &Worker, hang_timeout: Option<Duration>) -> Self {
        Self {
            worker: worker.clone(),
            hang_timeout,
        }
    }
}

impl Surroundings for Around {
    fn live(&self, life: &mut (dyn FnMut() + Send)) {
        gil::live(life);
    }

    fn rest(&self) {
        gil::rest();
    }

    fn hang_timeout(&self) -> Option<Duration> {
        self.hang_timeout
    }

    /// The call may have Python's lock: nothing here needs it. What the app's threads do is written
    /// by Python's own `faulthandler`, once the master sends SIGABRT.
    fn hung(&self, all: bool) {
        let what = "a call of the app does not return";
        if all {
            return report(&self.worker, what);
        }
        let in_flight = in_flight(&self.worker);
        tracing::warn!(
            slot = self.worker.slot(),
            in_flight,
            "{what}; others are made"
        );
        self.watch_lock();
    }
}

impl Around {
    /// A call that keeps Python's lock lets no other one go on: it is no matter of one call then.
    fn watch_lock(&self) {
        let (worker, patience) = (self.worker.clone(), self.hang_timeout.unwrap_or_default());
        let (taken, is_taken) = mpsc::channel();
        let take = move || {
            Python::attach(|_| ());
            let _ = taken.send(());
        };
        let watch = move || {
            let waits = thread::Builder::new().spawn(take).is_ok();
            if waits && is_taken.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                report(&worker, "a call of the app keeps Python's lock");
            }
        };
        if let Err(error) = thread::Builder::new().spawn(watch) {
            tracing::error!(%error, "cannot see whether others can have Python's lock");
        }
    }
}

/// Says what is in flight and has this worker replaced.
pub(crate) fn report(worker: &Worker, what: &str) {
    let in_flight = in_flight(worker);
    tracing::error!(slot = worker.slot(), in_flight, "hung: {what}");
    worker.hung();
}

/// The requests in flight, for the log.
fn in_flight(worker: &Worker) -> String {
    let now = worker_api::scoreboard::monotonic_now();
    let in_flight: Vec<_> = worker
        .underway()
        .iter()
        .map(|it| {
            let age = now.saturating_sub(it.started).as_secs_f64();
            format!("{} {} for {age:.1} s", it.method, it.path)
        })
        .collect();
    in_flight.join(", ")
}
