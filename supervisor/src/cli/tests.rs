//! The command line as people type it.

use super::*;

fn line(text: &str) -> Result<Command, Usage> {
    parse(text.split_whitespace().map(OsString::from))
}

fn refusal(text: &str) -> String {
    let usage = line(text).unwrap_err();
    assert_eq!(usage.status, 1, "{}", usage.text);
    usage.text
}

fn run(text: &str) -> Sources {
    match line(text).unwrap() {
        Command::Run(sources) => sources,
        other => panic!("{other:?}"),
    }
}

fn flags(sources: &Sources) -> Vec<(&str, &str)> {
    sources
        .flags
        .iter()
        .map(|flag| (flag.path, flag.value.as_str()))
        .collect()
}

#[test]
fn an_app_with_its_arguments_and_flags() {
    let sources = run("gracefork -c a.toml -w 4 uvicorn -b :80 --bind=fd:3 -- --fd {fd} main:app");
    assert_eq!(sources.file, Some("a.toml".into()));
    assert_eq!(sources.app.as_deref(), Some("uvicorn"));
    assert_eq!(sources.args, ["--fd", "{fd}", "main:app"]);
    let expected = [
        ("listen.bind", ":80"),
        ("listen.bind", "fd:3"),
        ("workers.count", "4"),
    ];
    assert_eq!(flags(&sources), expected);
    assert!(!sources.app_optional);
}

#[test]
fn a_file_to_migrate_takes_the_place_of_the_config_file() {
    let Command::Migrate(sources) = line("gracefork -w 4 migrate gunicorn_config.py").unwrap()
    else {
        panic!("something else");
    };
    assert_eq!(sources.file, Some("gunicorn_config.py".into()));
    assert!(sources.app_optional);
    assert!(refusal("gracefork migrate").contains("FILE"));
}

#[test]
fn a_bare_number_is_seconds_where_a_duration_is_wanted() {
    let sources = run("gracefork --timeout 30 --graceful-timeout 1m --keep-alive 5 -w 3 app");
    let expected = [
        ("workers.count", "3"),
        ("workers.hang_timeout", "30s"),
        ("shutdown.drain_timeout", "1m"),
        ("http.keep_alive", "5s"),
    ];
    assert_eq!(flags(&sources), expected);
}

#[test]
fn of_a_flag_given_twice_the_last_counts() {
    assert_eq!(
        flags(&run("gracefork -w 1 -w 2 app")),
        [("workers.count", "2")]
    );
}

#[test]
fn a_switch_needs_no_value() {
    for (text, value) in [
        ("gracefork --proxy-protocol app", "true"),
        ("gracefork --proxy-protocol=false app", "false"),
    ] {
        let sources = run(text);
        assert_eq!(flags(&sources), [("http.proxy_protocol", value)]);
        assert_eq!(sources.app.as_deref(), Some("app"));
    }
}

#[test]
fn commands_take_the_same_options_before_and_after_their_name() {
    for text in [
        "gracefork -c a.toml -w 2 check app",
        "gracefork check -c a.toml -w 2 app",
    ] {
        let Command::Check(sources) = line(text).unwrap() else {
            panic!("{text}")
        };
        assert_eq!(sources.file, Some("a.toml".into()));
        assert_eq!(sources.app.as_deref(), Some("app"));
        assert_eq!(flags(&sources), [("workers.count", "2")]);
        assert!(sources.app_optional);
    }
    let Command::Config(sources) = line("gracefork config").unwrap() else {
        panic!()
    };
    assert_eq!(sources.app, None);
}

#[test]
fn gunicorn_s_flags_for_two_of_them_are_the_commands() {
    let Command::Check(sources) = line("gracefork --check-config -w 2 app").unwrap() else {
        panic!()
    };
    assert_eq!(sources.app.as_deref(), Some("app"));
    assert!(matches!(
        line("gracefork app --print-config"),
        Ok(Command::Config(_))
    ));
    assert!(parse_gunicorn_args("--check-config").is_err());
}

#[test]
fn an_app_named_like_a_command_is_given_by_its_path() {
    assert_eq!(run("gracefork ./check").app.as_deref(), Some("./check"));
    assert_eq!(run("gracefork ./status").app.as_deref(), Some("./status"));
    let text = refusal("gracefork status");
    let expected = "error: `gracefork status` is not supported yet\n  = help: for a program of that name write ./status\n";
    assert_eq!(text, expected);
}

#[test]
fn flags_that_are_not_obeyed_are_refused_by_name() {
    let text = refusal("gracefork --reload main:app");
    assert_eq!(
        text,
        "error: `--reload` is not supported yet: leave it out, and send SIGHUP when something has changed\n"
    );
    for flag in [
        "-D",
        "--statsd-prefix x",
        "--certfile x",
        "--statsd-host a:1",
        "--paster x",
    ] {
        assert!(
            refusal(&format!("gracefork {flag} app")).contains("not supported yet"),
            "{flag}"
        );
    }
    assert!(refusal("gracefork check --spew app").contains("`--spew` is not supported"));
}

#[test]
fn flags_of_gunicorn_that_change_nothing_are_taken_with_their_values() {
    let sources =
        run("gracefork -R --name site --worker-tmp-dir=/dev/shm --preload -k gthread main:app");
    assert_eq!(sources.app.as_deref(), Some("main:app"));
    assert_eq!(
        sources.idle_flags,
        ["--worker-tmp-dir", "--name", "--enable-stdio-inheritance"]
    );
    assert_eq!(
        flags(&sources),
        [("workers.preload", "true"), ("python.interface", "gthread")]
    );
}

#[test]
fn a_command_line_in_a_variable_is_split_as_a_shell_would() {
    let args =
        parse_gunicorn_args("-c 'my config.py' --access-logformat \"%(h)s x\" main:app").unwrap();
    assert_eq!(args.file, Some("my config.py".into()));
    assert_eq!(args.flags[0].value, "%(h)s x");
    assert_eq!(args.app.as_deref(), Some("main:app"));
    assert!(parse_gunicorn_args("check").is_err());
    assert!(parse_gunicorn_args("--help").is_err());
}

#[test]
fn a_misspelt_flag_is_told_its_right_name() {
    let text = refusal("gracefork --worker 4 app");
    assert!(
        text.contains("a similar argument exists: '--workers'"),
        "{text}"
    );
}

#[test]
fn an_argument_of_the_app_before_the_dashes_is_told_where_it_belongs() {
    let text = refusal("gracefork app --port 80");
    assert!(text.contains("use '-- --port'"), "{text}");
}

#[test]
fn nothing_that_was_typed_can_steer_the_terminal() {
    assert!(refusal("gracefork --x\u{1b}[31m").contains("--x\\u{1b}[31m"));
}

#[test]
fn help_and_version_are_no_mistakes() {
    let version = line("gracefork -V").unwrap_err();
    assert_eq!(
        version,
        Usage {
            text: "gracefork 0.1.0\n".to_owned(),
            status: 0
        }
    );
    let help = line("gracefork --help").unwrap_err();
    assert_eq!(help.status, 0);
    for shown in [
        "--bind <ADDRESS>",
        "-w, --workers <NUMBER>",
        "--lameduck <DURATION>",
        "check",
    ] {
        assert!(help.text.contains(shown), "{shown}\n{}", help.text);
    }
    assert!(help.text.contains("--preload"));
    assert!(!help.text.contains("--worker-tmp-dir"));
}

#[test]
fn the_command_line_holds_together() {
    CommandLine::command().debug_assert();
}
