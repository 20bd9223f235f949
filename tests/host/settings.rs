//! What gunicorn's users give besides the app: the config file, variables, flags.

use std::net::TcpListener;

use super::site::Site;
use super::{reload, version};
use crate::harness::Target;

/// The line of `gracefork config` that has this key.
#[track_caller]
fn line(out: &str, key: &str) -> String {
    let line = out
        .lines()
        .find(|line| line.starts_with(&format!("{key} = ")));
    line.unwrap_or_else(|| panic!("no {key} in:\n{out}"))
        .to_owned()
}

#[test]
fn a_gunicorn_config_file_is_a_layer_of_its_own() {
    let site = Site::new();
    site.config(
        "import os\nworkers = 3\nthreads = 4\nkeepalive = 7\ntimeout = 45\nprint('hello')\n",
    );
    let said = site.run(
        &[("GRACEFORK_WORKERS_THREADS", "5"), ("WEB_CONCURRENCY", "9")],
        &[
            "config",
            "-c",
            "gunicorn_config.py",
            "--keep-alive",
            "8",
            "main:app",
        ],
    );
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(said.err, "hello\n");
    assert!(line(&said.out, "count").contains("3  "), "{}", said.out);
    assert!(line(&said.out, "count").ends_with("/gunicorn_config.py"));
    assert!(line(&said.out, "threads").contains("5  "));
    assert!(line(&said.out, "keep_alive").contains("8s"));
    assert!(line(&said.out, "hang_timeout").contains("45s"));
}

#[test]
fn the_usual_config_file_is_found_for_a_python_app_alone() {
    let site = Site::new();
    site.write("gunicorn.conf.py", "workers = 3\n");
    let said = site.run(&[], &["config", "main:app"]);
    assert!(
        line(&said.out, "count").ends_with("/gunicorn.conf.py"),
        "{}",
        said.out
    );
    assert!(line(&said.out, "config").ends_with("default: found in the working directory"));
    let said = site.run(&[], &["config", "./server"]);
    assert!(
        line(&said.out, "count").ends_with("default"),
        "{}",
        said.out
    );
    site.write("gracefork.toml", "app = \"main:app\"\n");
    let said = site.run(&[], &["config", "-c", "gracefork.toml"]);
    assert!(
        line(&said.out, "count").ends_with("default"),
        "{}",
        said.out
    );
}

#[test]
fn the_config_and_the_app_may_be_modules_of_a_folder_that_is_named() {
    let site = Site::new();
    std::fs::create_dir(site.path("src")).unwrap();
    site.write("src/conf.py", "workers = 1\n");
    std::fs::rename(site.path("main.py"), site.path("src/main.py")).unwrap();
    let words = ["-c", "python:conf", "--pythonpath", "src", "main:app"];
    let said = site.run(&[], &[&["config"][..], &words].concat());
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(
        line(&said.out, "count").ends_with("python:conf"),
        "{}",
        said.out
    );
    let server = site
        .plain()
        .set("python.config", "python:conf")
        .set("python.path", vec!["src"])
        .set("workers.count", 1)
        .start();
    assert_eq!(server.get("/").text(), "one");
    server.shut_down();
}

#[test]
fn what_concerns_asgi_apps_alone_may_be_a_flag() {
    let site = Site::new();
    let flags = ["--root-path", "/x", "--websocket-max-message-size=9"];
    let said = site.run(&[], &[&["config", "main:app"][..], &flags].concat());
    let told = [
        ("root_path", "= \"/x\" ", "# --root-path"),
        (
            "ws_max_message_size",
            "= 9 ",
            "# --websocket-max-message-size",
        ),
    ];
    for (key, value, origin) in told {
        let line = line(&said.out, key);
        assert!(line.contains(value) && line.ends_with(origin), "{line}");
    }
}

