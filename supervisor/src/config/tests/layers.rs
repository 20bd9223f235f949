//! Flags over environment over file over defaults, and who is blamed.

use super::super::{LogLevel, Origin, Sources, StopSignal, WorkerCount, load};
use super::Case;

#[test]
fn each_layer_is_over_the_one_below() {
    let file = || Case::new().file("[workers]\ncount = 2\n");
    let count = |case: Case| {
        let loaded = case.loads();
        (
            loaded.config.workers.count,
            loaded.origin("workers.count").to_string(),
        )
    };
    assert_eq!(count(Case::new()), (WorkerCount::Auto, "default".into()));
    let (of_file, origin) = count(file());
    assert_eq!(of_file, WorkerCount::Fixed(2));
    assert!(origin.ends_with("gracefork.toml:2"), "{origin}");
    let common = || file().env("WEB_CONCURRENCY", "3");
    assert_eq!(
        count(common()),
        (WorkerCount::Fixed(3), "env WEB_CONCURRENCY".into())
    );
    let own = || common().env("GRACEFORK_WORKERS_COUNT", "4");
    assert_eq!(
        count(own()),
        (WorkerCount::Fixed(4), "env GRACEFORK_WORKERS_COUNT".into())
    );
    let flag = own().flag("workers.count", "--workers", "5");
    assert_eq!(count(flag), (WorkerCount::Fixed(5), "--workers".into()));
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let loaded = Case::new()
        .env("WEB_CONCURRENCY", "")
        .env("PORT", "")
        .loads();
    assert_eq!(loaded.config, Case::new().loads().config);
}

#[test]
fn port_is_taken_when_nothing_else_says_where_to_listen() {
    let bind = |case: Case| case.loads().config.listen.bind[0].to_string();
    assert_eq!(bind(Case::new().env("PORT", "8080")), "0.0.0.0:8080");
    let file = Case::new()
        .file("listen.bind = [\"[::]:9000\"]")
        .env("PORT", "8080");
    assert_eq!(bind(file), "[::]:9000");
    let flag = Case::new()
        .flag("listen.bind", "--bind", "fd:3")
        .env("PORT", "x");
    assert_eq!(bind(flag), "fd:3");
    Case::new().env("PORT", "http").fails_with(
        "error: invalid `PORT`
  --> environment variable PORT
  | PORT=http
  |      ^^^^ expected a port from 0 to 65535, for example 8080",
    );
}

