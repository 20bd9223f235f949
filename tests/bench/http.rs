//! `make bench-http`: what a request and a connection cost a worker of `worker-http`, beside bare
//! hyper and a bare epoll loop. Release binaries, real processes, real sockets; a missed goal is
//! marked in the table and makes the exit status 1.
//!
//! Names of measures as arguments run only those: `cargo bench --bench http -- speed`.
//! docs/benchmarks.md tells more.
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

mod bare;
mod contestant;
mod cores;
#[allow(dead_code, reason = "`main.rs` uses the rest")]
mod figures;
mod machine;
#[allow(dead_code, reason = "`main.rs` uses the rest")]
mod table;
mod worker;
mod wrk;

use std::panic::catch_unwind;
use std::process::ExitCode;

use rustix::process::{Resource, getrlimit, setrlimit};
use table::Section;
use worker::{balance, blocked, memory, speed};

/// A name to ask for it by, and what does it.
type Measure = (&'static str, fn() -> Section);

const MEASURES: [Measure; 4] = [
    ("speed", speed::measure),
    ("memory", memory::measure),
    ("balance", balance::measure),
    ("blocked", blocked::measure),
];

fn main() -> ExitCode {
    bare::serve_if_asked();
    // cargo adds flags of its own.
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    machine::write_binaries_out();
    allow_many_descriptors();
    let before = machine::load_average();
    let mut sections = Vec::new();
    let mut broken = Vec::new();
    for (name, measure) in MEASURES.iter().filter(|(name, _)| wanted(name)) {
        if *name == "speed" && !wrk::is_there() {
            broken.push("speed (it needs wrk)");
            continue;
        }
        eprintln!("measuring: {name}");
        match catch_unwind(measure) {
            Ok(section) => sections.push(section),
            Err(_) => broken.push(*name),
        }
    }
    println!("\n{}", machine::describe());
    println!(
        "Load average of the machine before and after: {before}, {}\n",
        machine::load_average()
    );
    let missed = table::print(&sections);
    for name in &broken {
        println!("{name}: NOT MEASURED, see the failure above");
    }
    ExitCode::from(u8::from(missed || !broken.is_empty()))
}

/// For this process and all that it starts.
fn allow_many_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}