#[test]
fn a_config_module_that_is_not_there_is_told() {
    let site = Site::new();
    let said = site.run(&[], &["check", "-c", "python:no.such", "main:app"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("no module 'no'"), "{}", said.err);
    assert!(said.err.contains("--pythonpath"), "{}", said.err);
}

#[test]
fn a_config_file_may_name_the_app() {
    let site = Site::new();
    site.config("wsgi_app = 'main:app'\n");
    let said = site.run(&[], &["check", "-c", "gunicorn_config.py"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.starts_with("ok: main:app"), "{}", said.out);
}

#[test]
fn gunicorns_variable_is_read_and_may_name_the_config_file() {
    let site = Site::new();
    site.config("workers = 3\nthreads = 3\n");
    let variable = [(
        "GUNICORN_CMD_ARGS",
        "-c gunicorn_config.py --threads=4 --reuse-port",
    )];
    let said = site.run(&variable, &["config", "main:app"]);
    assert!(
        line(&said.out, "threads").ends_with("env GUNICORN_CMD_ARGS"),
        "{}",
        said.out
    );
    assert!(
        line(&said.out, "count").ends_with("/gunicorn_config.py"),
        "{}",
        said.out
    );
    let said = site.run(&variable, &["check", "main:app"]);
    assert_eq!(said.code, Some(0));
    assert!(
        said.err.contains("not needed: --reuse-port"),
        "{}",
        said.err
    );
    let said = site.run(
        &[("GUNICORN_CMD_ARGS", "--workers=many")],
        &["check", "main:app"],
    );
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.contains("environment variable GUNICORN_CMD_ARGS"),
        "{}",
        said.err
    );
}

#[test]
fn a_command_of_a_container_works_with_its_first_word_changed() {
    let site = Site::new();
    site.write("main.py", "async def app(scope, receive, send): ...\n");
    site.config("bind = '127.0.0.1:0'\nworkers = 2\nworker_tmp_dir = '/dev/shm'\n");
    let command = "check -c gunicorn_config.py -k uvicorn.workers.UvicornWorker -w 2 --threads 2 \
        --timeout 30 --graceful-timeout 30 --keep-alive 5 --max-requests 1000 --max-requests-jitter 50 \
        --worker-tmp-dir /dev/shm --access-logfile - --error-logfile - --log-level info --preload \
        --forwarded-allow-ips=* --name site --capture-output -R --no-sendfile main:app";
    let words: Vec<&str> = command.split_whitespace().collect();
    let said = site.run(&[], &words);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(
        said.err.lines().count(),
        2,
        "one line for the file, one for the flags: {}",
        said.err
    );
}

#[test]
fn what_has_no_place_here_is_told_with_the_way_out() {
    let site = Site::new();
    let said = site.run(&[], &["check", "-k", "gevent", "main:app"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("--threads 8"), "{}", said.err);
    site.config("worker_class = 'gevent'\n");
    let said = site.run(&[], &["check", "-c", "gunicorn_config.py", "main:app"]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.contains("gevent") && said.err.contains("help:"),
        "{}",
        said.err
    );
}

#[test]
fn a_config_file_that_is_not_there_or_fails_is_one_error() {
    let site = Site::new();
    let said = site.run(&[], &["check", "-c", "gunicorn_config.py", "main:app"]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.contains("gunicorn_config.py") && said.err.contains("no such file"),
        "{}",
        said.err
    );
    site.config("import nothing_like_this\n");
    let said = site.run(&[], &["config", "-c", "gunicorn_config.py", "main:app"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("line 1, in <module>"), "{}", said.err);
    assert_eq!(said.err.matches("error: ").count(), 1, "{}", said.err);
    assert!(!said.err.contains("gracefork/_config.py"), "{}", said.err);
}

#[test]
fn sockets_that_are_handed_over_go_before_the_bind_of_a_gunicorn_config() {
    let site = Site::new();
    site.app("one", "");
    site.config("bind = '127.0.0.1:1'\n");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::Tcp(tcp.local_addr().unwrap());
    let mut builder = site.builder().socket_activated(vec![tcp.into()]);
    builder.config.remove("listen");
    let server = builder.target(target).start();
    assert_eq!(version(&server), "one");
    reload(&server);
    assert_eq!(version(&server), "one");
    server.shut_down();
}
