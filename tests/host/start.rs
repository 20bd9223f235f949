//! The start, when it goes well and when it does not.

use std::time::Duration;

use super::site::Site;
use super::{host, reload, version};
use crate::harness::programs::unshare_works;
use crate::harness::skip::skip;
use crate::harness::{Signal, eventually, process};

/// For an import or a hook that takes long enough to be met on the way.
const SLEEP: &str = "import time\nprint('it takes its time', flush=True)\ntime.sleep(600)\n";

#[test]
fn an_app_is_served_by_workers_that_are_the_masters_children() {
    let site = Site::new();
    let server = site.plain().start();
    assert_eq!(version(&server), "one");
    let host = host(&server);
    let mut children = process::children(server.pid());
    children.retain(|&pid| pid != host);
    children.sort_unstable();
    let mut workers = server.worker_pids();
    workers.sort_unstable();
    assert_eq!(children, workers);
    assert!(process::children(host).is_empty());
    let levels = server.status().workers;
    assert!(levels.iter().all(|worker| worker.level == "native"));
    server.shut_down();
}

#[test]
fn as_pid_1_too() {
    if !unshare_works() {
        return skip("a pid namespace (unshare --pid --fork --mount-proc)");
    }
    let site = Site::new();
    let server = site.plain().pid_1().start();
    assert_eq!(version(&server), "one");
    let status = server.status();
    let inside = |pid: u32| {
        process::children(server.pid()).into_iter().find(|&outer| {
            let status =
                std::fs::read_to_string(format!("/proc/{outer}/status")).unwrap_or_default();
            let ids = status
                .lines()
                .find(|line| line.starts_with("NSpid:"))
                .unwrap_or_default();
            ids.split_whitespace().last() == Some(&pid.to_string())
        })
    };
    let worker = inside(status.workers[0].pid.unwrap()).unwrap();
    server.watch(worker).signal(Signal::KILL);
    server.wait_status("a new worker", |status| {
        status.workers.iter().any(|worker| worker.restarts == 1) && status.ready_workers == 2
    });
    let host = inside(status.hosts[0].pid).unwrap();
    server.watch(host).signal(Signal::KILL);
    server.wait_status("no host", |status| status.hosts.is_empty());
    assert_eq!(version(&server), "one");
    assert!(process::zombies(server.pid()).is_empty());
    server.shut_down();
}

#[test]
fn a_framework_is_imported_by_the_host_and_the_app_by_each_worker() {
    let site = Site::new();
    std::fs::create_dir(site.path("site-packages")).unwrap();
    site.write("site-packages/flask.py", "import os\npid = os.getpid()\n");
    site.write(
        "main.py",
        "import flask
import os
pid = os.getpid()
def app(environ, start_response):
    start_response('200 OK', [])
    return [f'{flask.pid} {pid} {os.getpid()}'.encode()]
",
    );
    let server = site
        .plain()
        .set("python.path", vec!["site-packages"])
        .start();
    let imported = || {
        let answer = server.get("/").text();
        let pids = answer.split(' ').map(|pid| pid.parse().unwrap());
        let [framework, app, own] = pids.collect::<Vec<u32>>()[..] else {
            panic!("{answer}");
        };
        assert_eq!(app, own, "each worker imports the app");
        framework
    };
    let before = host(&server);
    assert_eq!(imported(), before);
    reload(&server);
    assert_ne!(host(&server), before);
    assert_eq!(
        imported(),
        host(&server),
        "a reload brings a framework anew"
    );
    server.shut_down();
}

#[test]
fn an_import_that_fails_ends_the_start_with_4_and_is_told_once() {
    for preload in [true, false] {
        let site = Site::new();
        site.app("one", "import nothing_like_this");
        let server = site.plain().set("workers.preload", preload).spawn();
        server.expect_exit(4);
        server.wait_log(&["line 1, in <module>"]);
        assert_eq!(server.log.count(&["start given up"]), 1);
        let told = server.log.count(&["cannot be started"]);
        let fatal = server.log.count(&["asks not to be replaced"]);
        assert!(told + fatal >= 1, "{}", server.log.text());
        let plainly = server.log.count(&["asks not to be replaced: 'main' needs"]);
        assert_eq!(plainly, fatal, "{}", server.log.text());
        if preload {
            assert_eq!(told, 1, "{}", server.log.text());
        }
    }
}

