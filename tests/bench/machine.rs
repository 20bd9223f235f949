//! The machine that the figures are of.

use std::fs::{self, File};
use std::process::Command;
use std::thread::available_parallelism;

use crate::harness::programs::{example, gracefork};

/// Processors, kernel, memory, day.
pub(crate) fn describe() -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "?".to_owned());
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_else(|| "?".to_owned());
    let day = said("date", &["-u", "+%F %H:%M UTC"]);
    format!("{day}; {cores} cores ({processor}), {memory} of memory, Linux {kernel}")
}

/// Over the last 1, 5 and 15 minutes.
pub(crate) fn load_average() -> String {
    let text = read("/proc/loadavg");
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Pages of a file that was just built are dirty until they are on the disk, and would be taken for
/// memory that the process wrote.
pub(crate) fn write_binaries_out() {
    for path in [
        gracefork().to_owned(),
        example("axum-app").path,
        example("hello").path,
        example("mio-app").path,
    ] {
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// The first line that a program prints, and nothing where it cannot be run.
pub(crate) fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
