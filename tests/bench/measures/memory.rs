//! The master's memory.

use crate::figures::Memory;
use crate::harness::{Builder, Server, Signal};
use crate::table::{Row, Section, Unit};

use super::start;

const STARTS: usize = 5;
const WORKERS: usize = 8;
const RELOADS: usize = 5;
const PROBES: usize = 1000;
const SCRAPES: usize = 100;

pub(crate) fn measure() -> Section {
    let (mut fresh, mut used) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let server = start(Builder::axum(), WORKERS);
        fresh.push(Memory::settled(server.pid()));
        if used.len() < 2 {
            use_it(&server);
            used.push(Memory::settled(server.pid()));
        }
        server.shut_down();
    }
    let row = |figure: &str, of: &[Memory], part: fn(&Memory) -> f64| {
        let values = of.iter().map(|memory| part(memory) / 1e6).collect();
        Row::new(figure, Unit::Megabytes, values)
    };
    Section {
        title: format!("Memory of the master with {WORKERS} native workers (axum-app)"),
        how: vec![
            format!("/proc/PID/smaps_rollup of the master, {STARTS} starts, once it has not changed for two seconds."),
            "PSS counts a page of a shared library in parts; RSS counts it whole. Anonymous is heap and stacks.".to_owned(),
            format!("Used: after {RELOADS} reloads, {PROBES} probes of /readyz, {SCRAPES} of /metrics and /status each."),
        ],
        rows: vec![
            row("PSS", &fresh, |memory| memory.pss).at_most(4.0),
            row("RSS", &fresh, |memory| memory.rss),
            row("private dirty", &fresh, |memory| memory.private_dirty),
            row("anonymous", &fresh, |memory| memory.anonymous),
            row("PSS, used", &used, |memory| memory.pss).at_most(4.0),
            row("anonymous, used", &used, |memory| memory.anonymous),
        ],
    }
}

/// What a day of a pod brings, in a few seconds.
fn use_it(server: &Server) {
    for _ in 0..RELOADS {
        let before = server.status().generation;
        server.signal(Signal::HUP);
        server.wait_status("the new generation alone", |status| {
            let new = |worker: &crate::harness::status::Worker| worker.generation > before;
            status.workers.len() == WORKERS && status.workers.iter().all(new)
        });
    }
    for turn in 0..PROBES {
        assert_eq!(
            server.ops("/readyz").map(|response| response.status),
            Some(200)
        );
        if turn % (PROBES / SCRAPES) == 0 {
            assert!(server.ops("/metrics").is_some() && server.ops("/status").is_some());
        }
    }
}
