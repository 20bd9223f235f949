//! The load: wrk, and what it says.

use std::net::SocketAddr;
use std::process::Command;

use crate::machine::said;

/// What one run showed.
#[derive(Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) requests: f64,
    pub(crate) per_second: f64,
    /// In milliseconds.
    pub(crate) p99: f64,
}

pub(crate) fn is_there() -> bool {
    // It says its version and calls that an error.
    !version().is_empty()
}

pub(crate) fn version() -> String {
    let line = said("wrk", &["--version"]);
    line.split(" [").next().unwrap_or_default().to_owned()
}

/// One thread, keep-alive connections, `GET /` as fast as the answers come.
pub(crate) fn run(address: SocketAddr, connections: usize, seconds: u64) -> Shown {
    let mut command = Command::new("wrk");
    command.args(["--threads=1", "--latency"]);
    command.arg(format!("--connections={connections}"));
    command.arg(format!("--duration={seconds}s"));
    command.arg(format!("http://{address}/"));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && !text.contains("Non-2xx") && !text.contains("Socket errors"),
        "wrk: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let shown = Shown::read(&text);
    shown.unwrap_or_else(|| panic!("wrk says something else: {text}"))
}

impl Shown {
    fn read(text: &str) -> Option<Shown> {
        let lines = || text.lines().map(str::trim);
        let after = |name| lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
        let requests = lines().find_map(|line| line.split_once(" requests in ")?.0.parse().ok());
        Some(Shown {
            requests: requests?,
            per_second: after("Requests/sec:")?.parse().ok()?,
            p99: milliseconds(after("99%")?)?,
        })
    }
}

/// `1.26ms`, `350.00us` or `1.02s`.
fn milliseconds(text: &str) -> Option<f64> {
    let unit = text.find(|sign: char| sign.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let factor = match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}
