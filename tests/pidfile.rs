//! The file with the master's pid, for those who ask for one.

use std::fs;
use std::path::PathBuf;

use crate::harness::{Builder, Signal};

fn with(content: &str) -> (tempfile::TempDir, PathBuf, Builder) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master.pid");
    if !content.is_empty() {
        fs::write(&path, content).unwrap();
    }
    let builder = Builder::plain("plain.py", &[]).set("pidfile", path.to_str().unwrap());
    (folder, path, builder)
}

#[test]
fn it_names_the_master_through_a_reload_and_goes_with_it() {
    // The second is left from a process that has gone.
    for before in ["", "2147483647\n"] {
        let (_folder, path, builder) = with(before);
        let server = builder.start();
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(written, format!("{}\n", server.pid()));
        server.set("pidfile", "elsewhere.pid");
        server.signal(Signal::HUP);
        server.wait_log(&["`pidfile` has changed", "next start"]);
        server.wait_log(&["reload done"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), written);
        server.shut_down();
        assert!(!path.exists());
    }
}

#[test]
fn one_that_names_a_running_process_ends_the_start_and_stays() {
    let own = format!("{}\n", std::process::id());
    let (_folder, path, builder) = with(&own);
    let server = builder.spawn();
    server.expect_exit(1);
    server.wait_log(&["master.pid", "which runs"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), own);
}
