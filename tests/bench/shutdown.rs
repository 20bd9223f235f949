//! `make bench-shutdown`: what SIGTERM and SIGHUP cost the clients of several servers, side by side.
//!
//! Every server has two workers, the same load, and the same readiness probe that takes it out of the
//! load's route. docs/benchmarks.md tells what the figures mean.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a benchmark: it prints, and ends where it cannot measure"
)]

#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    clippy::wrong_self_convention,
    reason = "the end-to-end tests use the rest, and are held against the lints"
)]
#[path = "../harness/mod.rs"]
mod harness;

mod machine;
mod servers;
mod text;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use harness::balancer::LoadBalancer;
use harness::load::{Load, Report};
use harness::{Conn, LIMIT, Signal, Target, eventually};
use servers::{Contestant, Running};

const RUNS: usize = 3;
/// How long the load goes on after SIGHUP: the slowest of the servers is done by then.
const RELOAD: Duration = Duration::from_secs(8);
/// How long a server may take to end; most have a limit of 30 s of their own.
const END: Duration = Duration::from_secs(45);

/// What one server showed, run by run.
#[derive(Default)]
struct Shown {
    terminated: Vec<Lost>,
    /// From SIGTERM to the exit, and how it ended.
    ends: Vec<(Duration, String)>,
    reloaded: Vec<Lost>,
    /// Whether other processes answered after SIGHUP than before.
    renewed: Vec<bool>,
}

/// Requests lost, of how many, and over how long a time (`None` where nothing was).
struct Lost {
    lost: usize,
    sent: u64,
    span: Option<Duration>,
}

fn main() -> ExitCode {
    machine::write_binaries_out();
    let before = machine::load_average();
    let contestants = servers::all();
    let mut rows = Vec::new();
    let mut broken = Vec::new();
    for contestant in &contestants {
        eprintln!("measuring: {}", contestant.name);
        match catch_unwind(AssertUnwindSafe(|| measure(contestant))) {
            Ok(shown) => rows.push(cells(contestant, &shown)),
            Err(_) => broken.push(contestant.name),
        }
    }
    println!("\n{}", machine::describe());
    println!(
        "Load average of the machine before and after: {before}, {}\n",
        machine::load_average()
    );
    text::print_columns(&HEAD.map(str::to_owned), &rows);
    println!("\n{}", how());
    for name in &broken {
        println!("{name}: NOT MEASURED, see the failure above");
    }
    for missing in servers::missing() {
        println!("left out: {missing}");
    }
    ExitCode::from(u8::from(!broken.is_empty()))
}

fn measure(contestant: &Contestant) -> Shown {
    let mut shown = Shown::default();
    for _ in 0..RUNS {
        terminate(&(contestant.start)(), &mut shown);
        reload(&(contestant.start)(), &mut shown);
    }
    shown
}

/// SIGTERM under load; the load ends when the probe has taken the server out.
fn terminate(server: &Running, shown: &mut Shown) {
    let load = Load::start(server.target());
    let (probed, path) = server.probe();
    let balancer = LoadBalancer::start(probed, path, load.route());
    load.wait_for(500);
    let told = server.signal(Signal::TERM);
    eventually("the probe to take the server out", || load.is_stopped());
    let report = load.stop();
    balancer.stop();
    shown.terminated.push(Lost::of(&report, told));
    shown.ends.push(match server.wait_exit(END) {
        Some((status, at)) => (at.saturating_duration_since(told), status),
        None => (END, "did not end".to_owned()),
    });
}

/// SIGHUP under load.
fn reload(server: &Running, shown: &mut Shown) {
    let before = answering(server.target());
    let load = Load::start(server.target());
    load.wait_for(500);
    let told = server.signal(Signal::HUP);
    thread::sleep(RELOAD);
    let report = load.stop();
    shown.reloaded.push(Lost::of(&report, told));
    shown
        .renewed
        .push(answering(server.target()).is_disjoint(&before));
    server.signal(Signal::TERM);
    server.wait_exit(END);
}

/// The processes that answer `/health` on connections of their own.
fn answering(target: &Target) -> BTreeSet<u64> {
    let ask = |_| Conn::open(target).ok()?.get("/health").ok()?.json()["pid"].as_u64();
    (0..40).filter_map(ask).collect()
}

impl Lost {
    fn of(report: &Report, since: Instant) -> Lost {
        let times = || report.lost.iter().map(|lost| lost.at);
        assert!(
            report.ok > 0 && times().all(|at| at >= since),
            "lost before the signal: {}",
            report.describe()
        );
        let span = times()
            .max()
            .zip(times().min())
            .map(|(last, first)| last - first);
        Lost {
            lost: report.lost.len(),
            sent: report.sent,
            span,
        }
    }
}

const COLUMNS: usize = 8;
const HEAD: [&str; COLUMNS] = [
    "server",
    "SIGTERM: lost",
    "of sent",
    "within",
    "time to exit",
    "ended with",
    "SIGHUP: lost",
    "new workers",
];

fn cells(contestant: &Contestant, shown: &Shown) -> [String; COLUMNS] {
    let lost = |all: &[Lost]| text::range(all.iter().map(|lost| lost.lost as f64), 0);
    let seconds = |times: Vec<Duration>| match times.is_empty() {
        true => "-".to_owned(),
        false => text::range(times.iter().map(Duration::as_secs_f64), 2) + " s",
    };
    let ends: BTreeSet<&str> = shown
        .ends
        .iter()
        .map(|(_, status)| status.as_str())
        .collect();
    let renewed = shown.renewed.iter().filter(|renewed| **renewed).count();
    [
        contestant.name.to_owned(),
        lost(&shown.terminated),
        text::range(shown.terminated.iter().map(|lost| lost.sent as f64), 0),
        seconds(
            shown
                .terminated
                .iter()
                .filter_map(|lost| lost.span)
                .collect(),
        ),
        seconds(shown.ends.iter().map(|(time, _)| *time).collect()),
        ends.into_iter().collect::<Vec<_>>().join(", "),
        lost(&shown.reloaded),
        format!("{renewed} of {RUNS}"),
    ]
}

fn how() -> String {
    format!(
        "{RUNS} runs each; the smallest and the largest figure. Two workers, 32 keep-alive clients that pause up to 10 ms\n\
         between requests and 20 ms after one that is lost, a probe every 0.5 s, 3 failures take the server out.\n\
         Lost: no whole answer of status 200 came. Within: from the first lost request to the last.\n\
         Time to exit: from SIGTERM to the end of the process that was told; gracefork has a lameduck of 3 s.\n\
         SIGHUP: the load goes on for {} s. New workers: runs after which only new processes answered.\n\
         Limit for anything to be ready: {} s. Versions: {}",
        RELOAD.as_secs(),
        LIMIT.as_secs(),
        servers::versions().join(", "),
    )
}
