//! What a connection shares with the parts that HTTP takes out of its hands: the socket's wrapper,
//! the service and the response body. They report here, and the socket comes home through here.

mod hints;
mod request;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use self::request::Exchange;
use crate::accept::Open;
use crate::checks::{Client, Oddity, Refusal};
use crate::hints::Outbox;
use crate::intake::{Intake, News};
use crate::lifecycle::{Absence, Action, Input, Lifecycle, Next, State};
use crate::setup::Setup;
use crate::waiter::remember;

/// Shared by all that belongs to one connection with a socket of type `T`.
///
/// All of it runs in the connection's task, one after the other, so the lock is free; only an app
/// that took the socket over comes from elsewhere.
pub(crate) struct Link<T> {
    pub(crate) setup: Arc<Setup>,
    shared: Mutex<Shared<T>>,
    /// The response's body is at its end and the next flush carries its last byte.
    handed_over: AtomicBool,
    /// Bytes of the response's body that HTTP has.
    body: AtomicU64,
    /// How often HTTP has tried to read from the socket.
    reads: AtomicU32,
    /// The app has the socket.
    switched: AtomicBool,
    /// Whoever has the socket may not use it any more.
    cut: AtomicBool,
    /// The body of some request goes wrong.
    broken: AtomicBool,
    /// The peer is given up: it sends no more.
    given_up: AtomicBool,
    /// Whether the state is [`State::Running`], for those who ask at every turn.
    running: AtomicBool,
    /// The peer does not take what is to be written.
    deaf: AtomicBool,
    /// Something came, and the state does not know it yet.
    came: AtomicBool,
    /// Of the answer to the request that runs; 0 while it has none.
    status: AtomicU16,
    /// That answer gives the socket to the app.
    switches: AtomicBool,
    /// There may be hints to write.
    hinted: AtomicBool,
    /// When the request that runs was dispatched, the last response was not out.
    owes: AtomicBool,
}

struct Shared<T> {
    life: Lifecycle,
    request: Option<Exchange>,
    /// The socket, whenever neither HTTP nor the app has it.
    home: Option<T>,
    /// As the socket.
    intake: Option<Box<Intake>>,
    peer: Client,
    /// Requests that went to the service.
    dispatched: u64,
    oddities: VecDeque<Oddity>,
    broken: Option<(u64, Refusal)>,
    /// Why the peer gets no more requests through.
    refusal: Option<Refusal>,
    /// Of the request that runs, if it had any. Its own place, as what follows: a connection that
    /// is idle shall be small.
    hints: Option<Box<Outbox>>,
    /// The connection's task.
    task: Option<Waker>,
    /// It waits for the socket to come home.
    waits: bool,
    /// The app's task, once it reads or writes the socket itself.
    guest: Option<Box<[Option<Waker>; 2]>>,
    _open: Open,
}

/// What the service has to know of a request besides what hyper says.
pub(crate) struct Beginning {
    pub(crate) client: Client,
    pub(crate) oddity: Option<Oddity>,
    pub(crate) broken: Option<Refusal>,
    /// Its number, by which it may have hints; `None` if its client knows none.
    pub(crate) hinted: Option<u64>,
}

/// Which of an app's two wakers.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Read,
    Write,
}

impl<T> Link<T> {
    pub(crate) fn new(
        setup: Arc<Setup>,
        client: Client,
        intake: Intake,
        open: Open,
        now: Instant,
    ) -> Self {
        let shared = Shared {
            life: Lifecycle::new(Arc::clone(&setup.limits), now),
            request: None,
            home: None,
            intake: Some(Box::new(intake)),
            peer: client,
            dispatched: 0,
            oddities: VecDeque::new(),
            broken: None,
            refusal: None,
            hints: None,
            task: None,
            waits: false,
            guest: None,
            _open: open,
        };
        Self {
            setup,
            shared: Mutex::new(shared),
            handed_over: AtomicBool::new(false),
            body: AtomicU64::new(0),
            reads: AtomicU32::new(0),
            switched: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            running: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            came: AtomicBool::new(false),
            status: AtomicU16::new(0),
            switches: AtomicBool::new(false),
            hinted: AtomicBool::new(false),
            owes: AtomicBool::new(false),
        }
    }