#[test]
fn lists_and_tables_can_be_written_in_a_variable() {
    let loaded = Case::new()
        .env("GRACEFORK_LISTEN_BIND", "127.0.0.1:1, [::]:8000,unix:/a,b")
        .env("GRACEFORK_ARGS", r#"["a b", "c"]"#)
        .env("GRACEFORK_ENV", "A=1 B=x=y")
        .load();
    assert_eq!(
        loaded.unwrap_err(),
        r#"error: invalid `listen.bind`
  --> environment variable GRACEFORK_LISTEN_BIND
  | GRACEFORK_LISTEN_BIND=127.0.0.1:1, [::]:8000,unix:/a,b
  |                                                      ^ expected an address, for example "0.0.0.0:8000", "[::]:8000", "unix:/run/app.sock" or "fd:3""#
    );
    let config = Case::new()
        .env("GRACEFORK_LISTEN_BIND", r#"["127.0.0.1:1", "fd:3"]"#)
        .env("GRACEFORK_ARGS", "--fd {fd}")
        .env("GRACEFORK_ENV", r#"{ A = "1 2" }"#)
        .loads()
        .config;
    assert_eq!(config.listen.bind.len(), 2);
    assert_eq!(config.app.args, ["--fd", "{fd}"]);
    assert_eq!(config.app.env["A"], "1 2");
}

#[test]
fn variables_of_the_app_add_up_over_the_layers() {
    let env = Case::new()
        .file("env = { A = \"file\", B = \"file\" }")
        .env("GRACEFORK_ENV", "B=env C=env")
        .flag("env", "--env", "C=flag")
        .flag("env", "--env", "D=with blanks")
        .loads()
        .config
        .app
        .env;
    let pairs: Vec<_> = env
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(pairs, ["A=file", "B=env", "C=flag", "D=with blanks"]);
}

#[test]
fn arguments_after_the_dashes_follow_those_of_the_file() {
    let sources = Sources {
        env: [("GRACEFORK_ARGS".to_owned(), "--fd {fd}".to_owned())].into(),
        app: Some("uvicorn".into()),
        args: vec!["main:app".into()],
        ..Sources::default()
    };
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.config.app.args, ["--fd", "{fd}", "main:app"]);
    assert_eq!(loaded.origin("args"), &Origin::Flag("--".into()));
}

#[test]
fn mistakes_in_variables_and_flags_are_told_by_name() {
    Case::new()
        .env("GRACEFORK_WORKERS_COUNT", "many")
        .env("GRACEFORK_WORKERS_HANG_TIMEOUT", "30")
        .env("GRACEFORK_RELOAD_WATCH", "src")
        .flag("listen.bind", "--bind", ":80")
        .flag("listen.bind", "--bind", "80")
        .flag("log.level", "--log-level", "loud\u{1b}[0m")
        .fails_with(
            r#"error: invalid `workers.count`
  --> environment variable GRACEFORK_WORKERS_COUNT
  | GRACEFORK_WORKERS_COUNT=many
  |                         ^^^^ expected "auto" or a whole number from 1 to 512, for example 4

error: invalid `workers.hang_timeout`
  --> environment variable GRACEFORK_WORKERS_HANG_TIMEOUT
  | GRACEFORK_WORKERS_HANG_TIMEOUT=30
  |                                ^^ expected a duration ("0s" = off), for example "60s"
  = help: a duration needs its unit: 30s for seconds, 30ms for milliseconds

error: `reload.watch` is not supported yet
  --> environment variable GRACEFORK_RELOAD_WATCH
  | GRACEFORK_RELOAD_WATCH=src
  |                        ^^^ remove it

error: invalid `log.level`
  --> command line
  | --log-level loud\u{1b}[0m
  |             ^^^^^^^^^^^^^ expected "error", "warn", "info", "debug" or "trace"

error: invalid `listen.bind`
  --> command line
  | --bind :80 --bind 80
  |                   ^^ expected an address; for a port on all addresses write ":80""#,
        );
}

#[test]
fn unknown_variables_are_a_warning_and_those_of_others_are_nobodys() {
    let loaded = Case::new()
        .env("GRACEFORK_WORKERS_COUTN", "4")
        .env("GRACEFORK_COLOUR", "red")
        .env("GRACEFORK_WORKER", "0")
        .env("GRACEFORK_GENERATION", "1")
        .env("GRACEFORK_SERVICE_HOST", "10.0.0.1")
        .env("GRACEFORK_PORT_8000_TCP", "tcp://10.0.0.1:8000")
        .loads();
    assert_eq!(
        loaded.warnings,
        [
            "the environment variable GRACEFORK_COLOUR is no setting: it is ignored",
            "the environment variable GRACEFORK_WORKERS_COUTN is no setting: did you mean GRACEFORK_WORKERS_COUNT?",
        ]
    );
}

#[test]
fn words_of_other_worlds_are_understood() {
    let config = Case::new()
        .file("[workers]\nstop_signal = \"INT\"\nhang_timeout = 0\n[log]\nlevel = \"warning\"\n");
    let config = config.loads().config;
    assert_eq!(config.workers.stop_signal, StopSignal::Int);
    assert_eq!(config.workers.hang_timeout, None);
    assert_eq!(config.log.level, LogLevel::Warn);
    let by_number = Case::new()
        .env("GRACEFORK_WORKERS_STOP_SIGNAL", "15")
        .loads();
    assert_eq!(by_number.config.workers.stop_signal, StopSignal::Term);
}

#[test]
fn loading_the_same_sources_again_gives_the_same() {
    let case = Case::new()
        .env("GRACEFORK_ENV", "A=1")
        .flag("listen.bind", "--bind", ":1");
    assert_eq!(case.loads(), case.loads());
}

#[test]
fn what_config_prints_is_a_config_that_gives_the_same() {
    let loaded = Case::new()
        .file("args = [\"a\\\"\\u001b\"]\n[health]\nlisten = \"127.0.0.1:9090\"\n[shutdown]\nprobe = { period = \"2s\" }\n")
        .env("GRACEFORK_ENV", "A=1")
        .env("WEB_CONCURRENCY", "2")
        .flag("workers.max_rss", "--max-rss", "1GiB")
        .loads();
    let text = loaded.to_toml();
    assert_eq!(Case::new().file(&text).loads().config, loaded.config);
    assert!(!text.contains('\u{1b}'));
    for line in [
        "count = 2                           # env WEB_CONCURRENCY",
        "backlog = 2048                      # default",
        "lameduck = \"10s\"                    # default: probe, 3 x 2s + 1s + 3s",
        "drain_timeout = \"15s\"               # default: grace_period - lameduck - kill_margin",
        "# path is not set",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line}\nis not in\n{text}"
        );
    }
}

#[test]
fn a_valid_config_is_summed_up() {
    let loaded = Case::new().file("workers.count = 2").loads();
    let expected = "ok: ./server, 2 workers, on 0.0.0.0:8000
    on SIGTERM: lameduck 0s, then up to 25s to drain, 5s to spare, within 30s";
    assert_eq!(loaded.summary(), expected);
}
