//! `gracefork check` of a Python app: what a start would find wrong, without one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::mistakes::{GOOD, MISTAKES};
use crate::harness::process::Watched;
use crate::harness::programs::{gracefork, python_path, root};
use crate::harness::skip::skip;
use crate::harness::wait::eventually;

/// With the package of the source tree, in a folder with `main.py`.
fn checked(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let package = root().join("worker-api/python");
    let mut command = Command::new(gracefork());
    command.args(args).current_dir(folder);
    command.env("PYTHONPATH", package);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("GRACEFORK_PYTHON_EXECUTABLE", python_path());
    command
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
        assert!(
            err.contains("imported by ['gracefork', 'main:app']"),
            "{err}"
        );
    }
}

#[test]
fn an_app_finds_what_its_config_file_does_beside_settings() {
    let folder = folder_with(&format!(
        "import os, sys\nos.environ['REGION']\nprint(sys.argv)\n{GOOD}"
    ));
    let config = folder.path().join("conf.py");
    fs::write(&config, "import os\nos.environ['REGION'] = 'here'\n").unwrap();
    let said = checked(folder.path(), &["check", "-c", "conf.py", "main:app"]);
    let err = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{err}");
    assert!(err.contains("['gracefork', 'main:app']"), "{err}");
}

#[test]
fn an_app_is_imported_as_the_user_that_workers_are() {
    if !rustix::process::geteuid().is_root() {
        return skip("root");
    }
    let folder = folder_with(&format!(
        "import os\nprint('user', os.getuid(), os.getgroups())\nos.umask(mask := os.umask(0))\nprint('mask', mask)\n{GOOD}"
    ));
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let flags = ["--user", "65533", "--group", "65532", "--umask", "027"];
    let seen = |preload: &[&str]| {
        let said = checked(
            folder.path(),
            &[&["check"], &flags[..], preload, &["main:app"]].concat(),
        );
        assert!(
            said.status.success(),
            "{}",
            String::from_utf8_lossy(&said.stderr)
        );
        String::from_utf8_lossy(&said.stderr).into_owned()
    };
    let worker = seen(&[]);
    assert!(worker.contains("user 65533 [65532]"), "{worker}");
    assert!(worker.contains(&format!("mask {}", 0o027)), "{worker}");
    // As by a host.
    let host = seen(&["--preload"]);
    assert!(host.contains("user 0 "), "{host}");
}

#[test]
fn an_import_without_an_end_and_what_it_leaves_behind_hold_nothing_up() {
    let folder = folder_with(&format!(
        "import subprocess\nsubprocess.Popen(['sleep', '600'])\nprint('begun')\n{GOOD}"
    ));
    let said = checked(folder.path(), &["check", "main:app"]);
    assert!(said.status.success());
    let folder = folder_with("import time\nprint('begun', flush=True)\ntime.sleep(600)\n");
    let toml = "[workers]\nboot_timeout = '2s'\n";
    fs::write(folder.path().join("short.toml"), toml).unwrap();
    let said = checked(folder.path(), &["check", "-c", "short.toml", "main:app"]);
    let err = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{err}");
    for text in ["begun", "took longer than 2s", "workers.boot_timeout"] {
        assert!(err.contains(text), "{err}");
    }
}

#[test]
fn a_check_that_is_told_to_stop_leaves_nothing_behind() {
    let app = "import os, subprocess, time\nchild = subprocess.Popen(['sleep', '600'])\n\
        open('pids.new', 'w').write(f'{os.getpid()} {child.pid}')\nos.rename('pids.new', 'pids')\n\
        time.sleep(600)\n";
    let folder = folder_with(app);
    let mut command = command(folder.path(), &["check", "main:app"]);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let pids = folder.path().join("pids");
    eventually("the app is being imported", || pids.exists());
    let of_app: Vec<_> = (fs::read_to_string(&pids).unwrap().split(' '))
        .map(|pid| Watched::open(pid.parse().unwrap()).unwrap())
        .collect();
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    for process in of_app {
        process.wait_exit(Duration::from_secs(20)).unwrap();
    }
}

#[test]
fn an_app_that_ends_its_process_is_not_taken_for_a_good_one() {
    let loud = "import os, sys\nprint('error: no cache', flush=True)\nos._exit(0)\n";
    for (app, told) in [
        ("import os\nos._exit(0)\n", "ended the process"),
        (loud, "ended the process"),
        (
            "import os\nos.kill(os.getpid(), 9)\n",
            "was killed: SIGKILL",
        ),
    ] {
        let folder = folder_with(app);
        let said = checked(folder.path(), &["check", "main:app"]);
        let err = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(1), "{err}");
        assert!(err.contains(told), "{err}");
    }
    let folder = folder_with("import gracefork.nothing_like_this\n");
    let said = checked(folder.path(), &["check", "main:app"]);
    let err = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(4), "{err}");
    assert!(err.contains("nothing_like_this"), "{err}");
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
    assert!(
        text.contains("-m pip install --upgrade gracefork"),
        "{text}"
    );
}
