//! Takes lines from those who serve, and writes them where nobody waits for it.
//!
//! Lines lie in one buffer under a lock that is held for a copy's time. The thread sleeps while
//! there is none; once there is one it lets others come along for a moment, so that a busy worker
//! makes few calls and wakes it seldom.

use std::cell::RefCell;
use std::io;
use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};

use super::output::Output;
use super::{Format, Record};
use crate::health::Link;

/// So many bytes wait to be written at most.
const ROOM: usize = 1 << 20;
/// From so many on they wait no longer.
const MANY: usize = 64 << 10;
/// How long a line waits for others.
const COMPANY: Duration = Duration::from_millis(10);

/// The access log of this worker. A clone writes to the same place.
#[derive(Clone)]
pub struct AccessLog {
    shared: Arc<Shared>,
}

struct Shared {
    format: Format,
    link: Arc<Link>,
    longest_line: usize,
    state: Mutex<State>,
    /// For the thread: there is something to do.
    work: Condvar,
    /// For those who flush: everything is written.
    written: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// The thread waits for a first line.
    asleep: bool,
    /// The thread has lines in hand.
    writing: bool,
    /// Somebody waits for the lines to be written.
    hurry: bool,
    reopen: bool,
    /// Why a line was lost, once the first was. The thread tells it: who serves must not wait for
    /// a log at all.
    loss: Option<String>,
    told_of_loss: bool,
}

impl AccessLog {
    /// Opens `target` (`-` is standard output) and starts the thread.
    pub(crate) fn start(target: &str, format: Format, link: Arc<Link>) -> io::Result<Self> {
        let output = Output::open(target)?;
        let log = Self::new(format, link, output.longest_line());
        let shared = Arc::clone(&log.shared);
        // Handlers of the app run on the app's threads.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let thread = std::thread::Builder::new().name("gracefork-access".into());
        let spawned = thread.spawn(move || shared.write_to(output));
        before.thread_set_mask()?;
        spawned?;
        Ok(log)
    }

    fn new(format: Format, link: Arc<Link>, longest_line: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                format,
                link,
                longest_line,
                state: Mutex::default(),
                work: Condvar::new(),
                written: Condvar::new(),
            }),
        }
    }

    /// How its lines look.
    #[must_use]
    pub fn format(&self) -> &Format {
        &self.shared.format
    }

    /// Logs a request. It never waits for the file: when the writer is far behind, the line is
    /// dropped and counted on the scoreboard.
    pub fn log(&self, record: &Record<'_>) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let shared = &self.shared;
        LINE.with_borrow_mut(|line| {
            line.clear();
            match shared.format.render(record, shared.longest_line, line) {
                true => shared.take(line),
                false => shared.lost(&mut shared.lock(), "a line is too long"),
            }
        });
    }

    /// Opens the file anew before the next line.
    pub(crate) fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.work.notify_one();
    }

    /// Waits until everything is written, for `patience` at most; `false` if that was too short.
    pub(crate) fn flush(&self, patience: Duration) -> bool {
        let shared = &self.shared;
        let mut state = shared.lock();
        state.hurry = true;
        shared.work.notify_one();
        let busy = |state: &mut State| state.writing || !state.lines.is_empty();
        let waited = shared.written.wait_timeout_while(state, patience, busy);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        state.hurry = false;
        !waited.timed_out()
    }
}

impl Shared {
    fn take(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.lines.len() + line.len() > ROOM {
            return self.lost(&mut state, "its reader is too slow");
        }
        let many = state.lines.len() < MANY && state.lines.len() + line.len() >= MANY;
        state.lines.extend_from_slice(line);
        if std::mem::take(&mut state.asleep) || many {
            drop(state);
            self.work.notify_one();
        }
    }

    fn write_to(&self, mut output: Output) {
        let mut lines = Vec::new();
        loop {
            let reopen = self.collect(&mut lines);
            // What is here already belongs to the file that was there until now.
            if let Err(error) = output.write(&lines) {
                let mut state = self.lock();
                let why = error.to_string();
                let ends = lines.iter().filter(|byte| **byte == b'\n');
                ends.for_each(|_| self.lost(&mut state, &why));
            }
            lines.clear();
            // A storm's memory is given back.
            lines.shrink_to(MANY);
            if reopen && let Err(error) = output.reopen() {
                warn(&format!(
                    "cannot be reopened, the old file is kept: {error}"
                ));
            }
            let mut state = self.lock();
            state.writing = false;
            let untold = state.loss.take();
            state.told_of_loss |= untold.is_some();
            drop(state);
            if let Some(why) = untold {
                warn(&format!("lines are dropped: {why}"));
            }
        }
    }

