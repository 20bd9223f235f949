//! Files in a response, sent by the kernel behind hyper's back.
//!
//! hyper writes bytes that it was given. For a file it is given a *hole*: a slice of one stretch of
//! memory that is never read nor written. hyper queues slices as they are and hands them to the
//! socket, which knows the hole by its address and calls `sendfile` in its stead. Only
//! [`Stream`](super::socket::Stream) may be below such a connection.

use std::collections::VecDeque;
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use rustix::io::Errno;

/// As long as one `sendfile` should be: others have their turn in between.
const HOLE: usize = 1 << 20;

/// The parts of files that a connection has promised, in the order of its responses.
#[derive(Clone, Default)]
pub(super) struct Files {
    parts: Arc<Mutex<VecDeque<Part>>>,
}

struct Part {
    file: File,
    offset: u64,
    left: u64,
}

impl Files {
    /// The next bytes that are written as a hole are these.
    pub(super) fn promise(&self, file: File, offset: u64, len: u64) {
        let part = Part {
            file,
            offset,
            left: len,
        };
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(part);
    }

    /// Sends what stands for `len` bytes of the hole.
    pub(super) fn send(&self, socket: &impl AsFd, len: usize) -> rustix::io::Result<usize> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let part = parts.front_mut().ok_or(Errno::IO)?;
        let len = len.min(usize::try_from(part.left).unwrap_or(usize::MAX));
        let sent = rustix::fs::sendfile(socket, &part.file, Some(&mut part.offset), len)?;
        if sent == 0 {
            // Shorter than promised. There is no other way to tell the client.
            return Err(Errno::IO);
        }
        part.left = part.left.saturating_sub(sent as u64);
        if part.left == 0 {
            parts.pop_front();
        }
        Ok(sent)
    }
}

/// A slice of the hole for at most `len` bytes.
pub(super) fn hole(len: u64) -> Bytes {
    // Zeroed pages that nobody touches: address space, no memory.
    let hole = PLACE.get_or_init(|| Box::leak(vec![0; HOLE].into_boxed_slice()));
    let len = usize::try_from(len).unwrap_or(HOLE).min(HOLE);
    Bytes::from_static(&hole[..len])
}

/// Where the first slice of the hole is among `bufs`.
pub(super) fn find_hole(bufs: &[IoSlice<'_>]) -> Option<usize> {
    let place = PLACE.get()?.as_ptr_range();
    bufs.iter()
        .position(|buf| !buf.is_empty() && place.contains(&buf.as_ptr()))
}

static PLACE: OnceLock<&'static [u8]> = OnceLock::new();
