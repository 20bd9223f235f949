//! What an idle master does: nothing.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::births::living_children;
use crate::figures::{Memory, processor_time, switches};
use crate::harness::process::Watched;
use crate::harness::{Builder, Server, Signal};
use crate::table::{Row, Section, Unit};

use super::start;

const WORKERS: usize = 8;
const WATCHES: usize = 3;
const WATCH: Duration = Duration::from_secs(10);

pub(crate) fn measure() -> Section {
    let server = start(Builder::axum(), WORKERS);
    Memory::settled(server.pid());
    let (mut wakeups, mut worked, mut workers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..WATCHES {
        let of_workers = || {
            living_children(server.pid())
                .into_iter()
                .map(switches)
                .sum::<f64>()
        };
        let before = (
            switches(server.pid()),
            processor_time(server.pid()),
            of_workers(),
        );
        thread::sleep(WATCH);
        wakeups.push((switches(server.pid()) - before.0) / WATCH.as_secs_f64());
        let now = processor_time(server.pid());
        worked.extend(
            now.zip(before.1)
                .map(|(now, then)| (now - then).as_secs_f64() * 1000.0),
        );
        workers.push((of_workers() - before.2) / WATCH.as_secs_f64() / WORKERS as f64);
    }
    let calls = system_calls(&server);
    server.shut_down();
    Section {
        title: format!("An idle master with {WORKERS} workers (axum-app), ops listener open"),
        how: vec![
            format!("{WATCHES} times {} s without a request or a probe.", WATCH.as_secs()),
            "Wake-ups: voluntary and involuntary context switches of /proc/PID/task/*/status; processor time: schedstat.".to_owned(),
            "System calls: every line of `strace -f -p`, from one second after it has attached, for as long.".to_owned(),
        ],
        rows: vec![
            Row::new("wake-ups of the master", Unit::PerSecond, wakeups).at_most(0.0),
            Row::new("system calls of the master", Unit::PerSecond, calls).at_most(0.0),
            Row::new("processor time of the master in 10 s", Unit::Milliseconds, worked),
            Row::new("wake-ups of a worker", Unit::PerSecond, workers),
        ],
    }
}

/// Calls a second as strace sees them; nothing where it cannot be had.
fn system_calls(server: &Server) -> Vec<f64> {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-ttt", "-o"]).arg(trace.path());
    command.args(["-p", &server.pid().to_string()]);
    let started = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut strace) = started else {
        return Vec::new();
    };
    // Attaching interrupts the wait, which the master then takes up again: not its own doing.
    thread::sleep(Duration::from_secs(1));
    let from = SystemTime::now();
    thread::sleep(WATCH);
    let until = SystemTime::now();
    // Not SIGKILL: it detaches, and writes what it still holds.
    let strace_itself = Watched::open(strace.id());
    strace_itself.inspect(|strace| strace.signal(Signal::TERM));
    strace.wait().unwrap();
    let text = fs::read_to_string(trace.path()).unwrap_or_default();
    // PID TIME call(...); the first line is the wait that the master is in.
    let times = text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1)?.parse().ok());
    let times: Vec<f64> = times.collect();
    if times.is_empty() {
        return Vec::new();
    }
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64()
    };
    let within = times
        .iter()
        .filter(|time| (seconds(from)..seconds(until)).contains(time));
    vec![within.count() as f64 / WATCH.as_secs_f64()]
}
