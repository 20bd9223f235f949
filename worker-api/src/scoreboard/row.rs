//! One slot's row: what a worker writes, and what the master reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::ClockId;

use super::latency::{Latency, bucket_of};
use super::mapping::{Mapping, Slot};
use super::oldest::{Noted, RequestUnderway};

/// How far a worker is in its life, as its row tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum WorkerState {
    /// The slot has no worker.
    Empty = 0,
    /// Started, not yet ready.
    Booting = 1,
    /// It has reported ready.
    Ready = 2,
    /// It leaves while the pod stays healthy.
    Retiring = 3,
    /// It finishes what is in flight.
    Draining = 4,
    /// It has reported drained.
    Drained = 5,
}

/// One slot's row. A clone is another handle on the same memory.
#[derive(Clone)]
pub struct Row {
    pub(super) map: Arc<Mapping>,
    pub(super) slot: usize,
}

/// What a row said at one moment; the fields are read one by one, so they may be a request apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSnapshot {
    /// The worker's process, 0 when the slot is empty.
    pub pid: u32,
    /// The generation that it belongs to.
    pub generation: u64,
    /// How far it is.
    pub state: WorkerState,
    /// Its own health flag; the pod's is apart.
    pub healthy: bool,
    /// Connections open now.
    pub connections: u32,
    /// Requests in flight now.
    pub in_flight: u32,
    /// Requests begun since its start.
    pub requests: u64,
    /// Responses by class, 1xx to 5xx.
    pub responses: [u64; 5],
    /// Requests cut off before their answer was complete.
    pub aborted: u64,
    /// Health answers that said no.
    pub unhealthy_answers: u64,
    /// Bytes read from connections.
    pub received_bytes: u64,
    /// Bytes written to connections.
    pub sent_bytes: u64,
    /// How long answered requests took.
    pub latency: Latency,
    /// Lines of the access log that could not be written.
    pub log_lines_dropped: u64,
    /// Requests that were refused ahead of the app.
    pub refused: u64,
    /// While something is in flight: when a request last began or ended there, on the clock of
    /// [`monotonic_now`]. A worker that hangs stands still here.
    pub busy_since: Option<Duration>,
}

/// What a worker has to do now, as its row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Connections open.
    pub connections: u32,
    /// Requests in flight.
    pub in_flight: u32,
    /// Requests that it has taken up so far.
    pub requests: u64,
}

/// Time on CLOCK_MONOTONIC, which all processes of a machine share; of [`RowSnapshot::busy_since`].
#[must_use]
pub fn monotonic_now() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

impl Row {
    /// Makes the row that of a new worker which is booting: every counter 0. Call it before the
    /// worker can run (with pid 0, then [`Row::set_pid`]), or its first words are wiped out.
    pub fn reset(&self, pid: u32, generation: u64) {
        self.clear();
        let used = u32::try_from(self.slot + 1).unwrap_or(u32::MAX);
        self.map.header().used.fetch_max(used, Ordering::Relaxed);
        let row = self.raw();
        row.pid.store(pid, Ordering::Relaxed);
        row.generation.store(generation, Ordering::Relaxed);
        // Until it says otherwise: a worker need not keep the row itself.
        row.healthy.store(1, Ordering::Relaxed);
        row.state
            .store(WorkerState::Booting as u32, Ordering::Release);
    }

    /// Makes the row that of an empty slot.
    pub fn clear(&self) {
        let row = self.raw();
        for number in [
            &row.pid,
            &row.state,
            &row.healthy,
            &row.connections,
            &row.in_flight,
        ] {
            number.store(0, Ordering::Relaxed);
        }
        for number in [
            &row.generation,
            &row.unhealthy_answers,
            &row.aborted,
            &row.log_lines_dropped,
            &row.refused,
            &row.busy_since,
            &row.requests,
            &row.received_bytes,
            &row.sent_bytes,
            &row.latency_nanos,
        ] {
            number.store(0, Ordering::Relaxed);
        }
        for count in row.responses.iter().chain(&row.latency) {
            count.store(0, Ordering::Relaxed);
        }
        for entry in &row.oldest {
            entry.clear();
        }
    }

    /// Writes down the worker's process id, as soon as it is known.
    pub fn set_pid(&self, pid: u32) {
        self.raw().pid.store(pid, Ordering::Relaxed);
    }

