//! The baton: the right to poll the kernel and to run tasks. One word says who may take it.
//!
//! | bits | mean |
//! |---|---|
//! | 0 `FREE` | nobody holds it: its last holder runs an app call |
//! | 1 `WATCHED` | a thread looks after it every millisecond or two, or is on its way to |
//! | 2.. | how often it was put down, that is, a number for each call |

use super::sync::{AtomicU64, Ordering};

const FREE: u64 = 1;
const WATCHED: u64 = 2;
const CALL: u64 = 4;

/// See the module. It begins in the hands of whoever made it.
pub(crate) struct Baton {
    word: AtomicU64,
}

/// What a watcher has seen in its last look.
pub(crate) struct Sight(Option<u64>);

/// What comes of a watcher's look.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// A call lasts: the watcher holds the baton now, and watches no more.
    Took,
    /// No call since the last look: the watcher watches no more.
    Rest,
    /// Look again; `calling`: a call runs.
    Again { calling: bool },
}

impl Baton {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
        }
    }

    /// Its holder puts it down for a call. `true` if nobody watches: the caller has to send
    /// somebody.
    #[must_use]
    pub(crate) fn put_down(&self) -> bool {
        // Release: whoever takes it sees what its holder has done.
        let before = self.word.fetch_add(CALL | FREE, Ordering::AcqRel);
        before & WATCHED == 0 && self.word.fetch_or(WATCHED, Ordering::AcqRel) & WATCHED == 0
    }

    /// Takes it if it is free; for a thread that has nothing else to do.
    #[must_use]
    pub(crate) fn take(&self) -> bool {
        self.word.fetch_and(!FREE, Ordering::AcqRel) & FREE != 0
    }

    /// Whether nobody holds it.
    pub(crate) fn is_free(&self) -> bool {
        self.word.load(Ordering::Acquire) & FREE != 0
    }

    /// A watcher's look. A call lasts if it was there at the last look, or `is_long` says so.
    pub(crate) fn look(&self, sight: &mut Sight, is_long: impl FnOnce() -> bool) -> Look {
        let now = self.word.load(Ordering::Acquire);
        let same_call = sight.0.is_some_and(|seen| seen / CALL == now / CALL);
        sight.0 = Some(now);
        let calling = now & FREE != 0;
        let lasts = same_call || (calling && is_long());
        if !lasts {
            return Look::Again { calling };
        }
        // The call may have ended since, or another one begun: then there is more to see.
        let left = now & !(FREE | WATCHED);
        let ours = self
            .word
            .compare_exchange(now, left, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        match ours {
            true if calling => Look::Took,
            true => Look::Rest,
            false => Look::Again { calling: false },
        }
    }

    /// A watcher takes the baton, whatever it has seen, if it is free.
    pub(crate) fn seize(&self) -> Look {
        let mut now = self.word.load(Ordering::Acquire);
        while now & FREE != 0 {
            let left = now & !(FREE | WATCHED);
            let taken = self
                .word
                .compare_exchange(now, left, Ordering::AcqRel, Ordering::Acquire);
            match taken {
                Ok(_) => return Look::Took,
                Err(other) => now = other,
            }
        }
        Look::Again { calling: false }
    }

    /// The watcher that was to be sent cannot come.
    pub(crate) fn unwatch(&self) {
        self.word.fetch_and(!WATCHED, Ordering::AcqRel);
    }
}

impl Sight {
    pub(crate) fn none() -> Self {
        Self(None)
    }
}