    pub(crate) fn input(&self, input: Input) -> Action {
        let mut shared = self.lock_life();
        let action = shared.life.input(input);
        self.moved(&shared);
        action
    }

    /// What to do or to wait for; `cx` is of the connection's task.
    pub(crate) fn advance(&self, now: Instant, cx: &Context<'_>) -> Next {
        let stage = self.setup.drain.stage();
        let mut shared = self.lock_life();
        let is_known = shared
            .task
            .as_ref()
            .is_some_and(|task| task.will_wake(cx.waker()));
        if !is_known {
            shared.task = Some(cx.waker().clone());
            if shared.hints.is_some() {
                // They came before it was known whom to wake.
                cx.waker().wake_by_ref();
            }
        }
        let next = shared.life.advance(stage, now);
        self.moved(&shared);
        next
    }

    fn moved(&self, shared: &Shared<T>) {
        let running = shared.life.state() == State::Running;
        self.running.store(running, Ordering::Relaxed);
    }

    /// Whether a request is with the service, or its answer on the way. The state is moved by the
    /// connection's task, which is the one that asks.
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    pub(crate) fn state(&self) -> State {
        self.lock_life().life.state()
    }

    /// Why the body of the request that runs goes wrong, if it does.
    pub(crate) fn broken(&self) -> Option<Refusal> {
        if !self.broken.load(Ordering::Relaxed) {
            return None;
        }
        self.lock().broken()
    }

    /// Takes what the watcher has to say of requests that the service will see.
    pub(crate) fn tell(&self, news: News) {
        let mut shared = self.lock();
        if news.source.is_some() {
            shared.peer = Client {
                local: shared.peer.local,
                ..Client::direct(news.source)
            };
        }
        shared.oddities.extend(news.oddities);
        if let Some((_, refusal)) = news.broken {
            shared.broken = news.broken;
            self.broken.store(true, Ordering::Relaxed);
            shared.log(refusal);
            self.setup.connections.refused();
        }
    }

    /// Nothing comes from the peer, while its request runs.
    pub(crate) fn absent(&self, absence: Absence) {
        self.lock_life().life.absent(absence);
    }