    /// What the row says now.
    #[must_use]
    pub fn snapshot(&self) -> RowSnapshot {
        let row = self.raw();
        let in_flight = row.in_flight.load(Ordering::Acquire);
        let busy_since = Duration::from_micros(row.busy_since.load(Ordering::Relaxed));
        RowSnapshot {
            pid: row.pid.load(Ordering::Relaxed),
            generation: row.generation.load(Ordering::Relaxed),
            state: WorkerState::from_number(row.state.load(Ordering::Acquire)),
            healthy: row.healthy.load(Ordering::Relaxed) != 0,
            connections: row.connections.load(Ordering::Relaxed),
            in_flight,
            requests: row.requests.load(Ordering::Relaxed),
            responses: std::array::from_fn(|class| row.responses[class].load(Ordering::Relaxed)),
            aborted: row.aborted.load(Ordering::Relaxed),
            unhealthy_answers: row.unhealthy_answers.load(Ordering::Relaxed),
            received_bytes: row.received_bytes.load(Ordering::Relaxed),
            sent_bytes: row.sent_bytes.load(Ordering::Relaxed),
            latency: Latency {
                counts: std::array::from_fn(|at| row.latency[at].load(Ordering::Relaxed)),
                sum: Duration::from_nanos(row.latency_nanos.load(Ordering::Relaxed)),
            },
            log_lines_dropped: row.log_lines_dropped.load(Ordering::Relaxed),
            refused: row.refused.load(Ordering::Relaxed),
            busy_since: (in_flight > 0).then_some(busy_since),
        }
    }

    /// The requests that have been in flight for longest, at most a few, the oldest first. One
    /// that is just being written down may be missing.
    #[must_use]
    pub fn oldest(&self) -> Vec<RequestUnderway> {
        let entries = self.raw().oldest.iter();
        let mut oldest: Vec<_> = entries.filter_map(|entry| entry.read()).collect();
        oldest.sort_by_key(|request| request.started);
        oldest
    }

    /// What its worker has to do, if it is one that serves.
    pub(super) fn load(&self) -> Option<Load> {
        let row = self.raw();
        let state = WorkerState::from_number(row.state.load(Ordering::Acquire));
        (state == WorkerState::Ready).then(|| Load {
            connections: row.connections.load(Ordering::Relaxed),
            in_flight: row.in_flight.load(Ordering::Relaxed),
            requests: row.requests.load(Ordering::Relaxed),
        })
    }

    /// The worker's life goes on to `state`; it never goes back.
    pub(crate) fn raise_state(&self, state: WorkerState) {
        self.raw().state.fetch_max(state as u32, Ordering::AcqRel);
    }

    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.raw()
            .healthy
            .store(u32::from(healthy), Ordering::Relaxed);
    }

    pub(crate) fn count_unhealthy_answer(&self) {
        self.raw().unhealthy_answers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_opened(&self) {
        self.raw().connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.raw().connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn bytes_received(&self, bytes: u64) {
        self.raw()
            .received_bytes
            .fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn bytes_sent(&self, bytes: u64) {
        self.raw().sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_refused(&self) {
        self.raw().refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_dropped_line(&self) {
        self.raw().log_lines_dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// `was_idle`: the caller knows of nothing in flight (the row's own counter might lie). As what
    /// follows, for one thread at a time.
    pub(crate) fn request_began(&self, was_idle: bool, now: Duration) {
        let row = self.raw();
        if was_idle {
            row.busy_since.store(micros(now), Ordering::Relaxed);
        }
        add(&row.requests, 1);
        let in_flight = row.in_flight.load(Ordering::Relaxed).wrapping_add(1);
        // Release: who sees the request in flight sees a fresh `busy_since` too.
        row.in_flight.store(in_flight, Ordering::Release);
    }

    /// `class` is the status's first digit, 1 to 5; any other number counts nowhere.
    pub(crate) fn request_ended(&self, class: usize, now: Duration, took: Duration) {
        let row = self.raw();
        if let Some(counter) = class.checked_sub(1).and_then(|at| row.responses.get(at)) {
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            add(counter, 1);
            add(&row.latency_nanos, nanos);
            add(&row.latency[bucket_of(nanos)], 1);
        }
        row.busy_since.store(micros(now), Ordering::Relaxed);
        let in_flight = row.in_flight.load(Ordering::Relaxed).wrapping_sub(1);
        row.in_flight.store(in_flight, Ordering::Release);
    }

    pub(crate) fn count_aborted(&self) {
        add(&self.raw().aborted, 1);
    }

    /// Shows a request.
    pub(crate) fn show(&self, entry: usize, request: &Noted) {
        if let Some(entry) = self.raw().oldest.get(entry) {
            entry.write(request);
        }
    }

    /// Shows it no more.
    pub(crate) fn hide(&self, entry: usize) {
        if let Some(entry) = self.raw().oldest.get(entry) {
            entry.empty();
        }
    }

    fn raw(&self) -> &Slot {
        self.map.slot(self.slot)
    }
}

/// Adds to a counter that one thread at a time writes.
fn add(counter: &AtomicU64, more: u64) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(more);
    counter.store(sum, Ordering::Relaxed);
}

/// On the scoreboard times are microseconds.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row")
            .field("slot", &self.slot)
            .field("says", &self.snapshot())
            .finish()
    }
}

impl WorkerState {
    fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Booting,
            2 => Self::Ready,
            3 => Self::Retiring,
            4 => Self::Draining,
            5 => Self::Drained,
            _ => Self::Empty,
        }
    }
}
