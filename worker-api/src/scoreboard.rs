//! The scoreboard: memory that master and native workers share.
//!
//! One memfd: a header with the pod's phase and health, and a row of cache lines for each slot.
//! It is made of atomics alone, needs no lock, and costs a request a few relaxed adds. The memfd
//! is sealed against shrinking and growing, so no holder can make another die of SIGBUS.
//!
//! **Trust.** Every holder can write every byte, so what is read here is a claim: a number may be
//! anything at any time. Nothing read from the memory is ever used as an index, a length or a
//! count to loop over; how many rows there are comes from the file's size. Sums over rows must
//! saturate or wrap. A phase that has no name reads as [`PodPhase::Drain`], the one which loses no
//! request and still ends; a state without a name reads as [`WorkerState::Empty`].

mod latency;
mod mapping;
mod oldest;
mod row;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::MemfdFlags;

pub use latency::{LATENCY_BUCKETS, Latency};
use mapping::{Mapping, is_sane, len_of, seals};
pub(crate) use oldest::{ENTRIES, Noted};
pub use oldest::{METHOD_BYTES, PATH_BYTES, RequestUnderway};
pub use row::{Load, Row, RowSnapshot, WorkerState, monotonic_now};

/// "gracefrk", so that a stray descriptor is not taken for a scoreboard.
const MAGIC: u64 = u64::from_be_bytes(*b"gracefrk");
const VERSION: u32 = 2;

/// The phase of the pod, set by the master alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum PodPhase {
    /// Not enough workers are Ready yet.
    Boot = 0,
    /// Serving.
    Ready = 1,
    /// Told to stop: unhealthy, and serving on until the load balancer has noticed.
    Lameduck = 2,
    /// Finishing what is in flight.
    Drain = 3,
    /// Aborting what is left.
    Force = 4,
    /// Every worker is gone.
    Exit = 5,
}

/// Why a descriptor is no scoreboard of ours.
#[derive(Debug, thiserror::Error)]
pub enum ScoreboardError {
    /// A call of the kernel failed (`fstat`, `mmap`).
    #[error("the scoreboard cannot be mapped: {0}")]
    Io(#[from] io::Error),
    /// Its size is not that of a header and whole rows.
    #[error("the scoreboard has {0} bytes, which no number of slots makes")]
    Size(i64),
    /// It is not sealed, so another process could cut it under our feet.
    #[error("the scoreboard is not sealed against shrinking and growing")]
    NotSealed,
    /// It does not start as a scoreboard does.
    #[error("the descriptor holds no scoreboard")]
    Magic,
    /// It is of another release, incompatible with this one.
    #[error("the scoreboard has version {0}, this worker speaks version {VERSION}")]
    Version(u32),
    /// It says another number of slots than its size gives.
    #[error("the scoreboard contradicts itself about its slots")]
    Slots,
}

/// The shared memory, mapped. A clone shares the mapping; the last one unmaps it.
#[derive(Clone)]
pub struct Scoreboard {
    map: Arc<Mapping>,
}

impl Scoreboard {
    /// A new, sealed scoreboard with `slots` empty rows, in [`PodPhase::Boot`] and not healthy.
    /// The descriptor is for the workers; it is close-on-exec.
    ///
    /// # Errors
    /// `slots` is 0 or absurdly many, or the kernel refuses memory or seals.
    ///
    /// ```
    /// use worker_api::{PodPhase, Scoreboard};
    ///
    /// let (board, fd) = Scoreboard::create(4)?;
    /// let worker = Scoreboard::attach(fd).unwrap();
    /// board.set_phase(PodPhase::Ready);
    /// assert_eq!(worker.phase(), PodPhase::Ready);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn create(slots: usize) -> io::Result<(Self, OwnedFd)> {
        if !is_sane(slots) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create(c"gracefork-scoreboard", flags)?;
        rustix::fs::ftruncate(&fd, len_of(slots) as u64)?;
        rustix::fs::fcntl_add_seals(&fd, seals())?;
        let map = Mapping::new(&fd).map_err(io::Error::other)?;
        let board = Self { map: Arc::new(map) };
        board.restore(PodPhase::Boot, false);
        Ok((board, fd))
    }

