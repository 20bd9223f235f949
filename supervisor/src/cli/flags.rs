//! Flags that set something, made from the declarations of the settings.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::Flag;
use crate::config::settings::{self, Setting, Support};

/// The settings that were given as flags, in the order of the declarations.
#[derive(Debug)]
pub(super) struct SettingFlags {
    pub(super) flags: Vec<Flag>,
    /// Flags of gunicorn that change nothing.
    pub(super) idle: Vec<&'static str>,
}

/// gunicorn's flags that set nothing here, with what to do instead.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["--daemon", "-D"],
        "gracefork stays in the foreground, as containers expect",
    ),
    (&["--access-logformat-json", "--logger-class"], LOGGING),
    (
        &["--log-config", "--log-config-json"],
        "say `logconfig` or `logconfig_json` in the config file, -c gunicorn_config.py",
    ),
    (
        &[
            "--log-syslog",
            "--log-syslog-to",
            "--log-syslog-prefix",
            "--log-syslog-facility",
        ],
        LOGGING,
    ),
    (
        &["--statsd-host", "--statsd-prefix", "--dogstatsd-tags"],
        "scrape /metrics of `health.listen`",
    ),
    (&["--certfile", "--keyfile", "--ca-certs", "--ciphers"], TLS),
    (&["--cert-reqs", "--ssl-version"], TLS),
    (
        &["--reload-extra-file"],
        "`kill -HUP` takes changed files; leave it out",
    ),
    (&["--spew"], LEAVE_OUT),
    (
        &["--paste", "--paster", "--paste-global"],
        "name the app as module:attribute",
    ),
    (&["--asgi-disconnect-grace-period"], LEAVE_OUT),
    (
        &["--http-protocols", "--protocol", "--uwsgi-allow-from"],
        "workers speak HTTP/1.1; leave it out",
    ),
    (
        &[
            "--http2-cleartext",
            "--http2-max-concurrent-streams",
            "--http2-initial-window-size",
            "--http2-max-frame-size",
            "--http2-max-header-list-size",
        ],
        "workers speak HTTP/1.1; leave it out",
    ),
    (&["--header-map", "--forwarder-headers"], LEAVE_OUT),
    (&["--strip-header-spaces", "--casefold-http-method"], STRICT),
    (
        &[
            "--permit-obsolete-folding",
            "--permit-unconventional-http-method",
            "--permit-unconventional-http-version",
        ],
        STRICT,
    ),
    (
        &[
            "--dirty-app",
            "--dirty-workers",
            "--dirty-timeout",
            "--dirty-threads",
            "--dirty-graceful-timeout",
        ],
        "run such work in a program of its own",
    ),
];
const LOGGING: &str = "the log goes to standard error; see `log` in docs/settings.md";
const TLS: &str = "let a proxy end TLS";
const STRICT: &str = "requests are read strictly; leave it out";
const LEAVE_OUT: &str = "leave it out";

