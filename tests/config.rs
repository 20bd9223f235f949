//! Bad input: each one clear error that says what to do, and the right exit status.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::harness::command::{Said, run_in};
use crate::harness::programs::{Program, example, python_path, root};
use crate::harness::{Builder, Server};

#[test]
fn an_app_that_does_not_exist_is_exit_status_4() {
    let server = Builder::new(Program::new("/no/such/app")).spawn();
    ends_with(&server, 4, &["/no/such/app"]);
}

#[test]
fn an_app_that_is_not_in_path_is_exit_status_4() {
    let server = Builder::new(Program::new("no-such-app-anywhere")).spawn();
    ends_with(&server, 4, &["no-such-app-anywhere"]);
}

#[test]
fn an_app_that_is_not_executable_is_exit_status_4() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app");
    fs::write(&path, "just a text").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let server = Builder::new(Program::new(&path)).spawn();
    ends_with(&server, 4, &[path.to_str().unwrap(), "execut"]);
}

#[test]
fn an_app_that_is_a_folder_is_exit_status_4() {
    let server = Builder::new(Program::new("/usr")).spawn();
    ends_with(&server, 4, &["/usr"]);
}

#[test]
fn a_script_whose_interpreter_is_missing_is_exit_status_4() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app");
    fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let server = Builder::new(Program::new(&path)).spawn();
    ends_with(&server, 4, &[path.to_str().unwrap()]);
}

#[test]
fn no_app_at_all_is_exit_status_1() {
    let said = run(&[]);
    assert!(
        matches!(said.code, Some(1 | 2)),
        "{:?}: {}",
        said.code,
        said.err
    );
    assert!(said.err.to_lowercase().contains("app"), "{}", said.err);
}

#[test]
fn a_port_that_is_taken_is_exit_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let server = Builder::axum().bind([address.clone()]).spawn();
    ends_with(&server, 1, &[&address, "in use"]);
}

#[test]
fn an_ops_port_that_is_taken_is_exit_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let server = Builder::axum()
        .set("health.listen", address.clone())
        .spawn();
    ends_with(&server, 1, &[&address, "in use"]);
}

#[test]
fn a_config_file_that_is_missing_is_exit_status_1() {
    let said = run(&["-c", "/no/such/gracefork.toml", "/bin/true"]);
    refuses(&said, &["/no/such/gracefork.toml"]);
}

#[test]
fn a_typo_is_pointed_at_and_the_nearest_name_suggested() {
    let said = run_with("[shutdown]\ngrace_period = \"30s\"\nlamedcuk = \"3s\"\n");
    refuses(&said, &["lamedcuk", ":3:1", "lameduck", "^"]);
}

#[test]
fn an_unknown_section_is_pointed_at() {
    let said = run_with("[shutdwon]\nlameduck = \"3s\"\n");
    refuses(&said, &["shutdwon", "shutdown", ":1:"]);
}

#[test]
fn a_wrong_type_is_pointed_at() {
    let said = run_with("[workers]\ncount = [1]\n");
    refuses(&said, &["count", ":2:9", "^"]);
}

#[test]
fn a_wrong_duration_is_pointed_at_with_what_would_fit() {
    let said = run_with("[shutdown]\nlameduck = \"30x\"\n");
    refuses(&said, &["lameduck", ":2:12", "^", "30x", "for example"]);
}

#[test]
fn a_wrong_address_is_pointed_at() {
    let said = run_with("[listen]\nbind = [\"127.0.0.1:port\"]\n");
    refuses(&said, &["bind", "127.0.0.1:port", ":2:"]);
}

#[test]
fn durations_that_cannot_add_up_are_refused_with_the_sum() {
    let text = "[shutdown]\ngrace_period = \"30s\"\nlameduck = \"20s\"\ndrain_timeout = \"20s\"\nkill_margin = \"5s\"\n";
    refuses(
        &run_with(text),
        &["grace_period", "lameduck", "drain_timeout", "45s"],
    );
}

#[test]
fn more_workers_to_be_ready_than_there_are_is_refused() {
    let said = run_with("[workers]\ncount = 2\nmin_ready = 3\n");
    refuses(&said, &["min_ready"]);
}

#[test]
fn no_toml_at_all_is_pointed_at() {
    let said = run_with("[shutdown\nlameduck = 3\n");
    refuses(&said, &[":1:"]);
}

#[test]
fn what_is_not_built_yet_is_refused_and_not_swallowed() {
    let said = run_with("[control]\nsocket = \"auto\"\n");
    refuses(&said, &["not supported yet", "control"]);
    let said = run_with("[reload]\nwatch = [\"src\"]\n");
    refuses(&said, &["not supported yet", "watch"]);
}

#[test]
fn a_format_of_the_access_log_with_an_unknown_atom_is_refused_by_its_name() {
    let said = run_with("[log]\naccess = \"-\"\naccess_format = \"%(h)s %(z)s\"\n");
    refuses(&said, &["access_format", "`%(z)s` is no atom", ":3:17"]);
}

#[test]
fn a_wrong_flag_is_told_with_the_nearest() {
    let said = run(&["--wokers", "2", "/bin/true"]);
    assert!(matches!(said.code, Some(1 | 2)), "{:?}", said.code);
    assert!(said.err.contains("--wokers"), "{}", said.err);
}

