//! Workers that run as another user than the master.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::programs::{Program, example, gracefork, python_path, root};
use crate::harness::skip::skip;
use crate::harness::{Builder, Load, Server, Signal, Target};

const USER: u32 = 65_533;
const GROUP: u32 = 65_532;

fn owned(builder: Builder) -> Builder {
    builder
        .set("security.user", i64::from(USER))
        .set("security.group", i64::from(GROUP))
}

/// What a process is by proc(5): its users, groups and other groups.
fn identity(pid: u32) -> [String; 3] {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    ["Uid:", "Gid:", "Groups:"].map(|key| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        words.join(" ")
    })
}

/// Real, effective and saved user and group, that of files, and no other group.
fn theirs() -> [String; 3] {
    let four = |id: u32| [id.to_string().as_str(); 4].join(" ");
    [four(USER), four(GROUP), GROUP.to_string()]
}

#[track_caller]
fn assert_owned(server: &Server) {
    for pid in server.worker_pids() {
        assert_eq!(identity(pid), theirs());
    }
    assert!(identity(server.pid())[0].starts_with("0 0 0"));
}

/// SIGHUP, until there are only new workers.
#[track_caller]
fn reload(server: &Server) {
    let before = server.status().generation;
    server.signal(Signal::HUP);
    server.wait_status("the new generation alone", |status| {
        let mut workers = status.workers.iter();
        workers.all(|worker| worker.generation > before) && status.ready_workers == 2
    });
}

/// Runs a program as root without what these options of setpriv take from it.
fn setpriv(options: &[&str], program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(options)
        .arg(program)
        .args(args)
        .stdin(Stdio::null());
    command
}

const AS_USER: [&str; 5] = [
    "--reuid=65533",
    "--regid=65532",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all",
];