    /// Nothing comes from the peer any more.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Whether that is so, told once.
    pub(crate) fn take_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed) && self.given_up.swap(false, Ordering::Relaxed)
    }

    /// The peer gets no request through any more: it is told why once HTTP has ended.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        let mut shared = self.lock();
        shared.refusal = Some(refusal);
        shared.log(refusal);
        self.setup.connections.refused();
    }

    /// What the peer is told before the good-bye.
    pub(crate) fn take_refusal(&self) -> Option<Refusal> {
        self.lock().refusal.take()
    }

    /// Keeps what came and HTTP does not have.
    pub(crate) fn keep_intake(&self, intake: Option<Box<Intake>>) {
        self.lock().intake = intake;
    }

    /// What came and HTTP does not have, if it has come home.
    pub(crate) fn take_intake(&self) -> Option<Box<Intake>> {
        self.lock().intake.take()
    }

    /// Whether bytes of a request have come that HTTP does not have.
    pub(crate) fn has_bytes(&self) -> bool {
        let shared = self.lock();
        shared
            .intake
            .as_ref()
            .is_some_and(|intake| intake.has_bytes())
    }

    /// HTTP has more of the response's body.
    pub(crate) fn count_body(&self, bytes: usize) {
        // Only the connection's task counts.
        let before = self.body.load(Ordering::Relaxed);
        let now = before.saturating_add(bytes as u64);
        self.body.store(now, Ordering::Relaxed);
    }

    /// Bytes have come, or the end of them.
    pub(crate) fn came(&self, bytes: usize) {
        if bytes > 0 {
            self.setup.connections.received(bytes);
        }
        self.came.store(true, Ordering::Relaxed);
    }

    /// Bytes were written to the socket, if they were.
    pub(crate) fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = polled {
            self.setup.connections.sent(*bytes);
        }
        let deaf = polled.is_pending();
        if deaf != self.deaf.load(Ordering::Relaxed) {
            self.deaf.store(deaf, Ordering::Relaxed);
            self.lock_life().life.deaf(deaf);
        }
    }

    /// HTTP has the last piece of the response.
    pub(crate) fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Relaxed);
    }

    /// The app has the socket from now on.
    pub(crate) fn switch(&self) {
        self.switched.store(true, Ordering::Release);
    }

    /// Whether the app has the socket.
    pub(crate) fn is_switched(&self) -> bool {
        self.switched.load(Ordering::Acquire)
    }

    /// Whether the socket may not be used any more.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Remembers the app's task, to wake it when the socket is cut.
    pub(crate) fn wait_as_guest(&self, side: Side, cx: &Context<'_>) {
        let mut shared = self.lock();
        let guest = shared.guest.get_or_insert_default();
        remember(&mut guest[side as usize], cx);
    }

    /// Gives the socket back to the connection.
    pub(crate) fn bring_home(&self, socket: T) {
        let (_replaced, task) = {
            let mut shared = self.lock();
            let waits = std::mem::take(&mut shared.waits);
            let task = shared.task.clone().filter(|_| waits);
            (shared.home.replace(socket), task)
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    /// The socket, if it has come home.
    pub(crate) fn take_home(&self) -> Option<T> {
        self.lock().home.take()
    }

    /// Waits for the socket to come home.
    pub(crate) fn poll_home(&self, cx: &Context<'_>) -> Poll<T> {
        let mut shared = self.lock();
        match shared.home.take() {
            Some(socket) => Poll::Ready(socket),
            None => {
                shared.waits = true;
                remember(&mut shared.task, cx);
                Poll::Pending
            }
        }
    }

    /// Counts a read that HTTP tries.
    pub(crate) fn count_read(&self) {
        let reads = self.reads.load(Ordering::Relaxed);
        self.reads.store(reads.wrapping_add(1), Ordering::Relaxed);
    }

    /// How often HTTP has tried to read; it wraps around.
    pub(crate) fn reads(&self) -> u32 {
        self.reads.load(Ordering::Relaxed)
    }

    /// For the state: it knows what came.
    fn lock_life(&self) -> MutexGuard<'_, Shared<T>> {
        let mut shared = self.lock();
        if self.came.load(Ordering::Relaxed) {
            self.came.store(false, Ordering::Relaxed);
            // It has nothing to say to that.
            shared.life.input(Input::BytesCame);
        }
        shared
    }

    fn lock(&self) -> MutexGuard<'_, Shared<T>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Shared<T> {
    /// Counts a request that goes to the service.
    fn beginning(&mut self, knows_hints: bool) -> Beginning {
        self.dispatched += 1;
        let now = self.dispatched;
        let is_odd = self
            .oddities
            .front()
            .is_some_and(|oddity| oddity.message == now);
        let oddity = if is_odd {
            self.oddities.pop_front()
        } else {
            None
        };
        Beginning {
            client: self.peer,
            oddity,
            broken: self.broken(),
            hinted: knows_hints.then_some(now),
        }
    }

    fn broken(&self) -> Option<Refusal> {
        let (message, refusal) = self.broken?;
        (message == self.dispatched).then_some(refusal)
    }

    fn log(&self, refusal: Refusal) {
        let peer = self.peer.peer.map(tracing::field::display);
        tracing::debug!(
            peer,
            status = refusal.status(),
            reason = refusal.reason(),
            "request refused"
        );
    }
}
