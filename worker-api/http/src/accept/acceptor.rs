//! One listener's connections: taken while the worker takes any, and, when it drains, to the last
//! one in the queue.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Sleep, Timer};
use rustix::net::SocketFlags;
use worker_api::{Drain, Listener, Stage};

use super::gate::{Gate, Place, Progress};
use super::policy::Stance;
use super::seat::Seat;
use crate::setup::Setup;

/// Pause after a failed accept; it doubles with each failure in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A worker that stands aside leaves a connection so long to the others. Those whose turn it is
/// may hang in a call; then it is better served here.
const GRACE: Duration = Duration::from_millis(10);
/// So many connections it takes after that.
const LEFT_OVER: usize = 16;
/// The same where the app holds this worker up: whoever comes here waits for it, and another worker
/// may be free much sooner. After so many graces in which nobody got on, it takes one, so that there
/// is somebody who answers for the worker's health. One that gets on itself is no worse than others.
const HELD_UP: u32 = 10;

/// So many connections the last round takes at most: who is flooded has to leave all the same.
const LAST_ROUND: usize = 16_384;
/// So many of them between two turns of everybody else.
const AT_ONCE: usize = 64;
/// The pod's master lets no handshake begin once the pod drains. So long the last round waits for
/// those that had begun: their clients know of a connection that is not in the queue yet. It is
/// more than a round trip within a region.
const HANDSHAKE: Duration = Duration::from_millis(50);
/// How long the last round waits for descriptors to come free, in pauses.
const LAST_PAUSES: usize = 20;

/// How a driver is told of a seat's events.
pub(crate) trait Watch {
    /// Ready once for each event, or each few, since it was last ready.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// See the module. The driver polls it when the worker's stage changes, too.
pub(crate) struct Acceptor<W, M> {
    listener: Arc<Listener>,
    watch: W,
    gate: Arc<Gate>,
    place: Place,
    drain: Drain,
    is_supervised: bool,
    timer: M,
    rest: Option<Rest>,
    pause: Duration,
    last: Last,
}

/// What it waits for besides events.
enum Rest {
    /// Accepting failed.
    Pause(Pin<Box<dyn Sleep>>),
    /// Another worker should take what has come.
    Grace(Pin<Box<dyn Sleep>>, Grace),
}

/// What was seen while others were to take what has come.
#[derive(Clone, Copy)]
struct Grace {
    before: Progress,
    /// So many times it was waited.
    times: u32,
}

/// The last round.
#[derive(Default)]
struct Last {
    /// It has waited for handshakes.
    waited: bool,
    accepted: usize,
    pauses: usize,
}

impl<W: Watch, M: Timer> Acceptor<W, M> {
    /// Takes part in accepting from now on. `watch` hears of the events of `seat`, which is one
    /// for `listener`.
    pub(crate) fn new(
        setup: &Setup,
        listener: Arc<Listener>,
        seat: Seat,
        watch: W,
        timer: M,
    ) -> io::Result<Self> {
        Ok(Self {
            place: setup.gate.enroll(seat)?,
            listener,
            watch,
            gate: Arc::clone(&setup.gate),
            drain: setup.drain.clone(),
            is_supervised: setup.worker.is_supervised(),
            timer,
            rest: None,
            pause: FIRST_PAUSE,
            last: Last::default(),
        })
    }

    /// Accepts until the worker takes no more connections; ready then, with the seat left.
    pub(crate) fn poll_serving(
        &mut self,
        cx: &mut Context<'_>,
        welcome: &mut impl FnMut(OwnedFd),
    ) -> Poll<()> {
        while self.drain.stage().accepts() {
            let grace_is_over = match &mut self.rest {
                Some(Rest::Pause(sleep)) => {
                    ready!(sleep.as_mut().poll(cx));
                    self.rejoin();
                    continue;
                }
                Some(Rest::Grace(sleep, grace)) => {
                    sleep.as_mut().poll(cx).is_ready().then_some(*grace)
                }
                None => None,
            };
            if let Some(grace) = grace_is_over {
                self.rest = None;
                self.take_left_over(grace, welcome);
                continue;
            }
            match ready!(self.watch.poll_event(cx)) {
                Ok(()) => self.take_turn(welcome),
                Err(error) => self.rest_after(&error),
            }
        }
        self.rest = None;
        self.gate.close(self.place);
        // One that this worker may have been woken for, and nobody else was.
        if let Ok(socket) = self.accept() {
            self.welcome(socket, welcome);
        }
        Poll::Ready(())
    }

