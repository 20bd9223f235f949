//! How evenly connections spread over workers.

use std::thread;
use std::time::Duration;

use crate::harness::{Builder, Conn, Server};
use crate::table::{Row, Section, Unit};

const RUNS: usize = 5;
const WORKERS: usize = 4;
const CONNECTIONS: usize = 64;
const APART: Duration = Duration::from_millis(5);

/// Its name and how to start it.
type App = (&'static str, fn() -> Builder);

pub(crate) fn measure() -> Section {
    let apps: [App; 2] = [("hello", Builder::hello), ("axum-app", Builder::axum)];
    let row = |(name, builder): App| {
        let spread = |_| spread(&builder().workers(WORKERS).start());
        let samples = (0..RUNS).map(spread).collect();
        let figure = format!("{name}: the most connections of a worker over the mean");
        Row::new(figure, Unit::Ratio, samples).at_most(1.15)
    };
    Section {
        title: format!("{CONNECTIONS} keep-alive connections over {WORKERS} workers"),
        how: vec![format!(
            "{RUNS} starts; opened {} ms apart, each answered once; counted in /status while all are open.",
            APART.as_millis()
        )],
        rows: apps.map(row).into(),
    }
}

/// The most over the mean.
fn spread(server: &Server) -> f64 {
    let open = |_| {
        thread::sleep(APART);
        let mut connection = server.connect();
        assert!(!connection.get("/").unwrap().close);
        connection
    };
    let open: Vec<Conn> = (0..CONNECTIONS).map(open).collect();
    let status = server.status();
    let counts = || status.workers.iter().map(|worker| worker.connections);
    assert_eq!(counts().sum::<u64>(), open.len() as u64, "{status:?}");
    let most = counts().max().unwrap_or(0);
    most as f64 * WORKERS as f64 / CONNECTIONS as f64
}
