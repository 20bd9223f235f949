//! The one grammar that worker and master speak: a pure codec.
//!
//! A frame is a handful of `KEY=VALUE` lines, as in `sd_notify(3)`, at most [`MAX_MESSAGE`] bytes.
//! The same grammar travels on two carriers: `NOTIFY_SOCKET` (datagrams, for foreign programs) and
//! the control channel of a native worker (SOCK_SEQPACKET), so a frame never needs a length.
//!
//! What is refused and what is ignored follows systemd: a frame that is too long, holds a NUL
//! (one at the very end is allowed) or is not UTF-8 is refused whole, because what it says cannot
//! be trusted. So is a line without `=` and a number that is none: they are how a cut or garbled
//! frame looks. Keys that are not known, flags with another value than `1`, and empty lines are
//! ignored, so that both sides can grow.

use std::fmt::Write as _;
use std::time::Duration;

/// The longest frame, in bytes; both sides refuse a longer one.
pub const MAX_MESSAGE: usize = 4096;

/// The version of this protocol, told in [`Report::Hello`].
pub const PROTOCOL_VERSION: u32 = 1;

/// The longest text of [`Report::Status`] and [`Report::Fatal`], in bytes; the rest is cut off at
/// a character boundary, by the sender and by the receiver.
pub const MAX_TEXT: usize = 512;

/// What a worker tells its master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// `HELLO=version`: the worker speaks the control channel; the first frame of a native worker.
    Hello {
        /// The protocol that the worker speaks, see [`PROTOCOL_VERSION`].
        version: u32,
    },
    /// `READY=1`: it serves.
    Ready,
    /// `STATUS=text`: one line for humans, shown in the pod's status.
    Status(String),
    /// `UNHEALTHY=1`: it has marked its own health; its health answer is 503 from now on.
    Unhealthy,
    /// `DRAINED=1` with `SERVED=` and `ABORTED=`: nothing is in flight and nothing will come.
    Drained {
        /// Requests served in the worker's whole life.
        served: u64,
        /// Requests cut off before their answer was complete.
        aborted: u64,
    },
    /// `SERVED=n` without `DRAINED`: it has served so many requests, its `max_requests`; it asks
    /// to be recycled.
    Served(u64),
    /// `WATCHDOG=1`: a sign of life.
    Watchdog,
    /// `WATCHDOG=trigger`: it hangs, by its own word; it is to be ended and replaced.
    Hung,
    /// `EXTEND_TIMEOUT_USEC=n`: whatever time-out now runs shall start again with this length.
    ExtendTimeout(Duration),
    /// `STOPPING=1`: it is on its way out by itself.
    Stopping,
    /// `REPLACE=1`: it wants to go as soon as another one is there, and serves until it is told.
    Replace,
    /// `FATAL=reason`: it cannot work and a replacement could not either; do not respawn.
    Fatal(String),
}

/// What the master tells a native worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `LAMEDUCK=1`: the pod was told to stop; be unhealthy, go on serving.
    Lameduck,
    /// `DRAIN=1`: finish what is in flight, then report drained.
    Drain,
    /// `RETIRE=1` with `DEADLINE_USEC=n`: leave quietly while the pod stays healthy.
    Retire {
        /// How long idle connections may be waited for before the worker drains.
        deadline: Duration,
    },
    /// `QUIT=1`: abort what is in flight.
    Quit,
    /// `REOPEN=1`: open log files anew.
    Reopen,
}

/// Why a frame was refused, whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It has more than [`MAX_MESSAGE`] bytes (the number is what arrived).
    #[error("a frame of {0} bytes is longer than {MAX_MESSAGE}")]
    TooLong(usize),
    /// A NUL byte before its end.
    #[error("a frame with a NUL byte inside")]
    Nul,
    /// Not UTF-8.
    #[error("a frame that is not UTF-8")]
    NotUtf8,
    /// A line that is no `KEY=VALUE`; the number counts lines from 1.
    #[error("line {0} is not KEY=VALUE")]
    NotKeyValue(usize),
    /// A value that should be a whole number and is not, or does not fit.
    #[error("{0} is not a number that fits")]
    BadNumber(&'static str),
    /// A command without the field that it needs.
    #[error("{0} without {1}")]
    Incomplete(&'static str, &'static str),
}