    /// Writes the header anew (the master's right alone): a worker gone wrong may have written over
    /// it, and the next one is to find it in order.
    pub fn restore(&self, phase: PodPhase, pod_healthy: bool) {
        let header = self.map.header();
        let slots = u32::try_from(self.slots()).unwrap_or(u32::MAX);
        header.slots.store(slots, Ordering::Relaxed);
        header.version.store(VERSION, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        self.set_phase(phase);
        self.set_pod_healthy(pod_healthy);
    }

    /// The scoreboard behind a descriptor from the master. The descriptor is closed, the memory
    /// stays.
    ///
    /// # Errors
    /// The descriptor's size, seals, magic or version are not those of a scoreboard that this
    /// release understands, or it cannot be mapped.
    pub fn attach(fd: OwnedFd) -> Result<Self, ScoreboardError> {
        let map = Mapping::new(fd)?;
        let header = map.header();
        if header.magic.load(Ordering::Acquire) != MAGIC {
            return Err(ScoreboardError::Magic);
        }
        match header.version.load(Ordering::Relaxed) {
            VERSION => {}
            other => return Err(ScoreboardError::Version(other)),
        }
        if header.slots.load(Ordering::Relaxed) as usize != map.slots() {
            return Err(ScoreboardError::Slots);
        }
        Ok(Self { map: Arc::new(map) })
    }

    /// A scoreboard that nobody else sees, with one row: for a worker without a master. It starts
    /// in [`PodPhase::Ready`], healthy.
    ///
    /// # Errors
    /// The kernel refuses memory.
    pub fn private() -> io::Result<Self> {
        let (board, _fd) = Self::create(1)?;
        board.set_phase(PodPhase::Ready);
        board.set_pod_healthy(true);
        Ok(board)
    }

    /// How many rows there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.map.slots()
    }

    /// The phase of the pod; a number without a name reads as [`PodPhase::Drain`].
    #[must_use]
    pub fn phase(&self) -> PodPhase {
        PodPhase::from_number(self.map.header().phase.load(Ordering::Acquire))
    }

    /// Sets the phase (the master's right alone), for all workers in the same instant.
    pub fn set_phase(&self, phase: PodPhase) {
        self.map
            .header()
            .phase
            .store(phase as u32, Ordering::Release);
    }

    /// Whether the pod is healthy. It is apart from the phase, because `unready_delay` may keep
    /// health up for a while in lameduck.
    #[must_use]
    pub fn pod_healthy(&self) -> bool {
        self.map.header().pod_healthy.load(Ordering::Acquire) == 1
    }

    /// Sets the pod's health (the master's right alone), for all workers in the same instant.
    pub fn set_pod_healthy(&self, healthy: bool) {
        self.map
            .header()
            .pod_healthy
            .store(u32::from(healthy), Ordering::Release);
    }

    /// What the serving workers of the other slots have to do.
    pub(crate) fn loads_beside(&self, slot: usize) -> impl Iterator<Item = Load> {
        let used = self.map.header().used.load(Ordering::Relaxed) as usize;
        (0..used.min(self.slots()))
            .filter(move |&other| other != slot)
            .filter_map(|other| self.row(other)?.load())
    }

    /// The row of a slot, `None` when there is no such slot.
    #[must_use]
    pub fn row(&self, slot: usize) -> Option<Row> {
        (slot < self.slots()).then(|| Row {
            map: Arc::clone(&self.map),
            slot,
        })
    }
}

impl std::fmt::Debug for Scoreboard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scoreboard")
            .field("slots", &self.slots())
            .field("phase", &self.phase())
            .field("pod_healthy", &self.pod_healthy())
            .finish()
    }
}

impl PodPhase {
    fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Boot,
            1 => Self::Ready,
            2 => Self::Lameduck,
            4 => Self::Force,
            5 => Self::Exit,
            _ => Self::Drain,
        }
    }
}
