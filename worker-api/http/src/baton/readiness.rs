//! Whether one direction of a descriptor is worth a try, and who waits until it is.
//!
//! What there is to know is one word, so that a socket that is ready is read and written without a
//! lock, and whoever waits already waits on without one.
//!
//! | bits of the word | mean |
//! |---|---|
//! | 0 `READY` | the kernel has not said "would block" since its last event |
//! | 1 `ENDED` | the end of the stream, or an error: there may be no event after it |
//! | 2 `WAITED` | somebody waits for the next event; changed under the lock, with the waiter |
//! | 3.. | how many events there were, so that none is taken back unseen |

use std::task::{Context, Poll, Waker};

use super::sync::{AtomicU32, Mutex, MutexGuard, Ordering, PoisonError};

const READY: u32 = 1;
const ENDED: u32 = 2;
const WAITED: u32 = 4;
const EVENT: u32 = 8;

/// See the module.
pub(crate) struct Readiness {
    word: AtomicU32,
    waiter: Mutex<Option<Waker>>,
}

/// Names the event after which an operation was tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen(u32);

/// Who polls again and again keeps this in between. It is of one [`Readiness`], which nobody else
/// polls.
#[derive(Default)]
pub(crate) struct Waiting {
    /// The word after it began to wait, and its waker.
    since: Option<(u32, Waker)>,
}

impl Readiness {
    /// As if the kernel had said that it would block, or `ready`.
    pub(crate) fn new(ready: bool) -> Self {
        Self {
            word: AtomicU32::new(if ready { READY } else { 0 }),
            waiter: Mutex::new(None),
        }
    }

    /// Ready if the operation is worth a try; else `cx` is woken when it is.
    pub(crate) fn poll(&self, waiting: &mut Waiting, cx: &Context<'_>) -> Poll<Seen> {
        let word = self.word.load(Ordering::Acquire);
        if word & READY != 0 {
            return Poll::Ready(Seen(word));
        }
        if waiting.lasts(word, cx.waker()) {
            return Poll::Pending;
        }
        let word = {
            let mut waiter = self.lock();
            match &mut *waiter {
                Some(waiter) => waiter.clone_from(cx.waker()),
                None => *waiter = Some(cx.waker().clone()),
            }
            // An event that the first look missed: it finds the waiter, or is seen here.
            self.word.fetch_or(WAITED, Ordering::AcqRel) | WAITED
        };
        if word & READY != 0 {
            return Poll::Ready(Seen(word));
        }
        waiting.begin(word, cx.waker());
        Poll::Pending
    }

    /// The operation, tried after `seen`, took all that there was: what comes next is an event,
    /// unless the end was one.
    pub(crate) fn emptied(&self, seen: Seen) {
        if seen.0 & ENDED == 0 {
            self.would_block(seen);
        }
    }

    /// The operation, tried after `seen`, would block; whatever was told of an end.
    pub(crate) fn would_block(&self, seen: Seen) {
        // If there was another event meanwhile, it is worth a try.
        let _ = self.word.compare_exchange(
            seen.0,
            seen.0 & !(READY | ENDED),
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    /// The kernel has an event, the last one if it has `ended`. Who waited for it is to be woken.
    pub(crate) fn event(&self, ended: bool) -> Option<Waker> {
        let flags = if ended { READY | ENDED } else { READY };
        let after = |word: u32| (word & !WAITED).wrapping_add(EVENT) | flags;
        let unless_waited = |word| (word & WAITED == 0).then(|| after(word));
        let (acqrel, acquire) = (Ordering::AcqRel, Ordering::Acquire);
        if (self.word.fetch_update(acqrel, acquire, unless_waited)).is_ok() {
            return None;
        }
        // Under the lock, so that who waits from now on is not taken for who waited before.
        let mut waiter = self.lock();
        let _ = (self.word).fetch_update(acqrel, acquire, |word| Some(after(word)));
        waiter.take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Whether it waits since before `word`, which no event has changed.
    fn lasts(&self, word: u32, waker: &Waker) -> bool {
        (self.since.as_ref()).is_some_and(|(since, mine)| *since == word && mine.will_wake(waker))
    }

    fn begin(&mut self, word: u32, waker: &Waker) {
        match &mut self.since {
            Some((since, mine)) => {
                *since = word;
                mine.clone_from(waker);
            }
            None => self.since = Some((word, waker.clone())),
        }
    }
}