impl Report {
    /// The frame that says this, never longer than [`MAX_MESSAGE`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello { version } => line("HELLO", version),
            Self::Ready => flag("READY"),
            Self::Status(text) => line("STATUS", one_line(text)),
            Self::Unhealthy => flag("UNHEALTHY"),
            Self::Drained { served, aborted } => {
                let mut frame = String::from("DRAINED=1\n");
                // Writing into a String cannot fail.
                let _ = write!(frame, "SERVED={served}\nABORTED={aborted}\n");
                frame.into_bytes()
            }
            Self::Served(requests) => line("SERVED", requests),
            Self::Watchdog => flag("WATCHDOG"),
            Self::Hung => line("WATCHDOG", "trigger"),
            Self::ExtendTimeout(length) => line("EXTEND_TIMEOUT_USEC", micros(*length)),
            Self::Stopping => flag("STOPPING"),
            Self::Replace => flag("REPLACE"),
            Self::Fatal(reason) => line("FATAL", one_line(reason)),
        }
    }

    /// Everything that a frame says, in its order (what `SERVED=` and `ABORTED=` say beside
    /// `DRAINED=1` belongs to it; a lone `ABORTED=` says nothing).
    ///
    /// # Errors
    /// The frame is refused whole, see the module's head.
    ///
    /// ```
    /// use worker_api::message::Report;
    ///
    /// let frame = b"READY=1\nX_FUTURE=7\nSTATUS=warm\n";
    /// assert_eq!(
    ///     Report::decode(frame).unwrap(),
    ///     [Report::Ready, Report::Status("warm".into())],
    /// );
    /// ```
    pub fn decode(frame: &[u8]) -> Result<Vec<Self>, MessageError> {
        let mut reports = Vec::new();
        let (mut drained, mut served, mut aborted) = (None, None, None);
        for pair in pairs(frame)? {
            match pair? {
                ("HELLO", version) => {
                    let version = number("HELLO", version)?;
                    let version =
                        u32::try_from(version).map_err(|_| MessageError::BadNumber("HELLO"))?;
                    reports.push(Self::Hello { version });
                }
                ("READY", "1") => reports.push(Self::Ready),
                ("STATUS", text) => reports.push(Self::Status(truncated(text).to_owned())),
                ("UNHEALTHY", "1") => reports.push(Self::Unhealthy),
                ("DRAINED", "1") => drained = drained.or(Some(reports.len())),
                ("SERVED", n) => served = Some((reports.len(), number("SERVED", n)?)),
                ("ABORTED", n) => aborted = Some(number("ABORTED", n)?),
                ("WATCHDOG", "1") => reports.push(Self::Watchdog),
                ("WATCHDOG", "trigger") => reports.push(Self::Hung),
                ("EXTEND_TIMEOUT_USEC", n) => {
                    let length = Duration::from_micros(number("EXTEND_TIMEOUT_USEC", n)?);
                    reports.push(Self::ExtendTimeout(length));
                }
                ("STOPPING", "1") => reports.push(Self::Stopping),
                ("REPLACE", "1") => reports.push(Self::Replace),
                ("FATAL", reason) => reports.push(Self::Fatal(truncated(reason).to_owned())),
                _ => {}
            }
        }
        if let Some(place) = drained {
            let report = Self::Drained {
                served: served.map_or(0, |(_, n)| n),
                aborted: aborted.unwrap_or(0),
            };
            reports.insert(place, report);
        } else if let Some((place, requests)) = served {
            reports.insert(place, Self::Served(requests));
        }
        Ok(reports)
    }
}

impl Command {
    /// The frame that says this, never longer than [`MAX_MESSAGE`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Lameduck => flag("LAMEDUCK"),
            Self::Drain => flag("DRAIN"),
            Self::Retire { deadline } => {
                format!("RETIRE=1\nDEADLINE_USEC={}\n", micros(*deadline)).into_bytes()
            }
            Self::Quit => flag("QUIT"),
            Self::Reopen => flag("REOPEN"),
        }
    }

    /// Everything that a frame commands, in its order.
    ///
    /// # Errors
    /// The frame is refused whole, see the module's head; so is `RETIRE=1` without a deadline.
    ///
    /// ```
    /// use std::time::Duration;
    /// use worker_api::message::Command;
    ///
    /// let deadline = Duration::from_secs(75);
    /// let frame = Command::Retire { deadline }.encode();
    /// assert_eq!(frame, b"RETIRE=1\nDEADLINE_USEC=75000000\n");
    /// assert_eq!(Command::decode(&frame).unwrap(), [Command::Retire { deadline }]);
    /// ```
    pub fn decode(frame: &[u8]) -> Result<Vec<Self>, MessageError> {
        let mut commands = Vec::new();
        let (mut retire, mut deadline) = (None, None);
        for pair in pairs(frame)? {
            match pair? {
                ("LAMEDUCK", "1") => commands.push(Self::Lameduck),
                ("DRAIN", "1") => commands.push(Self::Drain),
                ("RETIRE", "1") => retire = retire.or(Some(commands.len())),
                ("DEADLINE_USEC", n) => {
                    deadline = Some(Duration::from_micros(number("DEADLINE_USEC", n)?));
                }
                ("QUIT", "1") => commands.push(Self::Quit),
                ("REOPEN", "1") => commands.push(Self::Reopen),
                _ => {}
            }
        }
        if let Some(place) = retire {
            let deadline = deadline.ok_or(MessageError::Incomplete("RETIRE", "DEADLINE_USEC"))?;
            commands.insert(place, Self::Retire { deadline });
        }
        Ok(commands)
    }
}

