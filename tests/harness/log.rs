//! What the server and its workers print, line by line, with the time it arrived.

use std::io::{BufRead as _, BufReader};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The lines so far; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Read>, Condvar)>);

/// What was read.
#[derive(Default)]
struct Read {
    lines: Vec<Line>,
    /// Sources that are not at their end.
    open: usize,
}

#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) at: Instant,
    pub(crate) text: String,
}

impl Log {
    /// Reads `source` to its end in a thread of its own. Nobody joins it: a process that outlives
    /// its master keeps the pipe open, and the test must not hang on that.
    pub(crate) fn follow(&self, source: impl std::io::Read + Send + 'static) {
        let log = self.clone();
        self.lock().open += 1;
        std::thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut raw = Vec::new();
            while source
                .read_until(b'\n', &mut raw)
                .is_ok_and(|read| read > 0)
            {
                let text = String::from_utf8_lossy(&raw).trim_end().to_owned();
                log.push(text);
                raw.clear();
            }
            log.lock().open -= 1;
            log.0.1.notify_all();
        });
    }

    /// Waits for `limit` until everything is read: whoever could write has ended.
    #[track_caller]
    pub(crate) fn wait_end(&self, limit: Duration) {
        let (read, changed) = &*self.0;
        let read = read.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(read, limit, |read| read.open > 0);
        let (read, late) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!late.timed_out(), "{} still write to the log", read.open);
    }

    /// The first line that contains all of `parts`; waits for it for `limit`.
    pub(crate) fn wait(&self, parts: &[&str], limit: Duration) -> Option<Line> {
        let changed = &self.0.1;
        let deadline = Instant::now() + limit;
        let mut read = self.lock();
        loop {
            if let Some(line) = read.lines.iter().find(|line| line.contains(parts)) {
                return Some(line.clone());
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            (read, _) = changed
                .wait_timeout(read, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many lines contain all of `parts`.
    pub(crate) fn count(&self, parts: &[&str]) -> usize {
        self.lines()
            .iter()
            .filter(|line| line.contains(parts))
            .count()
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lock().lines.clone()
    }

    /// The whole text.
    pub(crate) fn text(&self) -> String {
        let lines = self.lines();
        lines
            .iter()
            .map(|line| format!("{}\n", line.text))
            .collect()
    }

    /// The last lines, for a failure text; times are seconds since `start`.
    pub(crate) fn tail(&self, start: Instant) -> String {
        const SHOWN: usize = 60;
        let lines = self.lines();
        let skipped = lines.len().saturating_sub(SHOWN);
        let mut text = format!(
            "--- the last {} of {} log lines\n",
            lines.len() - skipped,
            lines.len()
        );
        for line in &lines[skipped..] {
            let at = line.at.saturating_duration_since(start).as_secs_f64();
            text.push_str(&format!("{at:8.3} {}\n", line.text));
        }
        text
    }

    fn push(&self, text: String) {
        let at = Instant::now();
        self.lock().lines.push(Line { at, text });
        self.0.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Read> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Whether the line has every one of `parts`, in any case and any order.
    pub(crate) fn contains(&self, parts: &[&str]) -> bool {
        let text = self.text.to_lowercase();
        parts.iter().all(|part| text.contains(&part.to_lowercase()))
    }
}