#[test]
fn a_hook_that_fails_before_the_first_fork_ends_the_start_with_1() {
    let site = Site::new();
    site.config("def on_starting(server):\n    raise RuntimeError('no database')\n");
    let server = site.builder().spawn();
    server.expect_exit(1);
    server.wait_log(&["on_starting", "no database"]);
    assert_eq!(server.log.count(&["configuration does not hold"]), 1);
}

#[test]
fn a_hook_that_refuses_every_fork_ends_the_start_with_3() {
    let site = Site::new();
    site.config("def pre_fork(server, worker):\n    raise RuntimeError('no more')\n");
    let server = site.builder().set("workers.restart.crash_limit", 2).spawn();
    server.expect_exit(3);
    server.wait_log(&["a worker cannot be started", "pre_fork", "no more"]);
}

#[test]
fn a_config_file_that_fails_ends_the_start_with_1() {
    let site = Site::new();
    site.config("workers = 2\nraise RuntimeError('no such region')\n");
    let server = site.builder().spawn();
    server.expect_exit(1);
    server.wait_log(&["line 2, in <module>"]);
    server.wait_log(&["RuntimeError: no such region"]);
    assert_eq!(server.log.count(&["RuntimeError: no such region"]), 1);
}

#[test]
fn an_interpreter_without_the_package_is_told_what_to_install() {
    let site = Site::new();
    let server = site.plain().env("PYTHONPATH", "/").spawn();
    server.expect_exit(1);
    server.wait_log(&["install the package gracefork"]);
    site.config("workers = 2\n");
    let server = site.builder().env("PYTHONPATH", "/").spawn();
    server.expect_exit(1);
    server.wait_log(&["-m pip install --upgrade gracefork"]);
}

#[test]
fn sigterm_ends_a_start_promptly_wherever_it_is() {
    // While the config file runs, while the host imports, while the workers do.
    for (config, preload) in [(SLEEP, false), ("", true), ("", false)] {
        let site = Site::new();
        site.config(config);
        site.app("one", if config.is_empty() { SLEEP } else { "" });
        let server = site.builder().set("workers.preload", preload).spawn();
        if config.is_empty() {
            server.wait_log(&["it takes its time"]);
        } else {
            eventually("the config file is being run", || {
                !process::children(server.pid()).is_empty()
            });
        }
        let term = server.signal(Signal::TERM);
        let exit = server.expect_exit(0);
        assert!(
            exit.after(term) < Duration::from_secs(10),
            "{:?}",
            exit.after(term)
        );
    }
}

#[test]
fn a_host_that_never_gets_ready_is_aborted_and_shows_where_it_hung() {
    // On a busy machine an interpreter may take longer than that to come as far as the app.
    for boot_timeout in ["2s", "15s"] {
        let site = Site::new();
        site.app("one", SLEEP);
        let server = site
            .plain()
            .set("workers.preload", true)
            .set("workers.boot_timeout", boot_timeout)
            .set("workers.restart.crash_limit", 2)
            .spawn();
        server.expect_exit(3);
        server.wait_log(&["host told to abort"]);
        if server.log.count(&["it takes its time"]) > 0 {
            // A traceback is written in pieces, and a line of the master may come between any two.
            server.wait_log(&["main.py"]);
            server.wait_log(&["in <module>"]);
            return;
        }
    }
    panic!("the app is never imported");
}

#[test]
fn when_the_master_is_killed_no_process_is_left() {
    let site = Site::new();
    let server = site.plain().start();
    let mut all = server.watch_workers();
    all.push(server.watch(host(&server)));
    server.signal(Signal::KILL);
    server.wait_exit();
    for process in &all {
        server.wait_gone(process);
    }
    server.assert_no_leftovers();
}

