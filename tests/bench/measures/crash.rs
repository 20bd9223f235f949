//! From a worker's crash to its replacement.

use std::thread;
use std::time::{Duration, Instant};

use crate::births::{Births, Moment};
use crate::harness::programs::example;
use crate::harness::{Builder, LIMIT, Server, Signal};
use crate::table::{Row, Section, Unit};

use super::{milliseconds, start};

const WORKERS: usize = 8;
const CRASHES: usize = 30;
/// A worker that was Ready for so long starts with a clean slate, and is replaced at once.
const FORGIVEN_AFTER: Duration = Duration::from_millis(100);

pub(crate) fn measure() -> Section {
    let forgiven = format!("{}ms", FORGIVEN_AFTER.as_millis());
    let builder = Builder::axum()
        .set("workers.restart.backoff", forgiven.clone())
        .set("workers.restart.backoff_max", forgiven);
    let server = start(builder, WORKERS);
    let mut births = Births::watch(server.pid(), &example("axum-app").path);
    let (mut deaths, mut execs, mut readies) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..CRASHES {
        thread::sleep(2 * FORGIVEN_AFTER);
        let victim = server.watch(oldest(&server));
        births.forget();
        let (killed, killed_at) = (Moment::now(), Instant::now());
        victim.signal(Signal::KILL);
        let Some(birth) = births.wait(victim.pid, killed, LIMIT) else {
            server.fail("no replacement became the program");
        };
        let ready = server.wait_log(&["worker ready", &format!("pid={} ", birth.pid)]);
        deaths.extend(birth.death);
        execs.push(birth.exec);
        readies.push(ready.at - killed_at);
    }
    server.shut_down();
    Section {
        title: format!("A crash: SIGKILL of one of {WORKERS} workers (axum-app), {CRASHES} times in turn"),
        how: vec![
            format!("From just before kill() of the oldest worker. Exec of the replacement: {}.", births.how()),
            "Death: the kernel's time stamp of the victim's exit, part of the times below it.".to_owned(),
            "Ready: when the master's log line \"worker ready\" with the new pid is read.".to_owned(),
            "Each victim was Ready for over 100 ms with a backoff_max of 100 ms, so that no backoff applies.".to_owned(),
        ],
        rows: vec![
            Row::new("kill to the victim's death", Unit::Milliseconds, milliseconds(&deaths)),
            Row::new("kill to the replacement's exec", Unit::Milliseconds, milliseconds(&execs)).at_most(20.0),
            Row::new("kill to the replacement's READY", Unit::Milliseconds, milliseconds(&readies)),
        ],
    }
}

/// The worker that has been there for longest.
fn oldest(server: &Server) -> u32 {
    let status = server.wait_status("all workers Ready", |status| {
        status.ready_workers == WORKERS
    });
    let workers = status.workers.iter();
    let oldest = workers.max_by(|one, other| one.age_seconds.total_cmp(&other.age_seconds));
    oldest
        .and_then(|worker| worker.pid)
        .unwrap_or_else(|| server.fail("no worker"))
}
