//! Threads and tasks that wait for a condition kept elsewhere in atomics. No runtime is needed.
//!
//! No wake-up is lost: a waiter announces itself, then looks at the condition once more under the
//! lock; whoever changes the condition changes it first, then looks for waiters. The two fences
//! make one of them see the other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Names one task among those that wait; a future keeps it between its polls.
pub(crate) type Key = Option<u64>;

#[derive(Default)]
pub(crate) struct Waiters {
    /// Blocked threads and stored wakers, so that nobody locks when there is nobody to wake.
    count: AtomicUsize,
    tasks: Mutex<Tasks>,
    changed: Condvar,
}

#[derive(Default)]
struct Tasks {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Waiters {
    /// To be called after the condition has changed.
    pub(crate) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let wakers = {
            let mut tasks = self.lock();
            self.changed.notify_all();
            std::mem::take(&mut tasks.wakers)
        };
        self.count.fetch_sub(wakers.len(), Ordering::Relaxed);
        // Outside the lock, since a waker may run code that comes back here.
        wakers.into_values().for_each(Waker::wake);
    }

    /// Blocks until `met`, or `deadline`; tells whether it is met.
    pub(crate) fn block(&self, deadline: Option<Instant>, met: impl Fn() -> bool) -> bool {
        if met() {
            return true;
        }
        let mut tasks = self.lock();
        self.count.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let mut done = met();
        while !done {
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            tasks = match left {
                Some(left) if left.is_zero() => break,
                Some(left) => {
                    self.changed
                        .wait_timeout(tasks, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .changed
                    .wait(tasks)
                    .unwrap_or_else(PoisonError::into_inner),
            };
            done = met();
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        done
    }

    /// One poll of a future that waits for `met`.
    pub(crate) fn poll(
        &self,
        key: &mut Key,
        context: &mut Context<'_>,
        met: impl Fn() -> bool,
    ) -> Poll<()> {
        if !met() {
            let mut tasks = self.lock();
            let id = *key.get_or_insert_with(|| {
                tasks.next += 1;
                tasks.next
            });
            if tasks.wakers.insert(id, context.waker().clone()).is_none() {
                self.count.fetch_add(1, Ordering::Relaxed);
            }
            drop(tasks);
            fence(Ordering::SeqCst);
            if !met() {
                return Poll::Pending;
            }
        }
        self.forget(key);
        Poll::Ready(())
    }

    /// A future that waited here is done or dropped.
    pub(crate) fn forget(&self, key: &mut Key) {
        if let Some(id) = key.take()
            && self.lock().wakers.remove(&id).is_some()
        {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;
    use std::thread;

    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let waker = Arc::new(Unpark(thread::current())).into();
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(value) => return value,
                Poll::Pending => thread::park(),
            }
        }
    }

    /// Two sides take turns a few thousand times; a single lost wake-up hangs the test.
    #[test]
    fn no_wake_up_is_lost() {
        const TURNS: u32 = 3_000;
        let (waiters, turn) = (Waiters::default(), AtomicU32::new(0));
        let pass = || {
            turn.fetch_add(1, Ordering::Relaxed);
            waiters.wake_all();
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                for mine in (0..TURNS).step_by(2) {
                    assert!(waiters.block(None, || turn.load(Ordering::Relaxed) == mine));
                    pass();
                }
            });
            scope.spawn(|| {
                for mine in (1..TURNS).step_by(2) {
                    let mut key = None;
                    let mine = || turn.load(Ordering::Relaxed) == mine;
                    block_on(poll_fn(|context| waiters.poll(&mut key, context, mine)));
                    pass();
                }
            });
        });
        assert_eq!(turn.into_inner(), TURNS);
        assert_eq!(waiters.count.into_inner(), 0, "everybody has left");
    }

    #[test]
    fn a_future_that_is_dropped_leaves_nothing_behind() {
        let waiters = Waiters::default();
        let mut context = Context::from_waker(Waker::noop());
        let (mut one, mut two) = (None, None);
        for key in [&mut one, &mut two] {
            assert!(waiters.poll(key, &mut context, || false).is_pending());
            assert!(waiters.poll(key, &mut context, || false).is_pending());
        }
        assert_eq!(waiters.count.load(Ordering::Relaxed), 2);
        waiters.forget(&mut one);
        waiters.forget(&mut one);
        waiters.wake_all();
        waiters.forget(&mut two);
        assert_eq!(waiters.count.load(Ordering::Relaxed), 0);
        assert!(waiters.lock().wakers.is_empty());
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        let waiters = Waiters::default();
        assert!(!waiters.block(Some(Instant::now()), || false));
        assert!(waiters.block(Some(Instant::now()), || true));
        assert_eq!(waiters.count.into_inner(), 0);
    }
}
