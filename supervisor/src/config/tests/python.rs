//! Python apps: what makes an app one, and the layers that only they have.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::Case;
use crate::config::{Interface, Level, Python, Script, WorkerCount, search_path};

fn python(case: &Case) -> Python {
    case.loads().config.python.expect("a Python app")
}

fn hosted() -> Case {
    Case::new().app(Some("main:app"))
}

#[test]
fn a_module_and_its_attribute_are_hosted_and_a_program_is_not() {
    let loaded = hosted().loads();
    assert_eq!(loaded.config.app.program, "main:app");
    assert_eq!(loaded.config.workers.level, Level::Native);
    let python = loaded.config.python.unwrap();
    assert_eq!(python.executable, Path::new("python3"));
    assert_eq!(python.interface, Interface::Auto);
    assert_eq!(Case::new().loads().config.python, None);
}

#[test]
fn a_module_alone_is_one_where_something_else_says_python() {
    let case = Case::new().app(Some("pkg.main"));
    assert_eq!(case.loads().config.python, None);
    let case = case.flag("python.interface", "--worker-class", "gthread");
    assert_eq!(case.loads().config.app.program, "pkg.main:application");
    assert_eq!(python(&case).interface, Interface::Wsgi);
}

#[test]
fn a_module_alone_is_one_where_it_lies_in_the_working_directory() {
    let here = tempfile::tempdir().unwrap();
    std::fs::create_dir(here.path().join("shop")).unwrap();
    std::fs::write(here.path().join("shop/wsgi.py"), "").unwrap();
    let here = here.path().to_str().unwrap();
    let case = |app| Case::new().app(Some(app)).flag("chdir", "--chdir", here);
    let loaded = case("shop.wsgi").loads();
    assert_eq!(loaded.config.app.program, "shop.wsgi:application");
    assert_eq!(case("shop.asgi").loads().config.python, None);
    // A program of that name comes first.
    let program = format!("{here}/shop.wsgi");
    std::fs::write(&program, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(
        &program,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let case = case("shop.wsgi").env("PATH", here);
    assert_eq!(case.loads().config.python, None);
}

#[test]
fn who_comes_from_uvicorn_has_its_limits_unless_others_are_given() {
    let limits = |case: &Case| {
        let http = case.loads().config.http;
        let [line, fields] = [http.limit_request_line, http.limit_request_fields];
        (line, fields, http.limit_request_field_size)
    };
    let case = |class| hosted().flag("python.interface", "-k", class);
    assert_eq!(limits(&case("asgi")), (4094, 100, 8190));
    let uvicorn = case("uvicorn.workers.UvicornWorker");
    assert_eq!(limits(&uvicorn), (65_534, 1000, 65_535));
    assert_eq!(python(&uvicorn).interface.protocol(), "asgi");
    let path = "http.limit_request_line";
    let given = uvicorn.flag(path, "--limit-request-line", "4094");
    assert_eq!(limits(&given), (4094, 1000, 65_535));
}

#[test]
fn worker_classes_of_gunicorn_are_understood() {
    for (class, interface) in [
        ("sync", Interface::Wsgi),
        ("gunicorn.workers.gthread.ThreadWorker", Interface::Wsgi),
        ("asgi", Interface::Asgi),
        ("uvicorn.workers.UvicornWorker", Interface::Uvicorn),
        ("uvicorn_worker.UvicornH11Worker", Interface::Uvicorn),
        ("auto", Interface::Auto),
    ] {
        let case = hosted().flag("python.interface", "--worker-class", class);
        assert_eq!(python(&case).interface, interface, "{class}");
    }
    hosted()
        .flag("python.interface", "--worker-class", "gevent")
        .fails_with(
            "error: invalid `python.interface`
  --> command line
  | --worker-class gevent
  |                ^^^^^^ expected \"auto\", \"wsgi\", \"asgi\" or \"uvicorn\"
  = help: use gthread with `--threads 8` or so; an app that needs its own event loop is better off as asgi, or with its own server as the program: gracefork PROGRAM -- --fd {fd}",
        );
}

#[test]
fn what_is_for_python_apps_is_refused_for_a_program() {
    Case::new().file("[workers]\npreload = true\n").fails_with(
        "error: the app `./server` is a program, not a Python app
  --> gracefork.toml:2:11
2 | preload = true
  |           ^^^^ this is for Python apps
  = help: remove it, or name the app as module:attribute",
    );
}

#[test]
fn an_app_that_names_a_file_is_told_how_to_name_a_module() {
    let case = Case::new()
        .app(Some("main.py:app-1"))
        .flag("python.loop", "--asgi-loop", "asyncio");
    case.fails_with(
        "error: invalid `app`
  --> command line
  | APP main.py:app-1
  |     ^^^^^^^^^^^^^ expected module:attribute, for example main:app
  = help: a file main.py is the module main",
    );
}

#[test]
fn a_config_program_is_named_by_its_file_or_as_a_module() {
    let named = |name: &str| {
        let case = hosted().gunicorn_args(&format!("-c {name}"));
        python(&case).config.unwrap()
    };
    let module = Script::Module("shop.settings".to_owned());
    assert_eq!(named("python:shop.settings"), module);
    let file = |path: &str| Script::File(std::path::absolute(path).unwrap());
    assert_eq!(named("shop/settings.py"), file("shop/settings.py"));
    assert_eq!(named("file:settings.conf"), file("settings.conf"));
    let case = hosted().file("[python]\nconfig = \"python:settings\"\n");
    let toml = case.loads().to_toml();
    assert!(toml.contains("config = \"python:settings\""), "{toml}");
}

#[test]
fn folders_to_import_from_are_a_list() {
    let case = hosted().flag("python.path", "--pythonpath", "src, vendor/lib");
    let folders = python(&case).path;
    assert_eq!(folders, [Path::new("src"), Path::new("vendor/lib")]);
    let told = search_path(&folders, Path::new("/srv"));
    assert_eq!(told, "/srv/src:/srv/vendor/lib");
    let case = hosted().file("[python]\npath = [\"/a\", \"b\"]\n");
    assert_eq!(python(&case).path, [Path::new("/a"), Path::new("b")]);
    hosted()
        .flag("python.path", "--pythonpath", "a,b:c")
        .fails_with(
            "error: invalid `python.path`
  --> command line
  | --pythonpath a,b:c
  |                ^^^ expected a folder, without a colon in its name",
        );
}

#[test]
fn a_config_program_lies_under_everything_else() {
    let answer = json!({
        "settings": {"workers.count": 4, "workers.threads": 2, "http.keep_alive": "5s"},
        "app": "wsgi:app",
        "warnings": ["worker_tmp_dir has no meaning"],
    });
    let case = Case::new()
        .app(None)
        .answer(&answer)
        .file("[workers]\nthreads = 3\n")
        .env("GRACEFORK_HTTP_KEEP_ALIVE", "9s");
    let loaded = case.loads();
    assert_eq!(loaded.config.app.program, "wsgi:app");
    assert_eq!(loaded.config.workers.count, WorkerCount::Fixed(4));
    assert_eq!(loaded.config.workers.threads, 3);
    assert_eq!(loaded.config.http.keep_alive, Duration::from_secs(9));
    assert_eq!(loaded.warnings, ["worker_tmp_dir has no meaning"]);
    assert_eq!(
        loaded.origin("workers.count").to_string(),
        "gunicorn_config.py"
    );
    let toml = loaded.to_toml();
    assert!(
        toml.contains("count = 4                           # gunicorn_config.py"),
        "{toml}"
    );
}

#[test]
fn a_value_of_a_config_program_that_does_not_fit_is_told_by_its_file() {
    let answer = json!({"settings": {"workers.count": "many", "workers.cout": 1}});
    hosted().answer(&answer).fails_with(
        "error: invalid `workers.count`
  --> gunicorn_config.py: expected \"auto\" or a whole number from 1 to 512, for example 4

error: unknown key `workers.cout`
  --> gunicorn_config.py: the package gracefork is of another release",
    );
}

#[test]
fn an_answer_that_is_none_is_told() {
    let mut case = hosted();
    case.answer = Some("hello\n".to_owned());
    let text = case.load().unwrap_err();
    assert!(
        text.contains("`gunicorn_config.py` gave no settings"),
        "{text}"
    );
}

#[test]
fn the_variable_of_other_servers_is_only_a_default_to_a_config_program() {
    let answer = json!({"settings": {"workers.count": 4}});
    let case = hosted().env("WEB_CONCURRENCY", "2");
    assert_eq!(case.loads().config.workers.count, WorkerCount::Fixed(2));
    let case = case.answer(&answer);
    assert_eq!(case.loads().config.workers.count, WorkerCount::Fixed(4));
}

#[test]
fn gunicorns_variable_is_over_the_files_and_under_the_rest() {
    let answer = json!({"settings": {"workers.count": 4, "workers.threads": 4}});
    let case = hosted()
        .answer(&answer)
        .env("WEB_CONCURRENCY", "9")
        .gunicorn_args("--workers=5 --threads '6' --capture-output -b :1 -b :2");
    let loaded = case.loads();
    assert_eq!(loaded.config.workers.count, WorkerCount::Fixed(5));
    assert_eq!(loaded.config.workers.threads, 6);
    assert_eq!(loaded.config.listen.bind.len(), 2);
    assert_eq!(
        loaded.origin("workers.count").to_string(),
        "env GUNICORN_CMD_ARGS"
    );
    assert_eq!(
        loaded.warnings,
        ["without effect here, and not needed: --capture-output"]
    );
    let case = case.env("GRACEFORK_WORKERS_COUNT", "7");
    assert_eq!(case.loads().config.workers.count, WorkerCount::Fixed(7));
    let case = case.flag("workers.threads", "--threads", "8");
    assert_eq!(case.loads().config.workers.threads, 8);
}

#[test]
fn a_mistake_in_gunicorns_variable_is_told_by_its_name() {
    hosted().gunicorn_args("--workers=4 -b :8o").fails_with(
        "error: invalid `listen.bind`
  --> environment variable GUNICORN_CMD_ARGS
  | GUNICORN_CMD_ARGS=--bind :8o
  |                          ^^^ expected a port from 0 to 65535 after the last \":\", for example \":8000\"",
    );
    hosted()
        .gunicorn_args("--wrokers 4")
        .fails_with("error: invalid `GUNICORN_CMD_ARGS`: unexpected argument '--wrokers' found");
    hosted()
        .gunicorn_args("-b 'x")
        .fails_with("error: invalid `GUNICORN_CMD_ARGS`: a quote is not closed");
}

#[test]
fn gunicorns_variable_is_nothing_to_a_program() {
    let case = Case::new().gunicorn_args("--workers 3 --wrokers");
    assert_eq!(case.loads().config.workers.count, WorkerCount::Auto);
}

#[test]
fn flags_that_change_nothing_are_named_for_a_python_app_and_refused_for_a_program() {
    let mut case = hosted();
    case.idle_flags = vec!["--name", "--worker-tmp-dir"];
    assert_eq!(
        case.loads().warnings,
        ["without effect here, and not needed: --name, --worker-tmp-dir"]
    );
    case.app(Some("./server")).fails_with(
        "error: `--name` is gunicorn's, and nothing to a program
  = help: leave it out",
    );
}

#[test]
fn the_grace_period_of_a_python_app_follows_its_time_to_drain() {
    let case = hosted().flag("shutdown.drain_timeout", "--graceful-timeout", "60s");
    let loaded = case.loads();
    assert_eq!(loaded.config.shutdown.grace_period, Duration::from_secs(65));
    assert_eq!(loaded.warnings.len(), 0);
    let in_pod = case.env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let warning = &in_pod.loads().warnings[0];
    assert!(warning.contains("grace period of 75s"), "{warning}");
    let case = in_pod.file("[shutdown]\ngrace_period = \"30s\"\n");
    assert!(case.load().unwrap_err().contains("does not fit"));
    let program = Case::new().flag("shutdown.drain_timeout", "--graceful-timeout", "60s");
    assert!(program.load().unwrap_err().contains("does not fit"));
}

#[test]
fn file_mode_bits_are_octal() {
    for (text, bits) in [("022", 0o22), ("0o27", 0o27), ("0", 0)] {
        let case = Case::new().flag("security.umask", "--umask", text);
        assert_eq!(case.loads().config.security.umask, Some(bits), "{text}");
    }
    for text in ["89", "1777", "+2", "0x12", ""] {
        let case = Case::new().flag("security.umask", "--umask", text);
        assert!(case.load().is_err(), "{text}");
    }
}
