//! Polls the kernel, and tells tasks that a socket of theirs may be read or written again.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Registry, Token};
use slab::Slab;
use worker_api::Listener;

use super::readiness::{Readiness, Seen, Waiting};
use crate::accept::Seat;

/// So many events are taken from the kernel at once.
const EVENTS: usize = 256;
const WAKE: Token = Token(usize::MAX);
const CLOCK: Token = Token(usize::MAX - 1);

pub(super) struct Reactor {
    /// Of the holder of the baton; the lock is never waited for.
    turn: Mutex<Turn>,
    registry: Registry,
    waker: mio::Waker,
    sources: Mutex<Slab<Arc<Source>>>,
}

struct Turn {
    poll: mio::Poll,
    events: Events,
    /// Whom they are for; empty between two turns.
    wakers: Vec<Waker>,
}

/// What is known of a descriptor that the reactor watches, edge-triggered and for all its life.
pub(super) struct Source {
    token: usize,
    sides: [Readiness; 2],
}

/// A direction.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Read = 0,
    Write = 1,
}

impl Reactor {
    pub(super) fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = mio::Waker::new(&registry, WAKE)?;
        let events = Events::with_capacity(EVENTS);
        Ok(Self {
            turn: Mutex::new(Turn {
                poll,
                events,
                wakers: Vec::new(),
            }),
            registry,
            waker,
            sources: Mutex::default(),
        })
    }

    /// Watches a descriptor, until [`unwatch`](Self::unwatch).
    pub(super) fn watch(&self, fd: &impl AsFd, interest: Interest) -> io::Result<Arc<Source>> {
        let (source, token) = {
            let mut sources = self.sources();
            let entry = sources.vacant_entry();
            let token = entry.key();
            let sides = [Readiness::new(false), Readiness::new(true)];
            (
                Arc::clone(entry.insert(Arc::new(Source { token, sides }))),
                Token(token),
            )
        };
        let raw = fd.as_fd().as_raw_fd();
        self.registry
            .register(&mut SourceFd(&raw), token, interest)
            .inspect_err(|_| self.forget(&source))?;
        Ok(source)
    }

    /// Watches a listener, as its seat says.
    pub(super) fn seat(&self, listener: &Arc<Listener>) -> io::Result<(Arc<Source>, Seat)> {
        let source = self.watch(listener.as_ref(), Interest::READABLE)?;
        let epoll = self.epoll().inspect_err(|_| self.forget(&source))?;
        let seat = Seat::new(epoll, source.token as u64, Arc::clone(listener) as _);
        Ok((source, seat))
    }

    /// Has a timer's descriptor end a wait when it rings.
    pub(super) fn watch_clock(&self, fd: &impl AsFd) -> io::Result<()> {
        let raw = fd.as_fd().as_raw_fd();
        self.registry
            .register(&mut SourceFd(&raw), CLOCK, Interest::READABLE)
    }

    /// The epoll, by a descriptor of one's own.
    pub(super) fn epoll(&self) -> io::Result<OwnedFd> {
        self.registry.as_fd().try_clone_to_owned()
    }

    /// The descriptor is about to be closed. A process that the app forked may have it still, and then
    /// the kernel would tell of it under a token that is another's.
    pub(super) fn unwatch(&self, source: &Source, fd: &impl AsFd) {
        let raw = fd.as_fd().as_raw_fd();
        if let Err(error) = self.registry.deregister(&mut SourceFd(&raw)) {
            tracing::error!(%error, "cannot stop watching a connection");
        }
        self.forget(source);
    }

    /// The descriptor is not watched any more. An event that is already under way may then meet the
    /// next one with this token: it is a hint that does no harm.
    pub(super) fn forget(&self, source: &Source) {
        self.sources().try_remove(source.token);
    }

    /// Waits for events, at most for `timeout`, then says `back` and wakes the tasks that they are
    /// for. For the holder of the baton.
    pub(super) fn wait(&self, timeout: Option<Duration>, back: impl FnOnce()) {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Turn {
            poll,
            events,
            wakers,
        } = &mut *turn;
        let polled = poll.poll(events, timeout);
        back();
        if let Err(error) = polled {
            if error.kind() != io::ErrorKind::Interrupted {
                tracing::error!(%error, "cannot poll");
            }
            return;
        }
        let sources = self.sources();
        for event in events.iter() {
            if let Some(source) = sources.get(event.token().0) {
                wakers.extend(source.take(event).into_iter().flatten());
            }
        }
        // Who is woken may watch another descriptor.
        drop(sources);
        wakers.drain(..).for_each(Waker::wake);
    }

    /// Ends the wait of the holder of the baton.
    pub(super) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake the loop");
        }
    }

    fn sources(&self) -> MutexGuard<'_, Slab<Arc<Source>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// Ready if the operation is worth a try; else `cx` is woken when it is.
    pub(super) fn poll(&self, side: Side, cx: &Context<'_>) -> Poll<Seen> {
        self.poll_again(side, &mut Waiting::default(), cx)
    }

    /// The same. What is `waiting` is kept for the next time, and nobody else polls in between.
    pub(super) fn poll_again(
        &self,
        side: Side,
        waiting: &mut Waiting,
        cx: &Context<'_>,
    ) -> Poll<Seen> {
        self.sides[side as usize].poll(waiting, cx)
    }

    /// The operation, tried after `seen`, took all that there was.
    pub(super) fn emptied(&self, side: Side, seen: Seen) {
        self.sides[side as usize].emptied(seen);
    }

    /// Tries `operation` until it would block; `waiting` as above.
    pub(super) fn poll_io<R>(
        &self,
        side: Side,
        waiting: &mut Waiting,
        cx: &Context<'_>,
        mut operation: impl FnMut(Seen) -> rustix::io::Result<R>,
    ) -> Poll<io::Result<R>> {
        use rustix::io::Errno;
        let side = &self.sides[side as usize];
        loop {
            let Poll::Ready(seen) = side.poll(waiting, cx) else {
                return Poll::Pending;
            };
            match operation(seen) {
                Err(Errno::WOULDBLOCK) => side.would_block(seen),
                Err(Errno::INTR) => {}
                done => return Poll::Ready(done.map_err(io::Error::from)),
            }
        }
    }

    fn take(&self, event: &Event) -> [Option<Waker>; 2] {
        let failed = event.is_error();
        let reads = (event.is_readable(), event.is_read_closed() || failed);
        let writes = (event.is_writable(), event.is_write_closed() || failed);
        let [read, write] = &self.sides;
        [(read, reads), (write, writes)].map(|(side, (ready, ended))| {
            let any = ready || ended;
            any.then(|| side.event(ended))?
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(readiness: &Readiness, waiting: &mut Waiting, count: &Arc<Count>) -> Poll<Seen> {
        let waker = Waker::from(Arc::clone(count));
        readiness.poll(waiting, &Context::from_waker(&waker))
    }

    #[test]
    fn who_polled_last_is_woken_once_for_each_wait() {
        let readiness = Readiness::new(false);
        let (first, second) = (Arc::default(), Arc::default());
        let mut waiting = Waiting::default();
        assert!(poll(&readiness, &mut waiting, &first).is_pending());
        assert!(poll(&readiness, &mut waiting, &first).is_pending());
        assert!(poll(&readiness, &mut waiting, &second).is_pending());
        readiness.event(false).unwrap().wake();
        assert!(readiness.event(false).is_none(), "nobody waits now");
        let counts = [&first, &second].map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(counts, [0, 1]);
        let Poll::Ready(seen) = poll(&readiness, &mut waiting, &first) else {
            panic!("there were two events");
        };
        readiness.would_block(seen);
        assert!(poll(&readiness, &mut waiting, &second).is_pending());
        assert!(readiness.event(false).is_some());
    }

    #[test]
    fn an_event_that_was_not_seen_is_not_taken_back() {
        let readiness = Readiness::new(true);
        let (count, mut waiting) = (Arc::default(), Waiting::default());
        let Poll::Ready(seen) = poll(&readiness, &mut waiting, &count) else {
            panic!("it is ready");
        };
        readiness.event(false);
        readiness.would_block(seen);
        assert!(poll(&readiness, &mut waiting, &count).is_ready());
    }

    #[test]
    fn after_its_end_a_descriptor_stays_ready_unless_it_was_another_s() {
        let readiness = Readiness::new(false);
        let (count, mut waiting) = (Arc::default(), Waiting::default());
        readiness.event(true);
        for _ in 0..2 {
            let Poll::Ready(seen) = poll(&readiness, &mut waiting, &count) else {
                panic!("it has ended");
            };
            readiness.emptied(seen);
        }
        let Poll::Ready(seen) = poll(&readiness, &mut waiting, &count) else {
            panic!("it has ended");
        };
        readiness.would_block(seen);
        assert!(poll(&readiness, &mut waiting, &count).is_pending());
        assert!(readiness.event(true).is_some());
    }
}