    /// Takes what waits in the queue, asking the kernel until it says that there is nothing, and in
    /// a pod that drains once more a moment later; ready then. The listener is to be closed next.
    pub(crate) fn poll_last_round(
        &mut self,
        cx: &mut Context<'_>,
        welcome: &mut impl FnMut(OwnedFd),
    ) -> Poll<()> {
        if let Some(Rest::Pause(sleep)) = &mut self.rest {
            ready!(sleep.as_mut().poll(cx));
            self.rest = None;
        }
        for _ in 0..AT_ONCE {
            match self.accept() {
                Ok(socket) => self.welcome(socket, welcome),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.last.waited || !self.has_handshakes() {
                        return Poll::Ready(());
                    }
                    self.last.waited = true;
                    let until = self.timer.now() + HANDSHAKE;
                    self.rest = Some(Rest::Pause(self.timer.sleep_until(until)));
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(error) if is_of_peer(&error) => {}
                Err(error) if self.last.pauses < LAST_PAUSES => {
                    self.last.pauses += 1;
                    self.pause = FIRST_PAUSE;
                    self.rest_after(&error);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(error) => {
                    tracing::error!(%error, "connections are left in the accept queue");
                    return Poll::Ready(());
                }
            }
            self.last.accepted += 1;
            if self.last.accepted == LAST_ROUND {
                tracing::warn!("the accept queue does not get empty; closing it");
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether connections may be on their way whose handshake began before the master let no more
    /// begin.
    fn has_handshakes(&self) -> bool {
        let tcp = matches!(*self.listener, Listener::Tcp { .. });
        tcp && self.is_supervised && self.drain.stage() == Stage::Draining
    }

    /// Something has come.
    fn take_turn(&mut self, welcome: &mut impl FnMut(OwnedFd)) {
        match self.gate.stance() {
            // One, then it is another's turn.
            Stance::In => {
                self.rest = None;
                if self.take_one(welcome) {
                    self.gate.look();
                    self.rejoin();
                }
            }
            Stance::Aside if self.rest.is_some() => {}
            Stance::Aside => {
                self.give_grace(Grace {
                    before: self.gate.progress(),
                    times: 0,
                });
            }
            // An event of before. What waits is told of again when there is room.
            Stance::Full => {}
        }
    }

    fn give_grace(&mut self, grace: Grace) {
        let sleep = self.timer.sleep_until(self.timer.now() + GRACE);
        let times = grace.times + 1;
        self.rest = Some(Rest::Grace(sleep, Grace { times, ..grace }));
    }

    /// What should have been another's may be there still.
    fn take_left_over(&mut self, grace: Grace, welcome: &mut impl FnMut(OwnedFd)) {
        let now = self.gate.progress();
        let gets_on = now.own != grace.before.own || !self.gate.is_held_up();
        let most = match gets_on {
            true => LEFT_OVER,
            false if grace.times < HELD_UP => return self.give_grace(grace),
            false => usize::from(now.others == grace.before.others),
        };
        for _ in 0..most {
            if self.gate.look() != Stance::Aside || !self.take_one(welcome) {
                break;
            }
        }
        if self.rest.is_none() {
            self.rejoin();
        }
    }

    /// Takes one connection. `false` if there was none, or accepting fails.
    fn take_one(&mut self, welcome: &mut impl FnMut(OwnedFd)) -> bool {
        loop {
            match self.accept() {
                Ok(socket) => {
                    self.welcome(socket, welcome);
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if is_of_peer(&error) => {}
                Err(error) => {
                    self.rest_after(&error);
                    return false;
                }
            }
        }
    }

    fn accept(&self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(rustix::net::accept_with(&*self.listener, flags)?)
    }

    fn welcome(&mut self, socket: OwnedFd, welcome: &mut impl FnMut(OwnedFd)) {
        self.pause = FIRST_PAUSE;
        if matches!(*self.listener, Listener::Tcp { .. }) {
            // Heads and bodies go out in one write; what is written last must not wait for an ACK.
            if let Err(error) = rustix::net::sockopt::set_tcp_nodelay(&socket, true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
        }
        welcome(socket);
    }

    fn rejoin(&mut self) {
        self.rest = None;
        if let Err(error) = self.gate.rejoin(self.place) {
            self.rest_after(&error);
        }
    }

    /// Accepting fails, and would again at once.
    fn rest_after(&mut self, error: &io::Error) {
        tracing::error!(%error, pause = ?self.pause, "cannot accept");
        self.gate.pause(self.place);
        let until = self.timer.now() + self.pause;
        self.rest = Some(Rest::Pause(self.timer.sleep_until(until)));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

impl<W, M> Drop for Acceptor<W, M> {
    fn drop(&mut self) {
        self.gate.close(self.place);
    }
}

/// Whether the failure is about the connection that was to be accepted, not about us: the next
/// one may do.
fn is_of_peer(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::Interrupted
    )
}