#[test]
fn an_import_that_starts_threads_is_told_with_their_names() {
    let site = Site::new();
    site.app(
        "one",
        "import threading\nthreading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()\n",
    );
    let server = site.plain().set("workers.preload", true).start();
    server.wait_log(&["threads", "poller"]);
    assert_eq!(server.log.count(&["poller"]), 1);
    server.shut_down();
}

#[test]
fn file_mode_bits_are_those_that_were_asked_for() {
    let site = Site::new();
    site.app(
        "one",
        "import os\nopen(f'made-{os.getpid()}', 'w').close()\n",
    );
    let server = site.plain().set("security.umask", "027").start();
    let made = site.path(&format!("made-{}", server.worker_pids()[0]));
    let mode = std::os::unix::fs::PermissionsExt::mode(&made.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o640);
    server.shut_down();
}

#[test]
fn workers_are_the_user_that_was_asked_for_and_the_host_is_not() {
    if !rustix::process::geteuid().is_root() {
        return skip("root, to run workers as somebody else");
    }
    let site = Site::new();
    site.app(
        "one",
        "import os\nprint('imported by', os.getresuid(), os.getgroups(), flush=True)\n",
    );
    // What is given over the file counts, as everywhere.
    site.config("user = 1\ngroup = 1\ndef post_fork(server, worker):\n    print('hook of', worker.cfg.uid, flush=True)\n");
    let builder = site.builder().set("security.user", 65_533);
    let server = builder.set("security.group", 65_532).start();
    server.wait_log(&["hook of 65533"]);
    server.wait_log(&["imported by (65533, 65533, 65533) [65532]"]);
    assert_eq!(version(&server), "one");
    let killed = server.watch(server.worker_pids()[0]);
    killed.signal(Signal::KILL);
    server.wait_status("a new worker", |status| {
        status.workers.iter().any(|worker| worker.restarts == 1) && status.ready_workers == 2
    });
    server.shut_down();
}

#[test]
fn a_fork_of_a_preloaded_app_is_ready_at_once() {
    let site = Site::new();
    site.app("one", "print('imported', flush=True)\n");
    let server = site.plain().set("workers.preload", true).start();
    let worker = server.watch(server.worker_pids()[0]);
    worker.signal(Signal::KILL);
    server.wait_status("a new worker", |status| {
        status.workers.iter().any(|worker| worker.restarts == 1) && status.ready_workers == 2
    });
    server.shut_down();
    assert_eq!(
        server.log.count(&["imported"]),
        1,
        "it did not import again"
    );
}

#[test]
fn a_config_file_runs_where_gracefork_was_started_whatever_its_chdir() {
    let site = Site::new();
    site.write("count", "3");
    std::fs::create_dir(site.path("below")).unwrap();
    site.config("chdir = 'below'\nworkers = int(open('count').read())\n");
    let said = site.run(&[], &["config", "-c", "gunicorn_config.py", "main:app"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains("count = 3"), "{}", said.out);
    let below = site.path("below").canonicalize().unwrap();
    assert!(said.out.contains(below.to_str().unwrap()), "{}", said.out);
}

#[test]
fn the_usual_config_file_may_name_the_app() {
    let site = Site::new();
    site.write("gunicorn.conf.py", "wsgi_app = 'main:app'\n");
    let said = site.run(&[], &["check"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains("main:app"), "{}", said.out);
}

#[test]
fn files_of_the_app_that_are_called_as_modules_of_python_do_no_harm() {
    let site = Site::new();
    for name in [
        "types",
        "logging",
        "signal",
        "socket",
        "threading",
        "typing",
    ] {
        site.write(&format!("{name}.py"), "raise SystemExit('not this one')\n");
    }
    site.config("workers = 2\n");
    let server = site.builder().start();
    assert_eq!(version(&server), "one");
    server.shut_down();
}
