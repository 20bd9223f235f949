//! The measures, a room each; every one starts its own servers and ends them.

pub(crate) mod crash;
pub(crate) mod crowd;
pub(crate) mod exit;
pub(crate) mod idle;
pub(crate) mod memory;
pub(crate) mod reload;

use std::time::Duration;

use crate::harness::{Builder, Server};

/// Starts a server and waits until all its workers are Ready, not only enough of them.
fn start(builder: Builder, workers: usize) -> Server {
    let server = builder.workers(workers).start();
    server.wait_status("all workers Ready", |status| {
        status.ready_workers == workers
    });
    server
}

fn milliseconds(durations: &[Duration]) -> Vec<f64> {
    durations
        .iter()
        .map(|duration| duration.as_secs_f64() * 1000.0)
        .collect()
}
