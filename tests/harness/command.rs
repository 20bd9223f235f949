//! Commands that end by themselves.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::programs::gracefork;

/// What one said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs gracefork in that folder, with `PATH` and these variables alone.
pub(crate) fn run_in(folder: &Path, environment: &[(&str, &str)], args: &[&str]) -> Said {
    let mut command = Command::new(gracefork());
    command
        .args(args)
        .current_dir(folder)
        .env_clear()
        .envs(std::env::var("PATH").map(|path| ("PATH", path)));
    command.envs(environment.iter().copied());
    run(command, Duration::from_secs(20))
}

/// Runs a command that says little and ends in time.
pub(crate) fn run(mut command: Command, limit: Duration) -> Said {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + limit;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{command:?} did not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}
