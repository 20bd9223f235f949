//! A reload under load.

use std::time::Duration;

use crate::harness::{Builder, Load, Signal};
use crate::table::{Row, Section, Unit};

use super::{milliseconds, start};

const WORKERS: usize = 4;
const RELOADS: usize = 5;

pub(crate) fn measure() -> Section {
    let server = start(Builder::axum(), WORKERS);
    let load = Load::start(&server.target);
    let mut times: Vec<Duration> = Vec::new();
    let mut lost = Vec::new();
    for _ in 0..RELOADS {
        load.wait_for(500);
        let before = (
            server.watch_workers(),
            load.lost_stages().len(),
            server.log.count(&["reload done"]),
        );
        let told = server.signal(Signal::HUP);
        server.wait("the end of the reload", || {
            (server.log.count(&["reload done"]) > before.2).then_some(())
        });
        before.0.iter().for_each(|worker| server.wait_gone(worker));
        times.push(told.elapsed());
        let now = load.lost_stages().len();
        lost.push(f64::from(u32::try_from(now - before.1).unwrap()));
    }
    let report = load.stop();
    assert_eq!(
        report.sent,
        report.ok + report.lost.len() as u64,
        "{}",
        report.describe()
    );
    server.shut_down();
    Section {
        title: format!("Reload (SIGHUP) of {WORKERS} workers (axum-app) under 32 keep-alive clients, {RELOADS} in a row"),
        how: vec![
            "From SIGHUP until \"reload done\" is logged and every old process is reaped; one new worker boots at a time".to_owned(),
            "(surge 1), and the first must have lived for ready_after (1 s) before any old one is retired.".to_owned(),
            format!("Lost: no whole answer of status 200 came. {} requests were answered meanwhile.", report.ok),
        ],
        rows: vec![
            Row::new("SIGHUP to the last old worker gone", Unit::Milliseconds, milliseconds(&times)),
            Row::new("requests lost in a reload", Unit::Count, lost).at_most(0.0),
        ],
    }
}
