//! Settings that are one word of a few.

use std::fmt;

/// A setting whose value is one of a fixed set of words.
pub(crate) trait Choice: Copy + PartialEq + Sized + 'static {
    /// Each value with the word that is printed; first what "expected ..." lists.
    const WORDS: &'static [(&'static str, Self)];
    /// Other spellings that are understood but not advertised.
    const ALIASES: &'static [(&'static str, Self)] = &[];

    /// The value that `word` names, in letters of any case.
    fn from_word(word: &str) -> Option<Self> {
        let mut known = Self::WORDS.iter().chain(Self::ALIASES);
        known
            .find(|(name, _)| name.eq_ignore_ascii_case(word))
            .map(|(_, value)| *value)
    }

    /// The value that a bare number names, for types that have numbers.
    fn from_number(_: i128) -> Option<Self> {
        None
    }

    /// The way out for a word that is known and has no place here.
    fn way_out(_: &str) -> Option<String> {
        None
    }

    /// The word for this value.
    fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, value)| *value == self);
        found.map_or("", |(name, _)| name)
    }
}

/// How a worker talks to the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Found out from what the worker says first.
    Auto,
    /// Signals only.
    Plain,
    /// Speaks sd_notify.
    Notify,
    /// Written against `worker-api`: control channel and scoreboard.
    Native,
}

impl Choice for Level {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("plain", Self::Plain),
        ("notify", Self::Notify),
        ("native", Self::Native),
    ];
}

/// From which severity on events are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// What needs a human.
    Error,
    /// What may soon need one.
    Warn,
    /// The life of master and workers.
    Info,
    /// Why decisions were taken.
    Debug,
    /// Every event.
    Trace,
}

impl LogLevel {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.word()
    }
}

impl Choice for LogLevel {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
    // gunicorn's names.
    const ALIASES: &'static [(&'static str, Self)] =
        &[("warning", Self::Warn), ("critical", Self::Error)];
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One object a line, for machines.
    Json,
}

impl LogFormat {
    /// The word that is written in a config.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.word()
    }
}

impl Choice for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("text", Self::Text),
        ("json", Self::Json),
    ];
}

/// A signal that asks a program to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGHUP.
    Hup,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGABRT.
    Abrt,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGTERM.
    Term,
    /// SIGWINCH, as Apache httpd wants it.
    Winch,
    /// SIGPWR, as some init programs want it.
    Pwr,
}

impl StopSignal {
    /// The name with its prefix, for example `SIGTERM`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.word()
    }

    /// The number that the kernel of this machine uses.
    #[must_use]
    pub fn number(self) -> i32 {
        self.signal() as i32
    }

    /// The same signal as the type that `kill` takes.
    #[must_use]
    pub fn signal(self) -> nix::sys::signal::Signal {
        use nix::sys::signal::Signal;
        match self {
            Self::Hup => Signal::SIGHUP,
            Self::Int => Signal::SIGINT,
            Self::Quit => Signal::SIGQUIT,
            Self::Abrt => Signal::SIGABRT,
            Self::Usr1 => Signal::SIGUSR1,
            Self::Usr2 => Signal::SIGUSR2,
            Self::Term => Signal::SIGTERM,
            Self::Winch => Signal::SIGWINCH,
            Self::Pwr => Signal::SIGPWR,
        }
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Choice for StopSignal {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("SIGTERM", Self::Term),
        ("SIGINT", Self::Int),
        ("SIGQUIT", Self::Quit),
        ("SIGHUP", Self::Hup),
        ("SIGUSR1", Self::Usr1),
        ("SIGUSR2", Self::Usr2),
        ("SIGWINCH", Self::Winch),
        ("SIGABRT", Self::Abrt),
        ("SIGPWR", Self::Pwr),
    ];
    const ALIASES: &'static [(&'static str, Self)] = &[
        ("TERM", Self::Term),
        ("INT", Self::Int),
        ("QUIT", Self::Quit),
        ("HUP", Self::Hup),
        ("USR1", Self::Usr1),
        ("USR2", Self::Usr2),
        ("WINCH", Self::Winch),
        ("ABRT", Self::Abrt),
        ("PWR", Self::Pwr),
    ];

    // `stop_signal = 15`
    fn from_number(number: i128) -> Option<Self> {
        let mut all = Self::WORDS.iter().map(|(_, signal)| *signal);
        all.find(|signal| i128::from(signal.number()) == number)
    }
}
