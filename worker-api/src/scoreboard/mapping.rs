//! The memory itself: its layout, and the one place that maps it.
#![expect(
    unsafe_code,
    reason = "maps shared memory and reads it through atomics"
)]

use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};

use super::ScoreboardError;
use super::latency::LATENCY_BUCKETS;
use super::oldest::{ENTRIES, PATH_WORDS};

/// What concerns the pod; read by all, written seldom.
#[repr(C, align(64))]
pub(super) struct Header {
    pub(super) magic: AtomicU64,
    pub(super) version: AtomicU32,
    pub(super) slots: AtomicU32,
    pub(super) phase: AtomicU32,
    pub(super) pod_healthy: AtomicU32,
    /// Rows from the first to the last one that ever had a worker: nobody need look at the others,
    /// each of which would cost memory to look at.
    pub(super) used: AtomicU32,
}

/// Whole cache lines, of which only one worker writes: what changes seldom, what every request
/// changes, and what shows requests one by one. `docs/architecture.md` has the picture.
#[repr(C, align(64))]
pub(super) struct Slot {
    pub(super) pid: AtomicU32,
    pub(super) state: AtomicU32,
    pub(super) generation: AtomicU64,
    pub(super) healthy: AtomicU32,
    pub(super) connections: AtomicU32,
    pub(super) unhealthy_answers: AtomicU64,
    pub(super) aborted: AtomicU64,
    pub(super) log_lines_dropped: AtomicU64,
    pub(super) refused: AtomicU64,
    _room: AtomicU64,
    pub(super) busy_since: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) responses: [AtomicU64; 5],
    pub(super) in_flight: AtomicU32,
    _rest: AtomicU32,
    pub(super) received_bytes: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) latency_nanos: AtomicU64,
    _more: [AtomicU64; 5],
    pub(super) latency: [AtomicU64; LATENCY_BUCKETS],
    pub(super) oldest: [Entry; ENTRIES],
}

/// One request in flight, under a sequence lock: `sequence` is odd while the rest is written.
#[repr(C, align(64))]
pub(super) struct Entry {
    pub(super) sequence: AtomicU32,
    /// Bytes of the whole path, of which `path` has the first.
    pub(super) path_len: AtomicU32,
    /// Microseconds on CLOCK_MONOTONIC; 0 where there is no request.
    pub(super) started: AtomicU64,
    pub(super) method: AtomicU64,
    pub(super) path: [AtomicU64; PATH_WORDS],
}

const HEADER: usize = size_of::<Header>();
const SLOT: usize = size_of::<Slot>();
const _: () = assert!(HEADER == 64 && SLOT == 23 * 64 && size_of::<Entry>() == 128);

/// More slots than anyone runs; keeps the size in hand.
const MAX_SLOTS: usize = 65_536;

/// Owns one mapping of a sealed file with a header and `slots` rows.
pub(super) struct Mapping {
    start: NonNull<u8>,
    slots: usize,
}

// SAFETY: the memory is reached only as `Header` and `Slot`, which are made of atomics alone, so
// any number of threads may hold and use it; it is unmapped only by the last owner's drop.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives out nothing but references to atomics.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the file, once it is known to be of the right size and to stay so.
    pub(super) fn new(fd: impl AsFd) -> Result<Self, ScoreboardError> {
        // Seals first: only they make the size read next still true while the memory is mapped.
        match rustix::fs::fcntl_get_seals(&fd) {
            Ok(set) if set.contains(seals()) => {}
            _ => return Err(ScoreboardError::NotSealed),
        }
        let size = rustix::fs::fstat(&fd).map_err(io::Error::from)?.st_size;
        let slots = slots_of(size).ok_or(ScoreboardError::Size(size))?;
        // SAFETY: the kernel picks the address (null hint, no MAP_FIXED), so no memory that Rust
        // knows of is replaced, and no reference to the new region exists yet.
        let start = unsafe {
            let (len, prot) = (len_of(slots), ProtFlags::READ | ProtFlags::WRITE);
            rustix::mm::mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, fd, 0)
        };
        let start = start.map_err(io::Error::from)?;
        let start =
            NonNull::new(start.cast()).ok_or(io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Self { start, slots })
    }

    /// How many rows the file has; from its size, never from what is written in it.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    pub(super) fn header(&self) -> &Header {
        // SAFETY: `start` is page-aligned and the mapping, alive as long as `self`, holds at least
        // HEADER bytes that the seals keep there. Every bit pattern is a valid atomic, and other
        // processes write the memory, which atomics (UnsafeCell) allow.
        unsafe { self.start.cast::<Header>().as_ref() }
    }

    /// Panics when there is no such slot, which would be a bug of this crate.
    pub(super) fn slot(&self, slot: usize) -> &Slot {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        // SAFETY: slot < slots (just checked), so HEADER + slot * SLOT + SLOT is inside the
        // mapping; both sizes are multiples of 64, so the row is aligned. The rest as in `header`.
        unsafe { self.start.add(HEADER + slot * SLOT).cast::<Slot>().as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let len = len_of(self.slots);
        // SAFETY: start and length are those of `new`; this is the only owner, and every reference
        // handed out borrowed from it.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), len) };
    }
}

/// The bytes of a scoreboard with so many slots.
pub(super) fn len_of(slots: usize) -> usize {
    HEADER + slots * SLOT
}

/// The seals without which a file is not mapped: nobody can cut it or lift a seal.
pub(super) fn seals() -> SealFlags {
    SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL
}

/// Whether a scoreboard may have so many slots.
pub(super) fn is_sane(slots: usize) -> bool {
    (1..=MAX_SLOTS).contains(&slots)
}

fn slots_of(size: i64) -> Option<usize> {
    let rows = usize::try_from(size).ok()?.checked_sub(HEADER)?;
    (rows % SLOT == 0 && is_sane(rows / SLOT)).then_some(rows / SLOT)
}
