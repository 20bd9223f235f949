//! How far a worker's way out has come, and ways to wait for it: blocking, async, as a descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;

use crate::waiters::{Key, Waiters};

/// How a worker is to treat its connections. It only ever goes up.
///
/// Health is apart: a worker that retires stays healthy, and one that is told `LAMEDUCK` while it
/// retires turns unhealthy and stays in [`Stage::Retiring`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stage {
    /// Serve and keep connections alive.
    Serving = 0,
    /// Serve everything, new connections too; announce `Connection: close` in every answer; close
    /// no idle connection that has not been told.
    Lameduck = 1,
    /// As lameduck, but take no new connections: empty the accept queue, then close the listener.
    Retiring = 2,
    /// Empty the accept queue and close the listener; on idle connections serve what has come,
    /// then close; finish what is in flight; then report drained.
    Draining = 3,
    /// Abort what is left and report drained.
    Forced = 4,
}

impl Stage {
    /// Whether new connections are welcome.
    #[must_use]
    pub fn accepts(self) -> bool {
        self <= Self::Lameduck
    }

    /// Whether every answer must say `Connection: close`.
    #[must_use]
    pub fn announces_close(self) -> bool {
        self >= Self::Lameduck
    }

    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Serving,
            1 => Self::Lameduck,
            2 => Self::Retiring,
            3 => Self::Draining,
            _ => Self::Forced,
        }
    }
}

/// Tells the [`Stage`] and lets wait for the next. Cheap to clone, and to ask at every request.
///
/// Three ways to wait: [`wait`](Self::wait) blocks a thread, [`reached`](Self::reached) and
/// [`changed`](Self::changed) are futures for any runtime, [`subscribe`](Self::subscribe) gives a
/// descriptor for a poll loop.
///
/// ```
/// use std::time::Duration;
/// use worker_api::{Stage, Worker};
///
/// # let worker = Worker::builder().standalone_bind("127.0.0.1:0").init()?;
/// let drain = worker.drain();
/// assert!(drain.stage().accepts());
/// if !drain.wait_timeout(Stage::Draining, Duration::from_millis(1)) {
///     assert_eq!(drain.stage(), Stage::Serving);
/// }
/// # Ok::<(), worker_api::InitError>(())
/// ```
#[derive(Clone)]
pub struct Drain {
    shared: Arc<Shared>,
}

struct Shared {
    stage: AtomicU8,
    waiters: Waiters,
    events: Mutex<Vec<Arc<OwnedFd>>>,
}

/// A descriptor that becomes readable whenever the stage changes, for a loop of one's own. It is
/// readable at once when the stage had left [`Stage::Serving`] already.
///
/// It is an eventfd of this subscriber alone, non-blocking and close-on-exec.
pub struct DrainEvents {
    fd: Arc<OwnedFd>,
    shared: Arc<Shared>,
}

/// Waits for a stage; of [`Drain::reached`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Reached {
    shared: Arc<Shared>,
    stage: Stage,
    key: Key,
}

/// Waits for a change; of [`Drain::changed`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Changed {
    shared: Arc<Shared>,
    from: Stage,
    key: Key,
}

impl Drain {
    pub(crate) fn new() -> Self {
        let shared = Shared {
            stage: AtomicU8::new(Stage::Serving as u8),
            waiters: Waiters::default(),
            events: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The stage now: one atomic load.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.shared.stage()
    }

    /// Blocks this thread until the stage is `stage` or later.
    pub fn wait(&self, stage: Stage) {
        self.shared.waiters.block(None, || self.stage() >= stage);
    }

    /// Blocks this thread until the stage is `stage` or later, at most for `timeout`; tells
    /// whether it is.
    #[must_use]
    pub fn wait_timeout(&self, stage: Stage, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        self.shared
            .waiters
            .block(deadline, || self.stage() >= stage)
    }

    /// A future that is done once the stage is `stage` or later. It needs no runtime.
    pub fn reached(&self, stage: Stage) -> Reached {
        Reached {
            shared: Arc::clone(&self.shared),
            stage,
            key: None,
        }
    }

    /// A future that is done once the stage is later than `from`; it gives the new stage.
    pub fn changed(&self, from: Stage) -> Changed {
        Changed {
            shared: Arc::clone(&self.shared),
            from,
            key: None,
        }
    }

    /// A descriptor for one's own poll loop.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn subscribe(&self) -> io::Result<DrainEvents> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fd = Arc::new(rustix::event::eventfd(0, flags)?);
        self.shared.events().push(Arc::clone(&fd));
        // After the push: a change in between is then told twice rather than never.
        if self.stage() > Stage::Serving {
            signal(&fd);
        }
        Ok(DrainEvents {
            fd,
            shared: Arc::clone(&self.shared),
        })
    }