/// A line of a frame: its key and its value.
pub type Pair<'a> = Result<(&'a str, &'a str), MessageError>;

/// The lines of a frame, for those who speak the grammar with words of their own.
///
/// # Errors
/// The frame is refused whole, see the module's head.
pub fn pairs(frame: &[u8]) -> Result<impl Iterator<Item = Pair<'_>>, MessageError> {
    if frame.len() > MAX_MESSAGE {
        return Err(MessageError::TooLong(frame.len()));
    }
    let frame = frame.strip_suffix(b"\0").unwrap_or(frame);
    if frame.contains(&0) {
        return Err(MessageError::Nul);
    }
    let text = std::str::from_utf8(frame).map_err(|_| MessageError::NotUtf8)?;
    let lines = text.split('\n').enumerate();
    Ok(lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(at, line)| {
            line.split_once('=')
                .ok_or(MessageError::NotKeyValue(at + 1))
        }))
}

/// The whole number that a value is.
///
/// # Errors
/// [`MessageError::BadNumber`] when it is none, or does not fit.
pub fn number(key: &'static str, value: &str) -> Result<u64, MessageError> {
    // `parse` alone would take a leading plus sign.
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(MessageError::BadNumber(key));
    }
    value.parse().map_err(|_| MessageError::BadNumber(key))
}

fn flag(key: &str) -> Vec<u8> {
    line(key, 1)
}

fn line(key: &str, value: impl std::fmt::Display) -> Vec<u8> {
    format!("{key}={value}\n").into_bytes()
}

/// Text that fits into a line: what would end it becomes a space.
fn one_line(text: &str) -> String {
    truncated(text).replace(['\n', '\0'], " ")
}

