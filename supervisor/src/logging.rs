//! The master's own log: lines for people, or JSON for collectors.
//!
//! A reader that stops reading never stops the master: a line that cannot be
//! written at once is dropped, counted, and told when there is room again.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{SigSet, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::Level as TracingLevel;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{Log, LogFile, LogFormat, LogLevel};
use crate::sys::log_file::append_to;

/// So much fits into a pipe that poll(2) calls writable (PIPE_BUF of pipe(7)).
const PIECE: usize = 4096;

/// What can be changed about the log while it runs.
#[derive(Debug)]
pub struct LogControl {
    sink: Sink,
    log: Log,
    level: Handle<LevelFilter, Registry>,
}

/// Begin to log.
///
/// # Errors
/// When the log file cannot be opened.
pub fn start(log: &Log) -> io::Result<LogControl> {
    let output = Output::open(&log.file)?;
    let terminal = matches!(output, Output::Stderr) && io::stderr().is_terminal();
    let for_people = match log.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => terminal,
    };
    let sink = Sink(Arc::new(Mutex::new(Writer {
        output,
        terminal,
        for_people,
        dropped: 0,
    })));
    let (filter, level) = reload::Layer::new(filter(log.level));
    let lines = fmt::layer()
        .with_target(false)
        .with_ansi(for_people && terminal)
        .with_writer(sink.clone());
    let layer = if for_people {
        lines.boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    };
    // A second start in one process, as in tests, keeps the first log.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init();
    Ok(LogControl {
        sink,
        log: log.clone(),
        level,
    })
}

impl LogControl {
    /// Open the log file again, since the old one may have been moved away.
    ///
    /// # Errors
    /// When it cannot be opened; lines then go on to the old one.
    pub fn reopen(&self) -> io::Result<()> {
        self.sink.redirect(Output::open(&self.log.file)?);
        Ok(())
    }

    /// Follow a changed configuration.
    ///
    /// # Errors
    /// When the new log file cannot be opened; lines then go on to the old one.
    pub fn change(&mut self, log: &Log) -> io::Result<()> {
        // Fails only when the subscriber is gone, and there is nothing to change then.
        let _ = self.level.modify(|current| *current = filter(log.level));
        self.log.level = log.level;
        if self.log.format != log.format {
            tracing::warn!("`log.format` changes with the next start of the master");
        }
        if self.log.file != log.file {
            self.sink.redirect(Output::open(&log.file)?);
            self.log.file = log.file.clone();
        }
        Ok(())
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    LevelFilter::from_level(match level {
        LogLevel::Error => TracingLevel::ERROR,
        LogLevel::Warn => TracingLevel::WARN,
        LogLevel::Info => TracingLevel::INFO,
        LogLevel::Debug => TracingLevel::DEBUG,
        LogLevel::Trace => TracingLevel::TRACE,
    })
}

/// With the file that it is about.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[derive(Debug)]
enum Output {
    Stderr,
    File(File),
}

impl Output {
    fn open(file: &LogFile) -> io::Result<Self> {
        match file {
            LogFile::Stderr => Ok(Output::Stderr),
            // Opening a named pipe would wait for its reader.
            LogFile::Path(path) => append_to(path, nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
                .map(Output::File)
                .map_err(|error| named(path, &error)),
        }
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match self {
            Output::Stderr => io::stderr().write(piece),
            Output::File(file) => file.write(piece),
        }
    }

    fn has_room(&self) -> bool {
        match self {
            Output::Stderr => is_writable(io::stderr().as_fd()),
            Output::File(file) => is_writable(file.as_fd()),
        }
    }
}

fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let at_once = Timespec::default();
    poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&at_once)).is_ok_and(|ready| ready > 0)
}

#[derive(Debug)]
struct Writer {
    output: Output,
    terminal: bool,
    for_people: bool,
    /// Lines that there was no room for.
    dropped: u64,
}

impl Writer {
    fn line(&mut self, line: &[u8]) {
        let _background = self.terminal.then(InBackground::enter);
        if self.dropped > 0 && self.output.has_room() {
            let dropped = std::mem::take(&mut self.dropped);
            let told = if self.for_people {
                format!("gracefork: {dropped} log lines dropped: their reader is too slow\n")
            } else {
                format!(
                    "{{\"level\":\"WARN\",\"message\":\"log lines dropped: their reader is too slow\",\"dropped\":{dropped}}}\n"
                )
            };
            self.write(told.as_bytes());
        }
        self.write(line);
    }

    fn write(&mut self, line: &[u8]) {
        for piece in line.chunks(PIECE) {
            if !self.output.has_room() || self.output.write(piece).is_err() {
                self.dropped += 1;
                return;
            }
        }
    }
}

/// While this is held, a write to the terminal from a background process is
/// neither stopped nor made again and again (`stty tostop`, termios(3)).
struct InBackground(Option<SigSet>);

impl InBackground {
    fn enter() -> Self {
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTTOU);
        Self(
            stop.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)
                .ok(),
        )
    }
}

impl Drop for InBackground {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // It worked a moment ago, with the same set.
            let _ = before.thread_set_mask();
        }
    }
}

/// Where lines go.
#[derive(Debug, Clone)]
struct Sink(Arc<Mutex<Writer>>);

impl Sink {
    fn redirect(&self, output: Output) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).output = output;
    }
}

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Sink;

    fn make_writer(&'a self) -> Sink {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_reader_that_does_not_read_stops_nobody_and_is_told_what_it_missed() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut log = Writer {
            output: Output::File(File::from(std::os::fd::OwnedFd::from(writer))),
            terminal: false,
            for_people: true,
            dropped: 0,
        };
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        for _ in 0..100 {
            log.line(&line);
        }
        let missed = log.dropped;
        assert!(missed > 0);
        let mut reader = File::from(std::os::fd::OwnedFd::from(reader));
        let mut room = vec![0; 40_000];
        reader.read_exact(&mut room).unwrap();
        log.line(b"the end\n");
        drop(log);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        let told =
            format!("gracefork: {missed} log lines dropped: their reader is too slow\nthe end\n");
        assert!(rest.ends_with(&told));
    }
}
