//! Tests that this machine cannot run; unit tests of the crates say so in the same way.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Says that the running test is skipped, and why, where it is seen: the runner's capture holds
/// back only what the print macros write, not this.
pub(crate) fn skip(needs: &str) {
    let current = std::thread::current();
    let line = format!(
        "skipped: {}: needs {needs}\n",
        current.name().unwrap_or("?")
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    if let Some(path) = std::env::var_os("GRACEFORK_SKIP_LOG") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}