    /// Waits for lines, or for the order to reopen, and swaps them for the empty `lines`.
    fn collect(&self, lines: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        if state.lines.is_empty() {
            self.written.notify_all();
        }
        while state.lines.is_empty() && !state.reopen {
            state.asleep = true;
            state = wait(self.work.wait(state));
        }
        state.asleep = false;
        let alone = |state: &mut State| state.lines.len() < MANY && !state.hurry && !state.reopen;
        let company = self.work.wait_timeout_while(state, COMPANY, alone);
        let (mut state, _) = company.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.lines, lines);
        state.writing = true;
        std::mem::take(&mut state.reopen)
    }

    /// A line is gone. It is told once; the scoreboard has the number.
    fn lost(&self, state: &mut State, why: &str) {
        self.link.row.count_dropped_line();
        if !state.told_of_loss && state.loss.is_none() {
            state.loss = Some(why.to_owned());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says it in the worker's log, and where the app keeps none, on standard error.
fn warn(what: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::warn!("access log: {what}");
    } else {
        let pid = std::process::id();
        let _ = writeln!(io::stderr(), "gracefork worker {pid}: access log: {what}");
    }
}

fn wait<T>(waited: Result<T, PoisonError<T>>) -> T {
    waited.unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog")
            .field("format", &self.shared.format)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::Fields;
    use crate::hooks::NoHooks;
    use crate::testing::{Master, patient, supervised};
    use std::time::SystemTime;

    const A_MINUTE: Duration = Duration::from_secs(60);

    struct Nothing;

    impl Fields for Nothing {
        fn request(&self, _: usize) -> Option<&[u8]> {
            None
        }

        fn response(&self, _: usize) -> Option<&[u8]> {
            None
        }
    }

    fn link() -> (Arc<Link>, Master) {
        let (worker, master) = supervised(NoHooks, patient());
        (worker.link(), master)
    }

    fn say(log: &AccessLog, path: &str) {
        log.log(&Record {
            at: SystemTime::now(),
            took: Duration::ZERO,
            remote: None,
            method: "GET",
            target: path,
            path,
            query: "",
            protocol: "HTTP/1.1",
            status: Some(200),
            body_bytes: 0,
            fields: &Nothing,
        });
    }

    fn paths() -> Format {
        Format::parse("%(U)s").unwrap()
    }

    #[test]
    fn every_line_is_in_the_file_after_a_flush_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (link, master) = link();
        let target = path.to_str().unwrap();
        let log = AccessLog::start(target, paths(), link).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let log = &log;
                scope.spawn(move || {
                    (0..500).for_each(|turn| say(log, &format!("/{thread}/{turn}")))
                });
            }
        });
        assert!(log.flush(A_MINUTE));
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), 2_000);
        assert_eq!(master.row.snapshot().log_lines_dropped, 0);
    }

    #[test]
    fn a_file_that_was_moved_away_is_replaced_at_the_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (link, _master) = link();
        let log = AccessLog::start(path.to_str().unwrap(), paths(), link).unwrap();
        say(&log, "/before");
        assert!(log.flush(A_MINUTE));
        let moved = folder.path().join("access.log.1");
        std::fs::rename(&path, &moved).unwrap();
        say(&log, "/between");
        log.reopen();
        while !path.exists() {
            std::thread::yield_now();
        }
        say(&log, "/after");
        assert!(log.flush(A_MINUTE));
        let between = std::fs::read_to_string(&moved).unwrap();
        assert_eq!(between, "/before\n/between\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "/after\n");
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read() {
        let (link, master) = link();
        let (reader, writer) = io::pipe().unwrap();
        let output =
            Output::of_file(std::fs::File::from(std::os::fd::OwnedFd::from(writer))).unwrap();
        let log = AccessLog::new(paths(), link, output.longest_line());
        let shared = Arc::clone(&log.shared);
        std::thread::spawn(move || shared.write_to(output));
        let long = format!("/{}", "x".repeat(3_000));
        for _ in 0..2_000 {
            say(&log, &long);
        }
        let dropped = master.row.snapshot().log_lines_dropped;
        assert!((1..2_000).contains(&dropped), "{dropped}");
        assert!(!log.flush(Duration::from_millis(1)));
        // What was taken comes, in whole lines, once somebody reads.
        let mut lines = io::BufRead::lines(io::BufReader::new(reader));
        for _ in dropped..2_000 {
            assert_eq!(lines.next().unwrap().unwrap(), long);
        }
        assert!(log.flush(A_MINUTE));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_at_the_start() {
        let (link, _master) = link();
        assert!(AccessLog::start("/no/such/folder/log", paths(), link).is_err());
    }
}