#[test]
fn check_accepts_a_good_config_and_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gracefork.toml");
    fs::write(&path, "[workers]\ncount = 3\n").unwrap();
    let app = example("axum-app").path;
    let said = run(&["check", "-c", path.to_str().unwrap(), app.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
}

#[test]
fn every_config_that_is_shipped_is_good() {
    let mut seen = 0;
    for entry in fs::read_dir(root().join("config")).unwrap() {
        let path = entry.unwrap().path();
        let said = run(&["check", "-c", path.to_str().unwrap(), "/bin/true"]);
        assert_eq!(said.code, Some(0), "{}: {}", path.display(), said.err);
        seen += 1;
    }
    assert!(seen >= 3, "config/ has {seen} files");
}

#[test]
fn check_refuses_a_bad_config() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gracefork.toml");
    fs::write(&path, "[workers]\ncuont = 3\n").unwrap();
    let said = run(&["check", "-c", path.to_str().unwrap(), "/bin/true"]);
    refuses(&said, &["cuont", "count"]);
}

#[test]
fn config_prints_every_value_and_where_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gracefork.toml");
    fs::write(
        &path,
        "[workers]\ncount = 3\n[shutdown]\nlameduck = \"7s\"\n",
    )
    .unwrap();
    let said = run(&[
        "config",
        "-c",
        path.to_str().unwrap(),
        "-b",
        "127.0.0.1:8123",
        "/bin/true",
    ]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    for part in [
        "lameduck",
        "7s",
        "gracefork.toml",
        "127.0.0.1:8123",
        "drain_timeout",
        "default",
    ] {
        assert!(said.out.contains(part), "no {part} in:\n{}", said.out);
    }
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let effective = |environment: &[(&str, &str)], flags: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gracefork.toml");
        fs::write(&path, "[workers]\ncount = 3\n").unwrap();
        let mut args = vec!["config", "-c", path.to_str().unwrap()];
        args.extend(flags);
        args.push("/bin/true");
        let said = run_in(Path::new("/"), environment, &args);
        let line = said
            .out
            .lines()
            .find(|line| line.trim_start().starts_with("count"));
        line.unwrap_or_else(|| panic!("no count in:\n{}{}", said.out, said.err))
            .to_owned()
    };
    assert!(effective(&[], &[]).contains('3'));
    assert!(effective(&[("GRACEFORK_WORKERS_COUNT", "4")], &[]).contains('4'));
    assert!(effective(&[("GRACEFORK_WORKERS_COUNT", "4")], &["-w", "5"]).contains('5'));
}

/// The server ends with this status and one error that has all of `parts`.
#[track_caller]
fn ends_with(server: &Server, code: i32, parts: &[&str]) {
    server.expect_exit(code);
    server.wait_log(parts);
    assert!(
        server.log.lines().len() < 15,
        "one clear error:\n{}",
        server.log.text()
    );
}

/// Exit status 1 and one error that has all of `parts`.
#[track_caller]
fn refuses(said: &Said, parts: &[&str]) {
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("error"), "{}", said.err);
    assert_eq!(
        said.err.matches("error:").count(),
        1,
        "one error:\n{}",
        said.err
    );
    for part in parts {
        assert!(said.err.contains(part), "no {part} in:\n{}", said.err);
    }
}

/// Runs the axum app with this config file, which is expected to be refused.
#[test]
fn a_gunicorn_config_file_is_printed_as_toml() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gunicorn_config.py");
    fs::write(&path, "workers = 3\nkeepalive = 5\nprint('noise')\n").unwrap();
    let said = migrate(path.to_str().unwrap());
    assert_eq!(said.code, Some(0), "{}", said.err);
    let toml: toml::Table = said.out.parse().unwrap();
    assert_eq!(toml["workers"]["count"].as_integer(), Some(3));
    assert_eq!(toml["http"]["keep_alive"].as_str(), Some("5s"));
    let written = folder.path().join("gracefork.toml");
    fs::write(&written, &said.out).unwrap();
    let said = run(&["check", "-c", written.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{}", said.err);
}

#[test]
fn a_gunicorn_config_file_that_cannot_be_printed_is_told() {
    let said = migrate("no.py");
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    assert!(said.err.contains("no.py"), "{}", said.err);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gracefork.toml");
    fs::write(&path, "").unwrap();
    let said = migrate(path.to_str().unwrap());
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.contains("name one that ends in .py"),
        "{}",
        said.err
    );
}

/// `gracefork migrate`, with the package of the source tree.
fn migrate(file: &str) -> Said {
    let package = root().join("worker-api/python");
    let environment = [
        ("PYTHONPATH", package.to_str().unwrap()),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("GRACEFORK_PYTHON_EXECUTABLE", python_path()),
    ];
    run_in(Path::new("."), &environment, &["migrate", file])
}

fn run_with(text: &str) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gracefork.toml");
    fs::write(&path, text).unwrap();
    run(&["-c", path.to_str().unwrap(), "/bin/true"])
}

fn run(args: &[&str]) -> Said {
    run_in(Path::new("/"), &[], args)
}
