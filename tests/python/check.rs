//! `gracefork check` of a Python app: what a start would find wrong, without one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use super::mistakes::{GOOD, MISTAKES};
use crate::harness::programs::{gracefork, python_path, root};

/// With the package of the source tree, in a folder with `main.py`.
fn checked(folder: &Path, args: &[&str]) -> Output {
    let package = root().join("worker-api/python");
    let mut command = Command::new(gracefork());
    command.args(args).current_dir(folder);
    command.env("PYTHONPATH", package);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("GRACEFORK_PYTHON_EXECUTABLE", python_path());
    command.output().unwrap()
}

fn folder_with(app: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("main.py"), app).unwrap();
    folder
}

#[test]
fn a_mistake_is_told_as_by_a_start() {
    // What only a worker runs is only seen by a start.
    for mistake in MISTAKES.iter().filter(|mistake| mistake.status != 3) {
        let folder = folder_with(mistake.app);
        let config = folder.path().join("conf.py");
        fs::write(&config, mistake.config.unwrap_or_default()).unwrap();
        let args = ["check", "-c", config.to_str().unwrap(), mistake.name];
        let said = checked(folder.path(), &args);
        let text = String::from_utf8_lossy(&said.stderr);
        let case = format!("{}: {}:\n{text}", mistake.name, mistake.app);
        assert_eq!(said.status.code(), Some(mistake.status), "{case}");
        assert!(mistake.told.iter().all(|it| text.contains(it)), "{case}");
        assert!(text.contains(mistake.help), "{case}");
        assert!(!text.contains("/gracefork/_"), "{case}");
    }
}

#[test]
fn a_good_app_is_imported_and_nothing_is_served() {
    let noisy = "import sys, threading, time\nprint('imported by', sys.argv)\n\
        threading.Thread(target=time.sleep, args=(600,)).start()\n";
    let folder = folder_with(&format!("{noisy}{GOOD}"));
    for args in [
        ["check", "main:app"],
        // As gunicorn's command line has it.
        ["--check-config", "main:app"],
    ] {
        let said = checked(folder.path(), &args);
        let [out, err] = [&said.stdout, &said.stderr].map(|text| String::from_utf8_lossy(text));
        assert!(said.status.success(), "{err}");
        assert!(out.starts_with("ok: main:app"), "{out}");
        assert!(err.contains("imported by ['gracefork']"), "{err}");
    }
}

#[test]
fn an_interpreter_without_the_package_is_told() {
    let folder = folder_with(GOOD);
    let bare = folder.path().join("bare-python");
    let script = format!("#!/bin/sh\nexec {} -S \"$@\"\n", python_path());
    fs::write(&bare, script).unwrap();
    fs::set_permissions(&bare, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(gracefork());
    command.args(["check", "main:app"]).current_dir(&folder);
    command.env_remove("PYTHONPATH");
    command.env("GRACEFORK_PYTHON_EXECUTABLE", &bare);
    let said = command.output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(text.contains("has no package gracefork"), "{text}");
    assert!(text.contains("-m pip install gracefork"), "{text}");
}
