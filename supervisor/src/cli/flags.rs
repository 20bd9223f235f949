//! Flags that set something, made from the declarations of the settings.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::Flag;
use crate::config::settings::{self, Setting, Support};

/// The settings that were given as flags, in the order of the declarations.
#[derive(Debug)]
pub(super) struct SettingFlags {
    pub(super) flags: Vec<Flag>,
}

/// gunicorn's flags that set nothing here, with what to do instead.
const GUNICORN: &[(&[&str], &str)] = &[
    (
        &["--daemon", "-D"],
        "gracefork stays in the foreground, as containers expect",
    ),
    (
        &["--pid", "-p"],
        "the master's pid is the container's, or the one your shell knows",
    ),
    (&["--check-config"], "use `gracefork check`"),
    (&["--print-config"], "use `gracefork config`"),
    (
        &["--worker-tmp-dir"],
        "workers need no files to show life; leave it out",
    ),
    (
        &[
            "--access-logformat-json",
            "--log-config",
            "--log-config-json",
            "--logger-class",
        ],
        LOGGING,
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
        &["--capture-output", "--enable-stdio-inheritance", "-R"],
        "workers inherit standard output; leave it out",
    ),
    (
        &["--statsd-host", "--statsd-prefix", "--dogstatsd-tags"],
        "scrape /metrics of `health.listen`",
    ),
    (
        &[
            "--certfile",
            "--keyfile",
            "--ca-certs",
            "--ciphers",
            "--cert-reqs",
            "--ssl-version",
        ],
        TLS,
    ),
    (
        &["--do-handshake-on-connect", "--suppress-ragged-eofs"],
        TLS,
    ),
    (
        &["--reload-engine", "--reload-extra-file", "--spew"],
        "reload with SIGHUP",
    ),
    (
        &[
            "--name",
            "-n",
            "--initgroups",
            "--reuse-port",
            "--no-sendfile",
        ],
        LEAVE_OUT,
    ),
    (
        &[
            "--pythonpath",
            "--paste",
            "--paster",
            "--paste-global",
            "--root-path",
        ],
        PYTHON,
    ),
    (
        &[
            "--asgi-disconnect-grace-period",
            "--websocket-max-message-size",
        ],
        PYTHON,
    ),
    (
        &[
            "--http-parser",
            "--http-protocols",
            "--protocol",
            "--header-map",
        ],
        LEAVE_OUT,
    ),
    (
        &[
            "--forwarder-headers",
            "--strip-header-spaces",
            "--casefold-http-method",
        ],
        LEAVE_OUT,
    ),
    (
        &[
            "--permit-obsolete-folding",
            "--permit-unconventional-http-method",
        ],
        LEAVE_OUT,
    ),
    (
        &["--permit-unconventional-http-version", "--proxy-allow-from"],
        LEAVE_OUT,
    ),
    (&["--control-socket-mode", "--no-control-socket"], LEAVE_OUT),
];
const LOGGING: &str = "the log goes to standard error; see `log` in docs/settings.md";
const TLS: &str = "let a proxy end TLS";
const PYTHON: &str =
    "run the app's own server as a program: gracefork uvicorn -- --fd {fd} main:app";
const LEAVE_OUT: &str = "leave it out";

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let supported = settings::all().filter(|setting| !setting.flags.is_empty());
        let command = supported.fold(command, |command, setting| match setting.support {
            Support::Now(_) => command.arg(argument(setting)),
            Support::Later => command.arg(refused(setting.flags)),
        });
        GUNICORN
            .iter()
            .flat_map(|(flags, _)| one_by_one(flags))
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
        Ok(Self { flags })
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

fn refuse(matches: &ArgMatches) -> Result<(), clap::Error> {
    let given = |name: &str| matches!(matches.try_contains_id(name), Ok(true));
    let refusal = |text: String| Err(clap::Error::raw(ErrorKind::UnknownArgument, text));
    for setting in settings::all().filter(|setting| matches!(setting.support, Support::Later)) {
        if let Some(name) = setting.flags.first().filter(|name| given(name)) {
            return refusal(format!("`{name}` is not supported yet: leave it out\n"));
        }
    }
    for (flags, instead) in GUNICORN {
        if let Some(name) = flags.iter().find(|name| given(name)) {
            return refusal(format!("`{name}` is not supported yet: {instead}\n"));
        }
    }
    Ok(())
}