/// gunicorn's flags whose absence nobody would notice: of a Python app they are
/// named in a warning, so that a container's command may stay as it is.
const IDLE_WITH_VALUE: &[&[&str]] = &[
    // Workers need no files to show life.
    &["--worker-tmp-dir"],
    &["--name", "-n"],
    &["--reload-engine"],
    &["--http-parser"],
    &["--control-socket-mode"],
];
const IDLE_SWITCHES: &[&[&str]] = &[
    // Workers inherit standard output.
    &["--capture-output"],
    &["--enable-stdio-inheritance", "-R"],
    // One listener is shared, and its waiters take turns.
    &["--reuse-port"],
    &["--no-sendfile"],
    &["--no-control-socket"],
    &["--disable-redirect-access-to-syslog"],
    &["--enable-backlog-metric"],
    // Of TLS, which is refused where it is asked for.
    &["--do-handshake-on-connect"],
    &["--suppress-ragged-eofs"],
];

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let supported = settings::all().filter(|setting| !setting.flags.is_empty());
        let command = supported.fold(command, |command, setting| match setting.support {
            Support::Now(_) => command.arg(argument(setting)),
            Support::Later => command.arg(refused(setting.flags)),
        });
        let refused = REFUSED.iter().flat_map(|(flags, _)| one_by_one(flags));
        let options = IDLE_WITH_VALUE
            .iter()
            .map(|flags| idle(flags, ArgAction::Append));
        let switches = IDLE_SWITCHES
            .iter()
            .map(|flags| idle(flags, ArgAction::SetTrue));
        refused
            .chain(options)
            .chain(switches)
            .fold(command, Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        refuse(matches)?;
        let mut flags = Vec::new();
        for setting in settings::all().filter(|setting| matches!(setting.support, Support::Now(_)))
        {
            let Some(name) = setting.flags.first() else {
                continue;
            };
            let values = matches
                .get_many::<String>(setting.path)
                .into_iter()
                .flatten();
            flags.extend(values.map(|value| {
                let seconds = setting.seconds && value.bytes().all(|b| b.is_ascii_digit());
                let value = if seconds && !value.is_empty() {
                    format!("{value}s")
                } else {
                    value.clone()
                };
                Flag {
                    path: setting.path,
                    value,
                    name,
                }
            }));
        }
        Ok(Self {
            flags,
            idle: given_idle(matches),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn argument(setting: &'static Setting) -> Arg {
    let action = if setting.repeatable {
        ArgAction::Append
    } else {
        ArgAction::Set
    };
    let default = match setting.default {
        "" | "[]" | "{}" => String::new(),
        default => format!(" [default: {}]", default.replace(['[', ']', '"'], "")),
    };
    let sentence = setting
        .doc
        .split_once(". ")
        .map_or(setting.doc, |(first, _)| first);
    let long = format!(
        "{}\n\nTakes {}.{default} [file: {}] [env: {}]",
        setting.doc,
        setting.describe(),
        setting.path,
        setting.env_name()
    );
    let mut argument = named(Arg::new(setting.path), setting.flags);
    if setting.value_name() == "BOOL" {
        // The word behind it is the app.
        argument = argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true");
    }
    argument
        .value_name(setting.value_name())
        .action(action)
        .allow_negative_numbers(true)
        .help(format!("{}{default}", sentence.trim_end_matches('.')))
        .long_help(long)
}

/// Gives an argument its flags: the first long one is shown, others are understood.
fn named(mut argument: Arg, flags: &'static [&'static str]) -> Arg {
    for flag in flags {
        argument = match (flag.strip_prefix("--"), flag.chars().nth(1)) {
            (Some(long), _) if argument.get_long().is_none() => argument.long(long),
            (Some(long), _) => argument.alias(long),
            (None, Some(short)) => argument.short(short),
            (None, None) => argument,
        };
    }
    argument
}

/// A flag that is known but never obeyed, with or without a value.
fn refused(flags: &'static [&'static str]) -> Arg {
    let name = flags.first().copied().unwrap_or_default();
    named(Arg::new(name), flags)
        .hide(true)
        .num_args(0..=1)
        .action(ArgAction::Append)
}

/// Long flags that mean different things; a short one belongs to the long one before it.
fn one_by_one(flags: &'static [&'static str]) -> impl Iterator<Item = Arg> {
    let long = (0..flags.len()).filter(|at| flags[*at].starts_with("--"));
    long.map(|at| {
        let with_short = flags
            .get(at + 1)
            .is_some_and(|next| !next.starts_with("--"));
        refused(&flags[at..=at + usize::from(with_short)])
    })
}

/// A flag that is taken and changes nothing.
fn idle(flags: &'static [&'static str], action: ArgAction) -> Arg {
    let name = flags.first().copied().unwrap_or_default();
    named(Arg::new(name), flags).hide(true).action(action)
}

fn given_idle(matches: &ArgMatches) -> Vec<&'static str> {
    let names = IDLE_WITH_VALUE.iter().chain(IDLE_SWITCHES);
    let names = names.filter_map(|flags| flags.first().copied());
    let given = |name: &&str| {
        use clap::parser::ValueSource;
        matches.value_source(name) == Some(ValueSource::CommandLine)
    };
    names.filter(given).collect()
}

fn refuse(matches: &ArgMatches) -> Result<(), clap::Error> {
    let given = |name: &str| matches!(matches.try_contains_id(name), Ok(true));
    let refusal = |text: String| Err(clap::Error::raw(ErrorKind::UnknownArgument, text));
    for setting in settings::all().filter(|setting| matches!(setting.support, Support::Later)) {
        if let Some(name) = setting.flags.first().filter(|name| given(name)) {
            let instead = match *name {
                "--reload" => ", and send SIGHUP when something has changed",
                _ => "",
            };
            return refusal(format!(
                "`{name}` is not supported yet: leave it out{instead}\n"
            ));
        }
    }
    for (flags, instead) in REFUSED {
        if let Some(name) = flags.iter().find(|name| given(name)) {
            return refusal(format!("`{name}` is not supported yet: {instead}\n"));
        }
    }
    Ok(())
}
