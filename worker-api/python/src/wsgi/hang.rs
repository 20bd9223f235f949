//! A call that does not return: what is in flight is logged, and the master told.

use std::time::Duration;

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
    fn hung(&self) {
        report(&self.worker, "a call of the app does not return");
    }
}

/// Says what is in flight and has this worker replaced.
pub(crate) fn report(worker: &Worker, what: &str) {
    let now = worker_api::scoreboard::monotonic_now();
    let in_flight: Vec<_> = worker
        .underway()
        .iter()
        .map(|it| {
            let age = now.saturating_sub(it.started).as_secs_f64();
            format!("{} {} for {age:.1} s", it.method, it.path)
        })
        .collect();
    let in_flight = in_flight.join(", ");
    tracing::error!(slot = worker.slot(), in_flight, "hung: {what}");
    worker.hung();
}