/// Whether that user may run this program, by itself and not by what setpriv may reach.
fn user_may_run(program: &Path, args: &[&str]) -> bool {
    let line = "exec \"$0\" \"$@\"";
    let program = program.to_str().unwrap();
    let args = [&["-c", line, program], args].concat();
    let mut command = setpriv(&AS_USER, Path::new("/bin/sh"), &args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Workers that are programs, as far as this machine lets their user run them.
fn programs() -> Vec<Builder> {
    let examples = ["axum-app", "mio-app"].map(example);
    let runnable = |program: &Program| {
        let path = program.path.to_str().unwrap();
        user_may_run(Path::new("/usr/bin/test"), &["-x", path])
    };
    let examples = examples.into_iter().filter(runnable);
    examples.map(Builder::new).collect()
}

/// A script of `tests/workers`, with an interpreter that the user may run.
fn script(name: &str) -> Option<Builder> {
    let candidates = [python_path(), "/usr/bin/python3"];
    let test = "import json, mmap, select, socket";
    let fits = |path: &&str| user_may_run(Path::new(path), &["-c", test]);
    let python = candidates.into_iter().find(fits)?;
    let script = root().join("tests/workers").join(name);
    let program = Program::new(python).arg("-S").arg("-B").arg("-u");
    Some(Builder::new(program.arg(script.to_str().unwrap())))
}

const NEEDS: &str = "root, setpriv, and binaries that any user may execute";

#[test]
fn native_workers_are_the_user_all_their_life_long_and_lose_nothing() {
    let builders = programs();
    if builders.is_empty() {
        return skip(NEEDS);
    }
    for builder in builders {
        let server = owned(builder).lameduck("30s").start();
        assert_owned(&server);
        let load = Load::start(&server.target);
        load.wait_for(100);
        let victim = server.watch(server.worker_pids()[0]);
        reload(&server);
        server.wait_gone(&victim);
        assert_owned(&server);
        load.wait_for(200);
        server.signal(Signal::TERM);
        server.wait_status("lameduck", |status| status.phase == "lameduck");
        load.stop().assert_none_lost();
        // Lameduck is over when all is seen that belongs to it.
        server.signal(Signal::INT);
        server.expect_exit(0);
        server.assert_no_leftovers();
    }
}

#[test]
fn a_worker_that_hangs_at_the_end_is_killed_though_it_is_somebody_else() {
    let Some(builder) = script("swallow.py") else {
        return skip("an interpreter that any user may execute");
    };
    let server = owned(builder)
        .level("plain")
        .silent()
        .drain_timeout("500ms")
        .start();
    assert_owned(&server);
    server.signal(Signal::TERM);
    server.expect_exit(5);
    server.assert_no_leftovers();
}

#[test]
fn notify_workers_are_heard() {
    let Some(builder) = script("notifier.py") else {
        return skip("an interpreter that any user may execute");
    };
    let server = owned(builder).level("notify").start();
    assert_owned(&server);
    server.wait_status("what they say", |status| {
        let mut workers = status.workers.iter();
        workers.all(|worker| worker.status.as_deref() == Some("serving"))
    });
    server.shut_down();
}

#[test]
fn plain_workers_learn_that_the_master_was_killed() {
    let Some(builder) = script("plain.py") else {
        return skip("an interpreter that any user may execute");
    };
    let server = owned(builder).level("plain").silent().start();
    assert_owned(&server);
    let workers = server.watch_workers();
    server.signal(Signal::KILL);
    server.wait_exit();
    workers.iter().for_each(|worker| server.wait_gone(worker));
    server.assert_no_leftovers();
}

#[test]
fn the_user_is_another_after_a_reload_that_names_one() {
    let Some(builder) = programs().pop() else {
        return skip(NEEDS);
    };
    let server = builder.start();
    let own = identity(server.pid());
    assert_eq!(identity(server.worker_pids()[0]), own);
    server.set("security.user", i64::from(USER));
    server.set("security.group", i64::from(GROUP));
    reload(&server);
    assert_owned(&server);
    server.shut_down();
}

#[test]
fn the_socket_and_the_access_log_are_theirs_and_a_new_one_too() {
    let Some(builder) = programs().into_iter().next() else {
        return skip(NEEDS);
    };
    // Theirs to use, not to write to.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let [socket, log, moved] =
        ["app.sock", "access.log", "access.log.1"].map(|name| folder.path().join(name));
    let server = owned(builder)
        .set("security.umask", "0027")
        .set("log.access", log.to_str().unwrap())
        .bind([format!("unix:{}", socket.display())])
        .target(Target::Unix(socket.clone()))
        .start();
    let of = |path: &Path| {
        let file = fs::metadata(path).unwrap();
        (file.uid(), file.gid(), file.mode() & 0o777)
    };
    assert_eq!(of(&socket), (USER, GROUP, 0o750));
    assert_eq!(&of(&log).0, &USER);
    let has_lines = |path: &Path| fs::metadata(path).is_ok_and(|file| file.len() > 0);
    server.get("/");
    server.wait("a line of the log", || has_lines(&log).then_some(()));
    fs::rename(&log, &moved).unwrap();
    server.signal(Signal::USR1);
    server.wait("a line of the new log", || {
        server.get("/");
        has_lines(&log).then_some(())
    });
    assert_eq!(of(&log).0, USER);
    assert_eq!(server.log.count(&["cannot be reopened"]), 0);
    server.shut_down();
}

#[test]
fn an_access_log_that_they_may_not_write_to_is_told_at_the_start() {
    let Some(builder) = programs().pop() else {
        return skip(NEEDS);
    };
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    fs::write(&log, "of the time as root\n").unwrap();
    let server = owned(builder)
        .set("log.access", log.to_str().unwrap())
        .spawn();
    server.expect_exit(1);
    server.wait_log(&["workers run as user 65533, group 65532, who may not write to it"]);
    server.wait_log(&["help: chown 65533:65532", log.to_str().unwrap()]);
    assert_eq!(
        fs::metadata(&log).unwrap().uid(),
        0,
        "it is left whose it is"
    );
}

/// What `gracefork check` says to these flags, as somebody.
fn check(options: &[&str], flags: &[&str]) -> (Option<i32>, String) {
    let args = [&["check"], flags, &["/bin/true"]].concat();
    let output = setpriv(options, gracefork(), &args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn who_may_not_change_users_is_told_what_to_do() {
    if programs().is_empty() {
        return skip(NEEDS);
    }
    let (code, said) = check(&AS_USER, &["--user", "0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--user 0\n  |        ^ gracefork runs as user 65533, not as root"));
    assert!(
        said.contains("= help: start gracefork as root; or leave"),
        "{said}"
    );
    let own = check(&AS_USER, &["-u", "65533", "-g", "65532"]);
    assert_eq!(own.0, Some(0), "{}", own.1);
    // A container that was left root, and not what root could.
    let without = ["--inh-caps=-kill", "--bounding-set=-kill"];
    let (code, said) = check(&without, &["--user", "1", "--group", "1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("gracefork runs as root without CAP_KILL"),
        "{said}"
    );
}

#[test]
fn the_other_groups_of_a_user_are_only_theirs_on_request() {
    let Some(user) = user_with_groups() else {
        return skip("a user with several groups");
    };
    for (initgroups, groups) in [(false, &user.1[..1]), (true, &user.1[..])] {
        let Some(builder) = programs().pop() else {
            return skip(NEEDS);
        };
        let server = builder
            .set("security.user", user.0.clone())
            .set("security.initgroups", initgroups)
            .start();
        let found = identity(server.worker_pids()[0]);
        let found: BTreeSet<u32> = found[2].split(' ').map(|id| id.parse().unwrap()).collect();
        assert_eq!(found, groups.iter().copied().collect());
        server.shut_down();
    }
}

/// A user who is not root, and all their groups, their own first.
fn user_with_groups() -> Option<(String, Vec<u32>)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let names = passwd.lines().filter_map(|line| line.split(':').next());
    let groups = |name: &str| {
        let output = Command::new("id").args(["-G", name]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.split_whitespace()
            .map(|id| id.parse().ok())
            .collect::<Option<Vec<u32>>>()
    };
    let mut users = names.filter(|name| *name != "root").filter_map(|name| {
        let groups = groups(name)?;
        (groups.len() > 1).then(|| (name.to_owned(), groups))
    });
    users.next()
}
