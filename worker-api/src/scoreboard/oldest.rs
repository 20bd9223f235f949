//! The requests that have been in flight for longest, as a row shows them.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use super::mapping::Entry;
use super::row::micros;

/// Requests that a row shows.
pub(crate) const ENTRIES: usize = 8;
/// Bytes of a method that are kept.
pub const METHOD_BYTES: usize = 8;
/// Bytes of a path that are kept.
pub const PATH_BYTES: usize = 8 * PATH_WORDS;

pub(super) const PATH_WORDS: usize = 13;

/// A reader gives an entry up that is written anew this often while it reads.
const TRIES: usize = 4;

/// A request that is in flight, by the word of its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestUnderway {
    /// The method, cut at [`METHOD_BYTES`]. Like the path it is made of printable ASCII alone,
    /// every other byte written as `\xNN`.
    pub method: String,
    /// The path without its query; cut at [`PATH_BYTES`], it ends in `...`.
    pub path: String,
    /// When it began, on the clock of [`monotonic_now`](super::monotonic_now).
    pub started: Duration,
}

/// A request as it is written down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noted {
    started: u64,
    method: [u8; METHOD_BYTES],
    path_len: u32,
    path: [u8; PATH_BYTES],
}

impl Noted {
    /// What follows the path, a query above all, is left out: secrets are found there.
    pub(crate) fn new(method: &str, target: &str, started: Duration) -> Self {
        let target = target.as_bytes();
        let end = target.iter().position(|byte| matches!(byte, b'?' | b'#'));
        let whole = &target[..end.unwrap_or(target.len())];
        Self {
            // 0 is an empty entry.
            started: micros(started).max(1),
            method: prefix(method.as_bytes()),
            path_len: u32::try_from(whole.len()).unwrap_or(u32::MAX),
            path: prefix(whole),
        }
    }

    /// Words of the path that say anything.
    fn words(&self) -> impl Iterator<Item = u64> {
        let (words, _) = self.path.as_chunks();
        let used = (self.path_len as usize).div_ceil(8);
        words
            .iter()
            .take(used)
            .map(|word| u64::from_ne_bytes(*word))
    }
}

impl Entry {
    pub(super) fn write(&self, request: &Noted) {
        let before = self.sequence.load(Ordering::Relaxed) & !1;
        self.sequence
            .store(before.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.path_len.store(request.path_len, Ordering::Relaxed);
        self.started.store(request.started, Ordering::Relaxed);
        self.method
            .store(u64::from_ne_bytes(request.method), Ordering::Relaxed);
        for (place, word) in self.path.iter().zip(request.words()) {
            place.store(word, Ordering::Relaxed);
        }
        self.sequence
            .store(before.wrapping_add(2), Ordering::Release);
    }

    pub(super) fn empty(&self) {
        self.started.store(0, Ordering::Relaxed);
    }

    pub(super) fn clear(&self) {
        self.sequence.store(0, Ordering::Relaxed);
        self.path_len.store(0, Ordering::Relaxed);
        for number in [&self.started, &self.method].into_iter().chain(&self.path) {
            number.store(0, Ordering::Relaxed);
        }
    }

    /// What stands here; nothing if it is written anew all the time, or was left half written.
    pub(super) fn read(&self) -> Option<RequestUnderway> {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        for _ in 0..TRIES {
            let before = self.sequence.load(Ordering::Acquire);
            let started = read(&self.started);
            let path_len = self.path_len.load(Ordering::Relaxed) as usize;
            let method = read(&self.method).to_ne_bytes();
            let path: [[u8; 8]; PATH_WORDS] =
                std::array::from_fn(|at| read(&self.path[at]).to_ne_bytes());
            fence(Ordering::Acquire);
            if started == 0 {
                return None;
            }
            if before % 2 == 1 || self.sequence.load(Ordering::Relaxed) != before {
                continue;
            }
            let method_len = method.iter().position(|byte| *byte == 0);
            let path = path.as_flattened();
            let mut shown = printable(&path[..path_len.min(path.len())]);
            if path_len > path.len() {
                shown.push_str("...");
            }
            return Some(RequestUnderway {
                method: printable(&method[..method_len.unwrap_or(method.len())]),
                path: shown,
                started: Duration::from_micros(started),
            });
        }
        None
    }
}

fn prefix<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let len = text.len().min(N);
    bytes[..len].copy_from_slice(&text[..len]);
    bytes
}

fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'!'..=b'~' => text.push(char::from(*byte)),
            byte => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}