    /// Goes on to `stage`; never back. The stage is written before anybody is woken.
    pub(crate) fn advance(&self, stage: Stage) {
        let before = self.shared.stage.fetch_max(stage as u8, Ordering::SeqCst);
        if before < stage as u8 {
            tracing::debug!(?stage, "drain stage");
            self.shared.waiters.wake_all();
            self.shared.events().iter().for_each(signal);
        }
    }
}

impl std::fmt::Debug for Drain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drain")
            .field("stage", &self.stage())
            .finish()
    }
}

impl DrainEvents {
    /// Makes the descriptor unreadable until the next change. Call it, then ask [`Drain::stage`]:
    /// in this order no change is missed.
    pub fn clear(&self) {
        // EAGAIN: it was clear already.
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
    }
}

impl AsFd for DrainEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for DrainEvents {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for DrainEvents {
    fn drop(&mut self) {
        self.shared
            .events()
            .retain(|other| !Arc::ptr_eq(other, &self.fd));
    }
}

impl Future for Reached {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { shared, stage, key } = self.get_mut();
        shared
            .waiters
            .poll(key, context, || shared.stage() >= *stage)
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        self.shared.waiters.forget(&mut self.key);
    }
}

impl Future for Changed {
    type Output = Stage;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Stage> {
        let Self { shared, from, key } = self.get_mut();
        shared
            .waiters
            .poll(key, context, || shared.stage() > *from)
            .map(|()| shared.stage())
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        self.shared.waiters.forget(&mut self.key);
    }
}

impl Shared {
    fn stage(&self) -> Stage {
        Stage::from_number(self.stage.load(Ordering::SeqCst))
    }

    fn events(&self) -> std::sync::MutexGuard<'_, Vec<Arc<OwnedFd>>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signal(fd: &Arc<OwnedFd>) {
    // EAGAIN: the counter is full, so it is readable as it should be.
    let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    const STAGES: [Stage; 5] = [
        Stage::Serving,
        Stage::Lameduck,
        Stage::Retiring,
        Stage::Draining,
        Stage::Forced,
    ];

    fn readable(events: &DrainEvents) -> bool {
        use rustix::event::{PollFd, PollFlags, poll};
        let zero = Duration::ZERO.try_into().unwrap();
        poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&zero)).unwrap() == 1
    }

    #[test]
    fn a_stage_is_never_taken_back() {
        for first in STAGES {
            for second in STAGES {
                let drain = Drain::new();
                drain.advance(first);
                drain.advance(second);
                assert_eq!(drain.stage(), first.max(second));
            }
        }
    }

    #[test]
    fn new_connections_are_welcome_until_retire_and_close_is_announced_from_lameduck_on() {
        assert_eq!(
            STAGES.map(Stage::accepts),
            [true, true, false, false, false]
        );
        assert_eq!(
            STAGES.map(Stage::announces_close),
            [false, true, true, true, true]
        );
    }

    #[test]
    fn the_descriptor_tells_every_change_and_is_quiet_in_between() {
        let drain = Drain::new();
        let events = drain.subscribe().unwrap();
        assert!(!readable(&events));
        for stage in &STAGES[1..] {
            drain.advance(*stage);
            assert!(readable(&events));
            events.clear();
            assert!(!readable(&events));
            drain.advance(*stage);
            assert!(!readable(&events), "no change, no event");
        }
        events.clear();
    }

    #[test]
    fn a_late_subscriber_is_told_at_once_and_a_gone_one_is_forgotten() {
        let drain = Drain::new();
        drain.advance(Stage::Lameduck);
        let (one, two) = (drain.subscribe().unwrap(), drain.subscribe().unwrap());
        assert!(readable(&one) && readable(&two));
        drop(one);
        assert_eq!(drain.shared.events().len(), 1);
        two.clear();
        drain.advance(Stage::Draining);
        assert!(readable(&two));
    }

    #[test]
    fn waiting_threads_and_futures_wake_at_their_stage() {
        let drain = Drain::new();
        let mut context = Context::from_waker(Waker::noop());
        let mut reached = drain.reached(Stage::Draining);
        let mut changed = drain.changed(Stage::Lameduck);
        assert!(Pin::new(&mut changed).poll(&mut context).is_pending());
        assert!(!drain.wait_timeout(Stage::Lameduck, Duration::from_millis(1)));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| drain.wait(Stage::Draining));
            drain.advance(Stage::Lameduck);
            assert!(Pin::new(&mut changed).poll(&mut context).is_pending());
            drain.advance(Stage::Retiring);
            assert_eq!(
                Pin::new(&mut changed).poll(&mut context),
                Poll::Ready(Stage::Retiring)
            );
            assert!(Pin::new(&mut reached).poll(&mut context).is_pending());
            drain.advance(Stage::Forced);
            waiter.join().unwrap();
        });
        assert!(Pin::new(&mut reached).poll(&mut context).is_ready());
        assert!(drain.wait_timeout(Stage::Serving, Duration::ZERO));
    }
}