fn truncated(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reports() -> impl Strategy<Value = Report> {
        let text = "[^\n\0]{0,100}";
        prop_oneof![
            any::<u32>().prop_map(|version| Report::Hello { version }),
            Just(Report::Ready),
            text.prop_map(Report::Status),
            Just(Report::Unhealthy),
            any::<(u64, u64)>().prop_map(|(served, aborted)| Report::Drained { served, aborted }),
            any::<u64>().prop_map(Report::Served),
            Just(Report::Watchdog),
            Just(Report::Hung),
            any::<u64>().prop_map(|n| Report::ExtendTimeout(Duration::from_micros(n))),
            Just(Report::Stopping),
            Just(Report::Replace),
            text.prop_map(Report::Fatal),
        ]
    }

    fn commands() -> impl Strategy<Value = Command> {
        prop_oneof![
            Just(Command::Lameduck),
            Just(Command::Drain),
            any::<u64>().prop_map(|n| Command::Retire {
                deadline: Duration::from_micros(n)
            }),
            Just(Command::Quit),
            Just(Command::Reopen),
        ]
    }

    /// Frames that look right at first sight.
    fn almost_frames() -> impl Strategy<Value = Vec<u8>> {
        let key = prop_oneof![
            Just("READY"),
            Just("HELLO"),
            Just("DRAINED"),
            Just("SERVED"),
            Just("ABORTED"),
            Just("RETIRE"),
            Just("DEADLINE_USEC"),
            Just("EXTEND_TIMEOUT_USEC"),
            Just("STATUS"),
        ];
        let value = prop_oneof!["[0-9]{0,25}", Just("1".to_owned()), ".{0,700}"];
        let line = (key, value).prop_map(|(key, value)| format!("{key}={value}\n"));
        prop::collection::vec(line, 0..8).prop_map(|lines| lines.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn a_report_survives_the_wire(report in reports()) {
            let frame = report.encode();
            prop_assert!(frame.len() <= MAX_MESSAGE);
            prop_assert_eq!(Report::decode(&frame), Ok(vec![report]));
        }

        #[test]
        fn a_command_survives_the_wire(command in commands()) {
            prop_assert_eq!(Command::decode(&command.encode()), Ok(vec![command]));
        }

        #[test]
        fn any_text_fits_into_one_frame_and_one_line(text in "\\PC{0,2000}|(?s).{0,600}") {
            for report in [Report::Status(text.clone()), Report::Fatal(text)] {
                let frame = report.encode();
                prop_assert!(frame.len() <= MAX_TEXT + "STATUS=\n".len());
                prop_assert_eq!(Report::decode(&frame).map(|all| all.len()), Ok(1));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(frame in prop::collection::vec(any::<u8>(), 0..5000)) {
            let _ = (Report::decode(&frame), Command::decode(&frame));
        }

        #[test]
        fn no_lines_make_it_panic(frame in almost_frames()) {
            let _ = (Report::decode(&frame), Command::decode(&frame));
        }

        #[test]
        fn a_frame_cut_anywhere_never_says_something_else(
            command in commands(),
            cut in any::<prop::sample::Index>(),
        ) {
            let frame = command.encode();
            // A deadline that is cut short is still a number: the one thing no grammar can see.
            let told = Command::decode(&frame[..cut.index(frame.len())]).unwrap_or_default();
            let same_kind = |other: &Command| {
                std::mem::discriminant(other) == std::mem::discriminant(&command)
            };
            prop_assert!(told.iter().all(same_kind));
        }
    }

    #[test]
    fn served_beside_drained_belongs_to_it_in_any_order() {
        let expected = Ok(vec![Report::Drained {
            served: 7,
            aborted: 1,
        }]);
        assert_eq!(Report::decode(b"DRAINED=1\nSERVED=7\nABORTED=1"), expected);
        assert_eq!(
            Report::decode(b"ABORTED=1\nSERVED=7\nDRAINED=1\n"),
            expected
        );
        assert_eq!(Report::decode(b"SERVED=7"), Ok(vec![Report::Served(7)]));
        assert_eq!(Report::decode(b"ABORTED=7"), Ok(vec![]));
    }

    #[test]
    fn what_is_unknown_is_ignored() {
        let frame = b"MAINPID=7\n\nREADY=0\nWATCHDOG=2\nREADY=1\nlower=x=y\n";
        assert_eq!(Report::decode(frame), Ok(vec![Report::Ready]));
        assert_eq!(Report::decode(b""), Ok(vec![]));
        assert_eq!(Command::decode(b"DEADLINE_USEC=7\nDRAIN=0"), Ok(vec![]));
    }

    #[test]
    fn a_frame_that_cannot_be_trusted_is_refused_whole() {
        let refused = |frame: &[u8]| Report::decode(frame).unwrap_err();
        assert_eq!(
            refused(&[b'='; MAX_MESSAGE + 1]),
            MessageError::TooLong(MAX_MESSAGE + 1)
        );
        assert_eq!(refused(b"READY=1\0STATUS=x"), MessageError::Nul);
        assert_eq!(refused(b"READY=1\nSTATUS=\xff"), MessageError::NotUtf8);
        assert_eq!(refused(b"READY=1\nSTAT"), MessageError::NotKeyValue(2));
        assert_eq!(refused(b"SERVED=+7"), MessageError::BadNumber("SERVED"));
        assert_eq!(refused(b"SERVED="), MessageError::BadNumber("SERVED"));
        assert_eq!(
            refused(b"HELLO=4294967296"),
            MessageError::BadNumber("HELLO")
        );
        assert_eq!(
            Command::decode(b"RETIRE=1"),
            Err(MessageError::Incomplete("RETIRE", "DEADLINE_USEC"))
        );
    }

    #[test]
    fn the_longest_frame_and_a_last_nul_are_taken() {
        let frame = [b"STATUS=", &[b'x'; MAX_MESSAGE - 7][..]].concat();
        assert_eq!(
            Report::decode(&frame),
            Ok(vec![Report::Status("x".repeat(MAX_TEXT))])
        );
        assert_eq!(Report::decode(b"READY=1\0"), Ok(vec![Report::Ready]));
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let text = "\u{e9}".repeat(300) + "x";
        let odd = "x".to_owned() + &text;
        for text in [text, odd] {
            let [Report::Status(cut)] =
                &Report::decode(&Report::Status(text.clone()).encode()).unwrap()[..]
            else {
                panic!("not one status");
            };
            assert!(text.starts_with(cut.as_str()) && cut.len() > MAX_TEXT - 2);
        }
    }
}
