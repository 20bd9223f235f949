//! The life of one connection as a pure state machine: no I/O and no clock.
//!
//! [`transition`] is the whole table (also printed in `docs/connection.md`, which a test holds
//! against it) and [`Lifecycle::deadline`] says how long each state may last. [`Lifecycle`] adds
//! the only memory there is: since when the state lasts, and the stage of the worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use worker_api::Stage;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The first byte; the HTTP machine has seen nothing yet.
    Fresh,
    /// The rest of the first request's head.
    Opening,
    /// The first byte of the next request.
    Idle,
    /// The rest of a later request's head.
    Reading,
    /// The app's response, and its way out of our buffers.
    Running,
    /// The rest of a request body that was answered early and is still being read by the app.
    Finishing,
    /// The app, which owns the socket since the protocol was switched.
    Upgraded,
    /// The peer's FIN, after ours; what it still sends is read and thrown away.
    Lingering,
    /// Nothing more.
    Closed,
}

/// What can happen to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The socket gave bytes (or its end of file, which ends HTTP in the same breath).
    BytesCame,
    /// A request's head was complete and went to the service.
    HeadDispatched,
    /// The response was written to the socket to its last byte.
    ResponseFinished,
    /// HTTP is over: last response, error answer, peer gone. The socket is ours again.
    HttpEnded,
    /// HTTP is over because the app took the socket (WebSocket, CONNECT).
    ProtocolSwitched,
    /// The app let go of the socket that it had taken.
    SocketReturned,
    /// Answer to [`Action::Look`]: no byte of a request is there, neither buffered nor in the kernel.
    LookedNothing,
    /// Answer to [`Action::Look`]: bytes of a request are there; a new HTTP machine has them.
    LookedBytes,
    /// Answer to [`Action::Look`]: the HTTP machine is in the middle of a message; it will end by itself.
    LookedBusy,
    /// The peer closed too, or has sent more than we are willing to throw away.
    LingerOver,
    /// The deadline of the state is over.
    DeadlineOver,
    /// There was no room to write the response to for too long: the peer does not read.
    WriteTimeOver,
    /// The worker's stage is [`Stage::Forced`].
    Forced,
}

/// What the connection has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Ask the kernel itself whether bytes have come before anything is closed, and say what was seen.
    Look,
    /// Half-close, then read and throw away.
    Linger,
    /// Answer 408, then as [`Action::Linger`].
    Refuse,
    /// Tell HTTP that the peer sends no more: the body that the app waits for fails, or a request
    /// whose sender has left is dropped.
    GiveUp,
    /// Drop the running request, whose peer does not read the response, and close the socket.
    HangUp,
    /// Close the socket.
    Close,
    /// Drop the running request, count it as aborted, close the socket.
    Abort,
}

/// How a peer can be absent while its request runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The app waits for more of the body, and nothing comes.
    Still,
    /// It has closed its side.
    Left,
}

/// How long the states may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// An idle or silent connection, before the worker drains.
    pub keep_alive: Duration,
    /// From the first byte of a request to the end of its head.
    pub header_timeout: Duration,
    /// A request's body that stands still while the app waits for it; `None` is for ever.
    pub body_timeout: Option<Duration>,
    /// A response that waits for room to be written; `None` is for ever.
    pub write_timeout: Option<Duration>,
    /// A request whose sender has closed its side: it may still read, or be gone for good.
    pub half_closed: Duration,
    /// A connection that has not sent a byte, counted from its accept, once the worker drains.
    pub silent_in_drain: Duration,
    /// Lingering while nothing comes.
    pub linger: Duration,
    /// Lingering while something comes: a peer that uploads reads our answer only after that.
    pub linger_busy: Duration,
    /// Lingering once the worker drains: the worker's exit waits for it.
    pub linger_in_drain: Duration,
}

impl Limits {
    /// Limits with the given keep-alive and header time-outs, and none for bodies and responses.
    pub const fn new(keep_alive: Duration, header_timeout: Duration) -> Self {
        Self {
            keep_alive,
            header_timeout,
            body_timeout: None,
            write_timeout: None,
            half_closed: Duration::from_secs(5),
            silent_in_drain: Duration::from_millis(75),
            linger: Duration::from_secs(1),
            linger_busy: Duration::from_secs(30),
            linger_in_drain: Duration::from_millis(75),
        }
    }
}

/// The answer to [`Lifecycle::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Do this now, and ask again.
    Do(Action),
    /// Wait for an input; with a deadline, no longer than that.
    Wait(Option<Instant>),
}

/// The table: what `input` makes of `state`, and what is to be done.
///
/// A pair that cannot meet leaves the state as it is.
pub const fn transition(state: State, input: Input) -> (State, Action) {
    use Action as A;
    use Input as I;
    use State as S;
    match (state, input) {
        (S::Fresh, I::BytesCame | I::LookedBytes | I::LookedBusy) => (S::Opening, A::Nothing),
        (S::Idle, I::BytesCame) => (S::Reading, A::Nothing),
        (S::Fresh | S::Opening | S::Idle | S::Reading, I::HeadDispatched) => {
            (S::Running, A::Nothing)
        }
        (S::Running, I::ResponseFinished) => (S::Idle, A::Nothing),
        (
            S::Fresh | S::Opening | S::Idle | S::Reading | S::Running | S::Finishing,
            I::ProtocolSwitched,
        ) => (S::Upgraded, A::Nothing),

        // Nobody is told good-bye before we have looked. After a look that saw bytes, or found a
        // Reading connection to be silent, HTTP starts anew: hence Opening and Fresh.
        (S::Fresh | S::Idle | S::Reading, I::DeadlineOver) => (state, A::Look),
        (S::Idle, I::LookedBytes) => (S::Opening, A::Nothing),
        (S::Fresh | S::Idle, I::LookedNothing) => (S::Lingering, A::Linger),
        (S::Reading, I::LookedNothing) => (S::Fresh, A::Nothing),
        (S::Idle | S::Reading, I::LookedBusy) => (S::Finishing, A::Nothing),
        (S::Opening, I::DeadlineOver) | (S::Reading, I::LookedBytes) => (S::Lingering, A::Refuse),

        (
            S::Fresh | S::Opening | S::Idle | S::Reading | S::Running | S::Finishing,
            I::HttpEnded,
        )
        | (S::Upgraded, I::SocketReturned) => (S::Lingering, A::Linger),
        (S::Lingering, I::LingerOver | I::DeadlineOver) => (S::Closed, A::Close),

        // Only in an absence: what the app does by itself has no deadline.
        (S::Running | S::Finishing, I::DeadlineOver) => (state, A::GiveUp),

        (S::Running, I::WriteTimeOver) => (S::Closed, A::HangUp),

        (S::Running | S::Upgraded, I::Forced) => (S::Closed, A::Abort),
        (S::Closed, _) => (S::Closed, A::Nothing),
        (_, I::Forced) => (S::Closed, A::Close),
        _ => (state, A::Nothing),
    }
}

/// One connection's state, and since when it lasts.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    state: State,
    since: Instant,
    moved: bool,
    /// The last time that something came.
    heard: Instant,
    stirred: bool,
    /// How the peer is absent; since when, once that was looked at.
    absence: Option<Absence>,
    absent_since: Option<Instant>,
    /// The peer does not take what is to be written; since when, once that was looked at.
    deaf: bool,
    deaf_since: Option<Instant>,
    /// Of all connections.
    limits: Arc<Limits>,
}

impl Lifecycle {
    /// A connection that was accepted at `now`.
    pub const fn new(limits: Arc<Limits>, now: Instant) -> Self {
        Self {
            state: State::Fresh,
            since: now,
            moved: false,
            heard: now,
            stirred: false,
            absence: None,
            absent_since: None,
            deaf: false,
            deaf_since: None,
            limits,
        }
    }

    /// What the connection waits for.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Takes an input and says what is to be done about it.
    ///
    /// A state that is entered here counts from the next [`advance`](Self::advance): several
    /// inputs come in one pass, and one look at the clock after them is enough.
    pub fn input(&mut self, input: Input) -> Action {
        let (state, action) = transition(self.state, input);
        self.moved |= state != self.state;
        self.stirred |= input == Input::BytesCame;
        match input {
            Input::BytesCame => self.absence = None,
            Input::HeadDispatched => self.absent_since = None,
            _ => {}
        }
        self.state = state;
        action
    }

    /// While a request runs, nothing comes that may be waited for. [`Input::BytesCame`] ends it.
    pub fn absent(&mut self, absence: Absence) {
        self.absence = Some(absence);
    }

    /// Whether the peer takes nothing of what is to be written.
    pub fn deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
        if !deaf {
            self.deaf_since = None;
        }
    }

    /// What to do or to wait for at `now`, in a worker at `stage`.
    pub fn advance(&mut self, stage: Stage, now: Instant) -> Next {
        if std::mem::take(&mut self.moved) {
            self.since = now;
        }
        if std::mem::take(&mut self.stirred) {
            self.heard = now;
            self.absent_since = None;
        }
        if self.absence.is_some() {
            self.absent_since.get_or_insert(now);
        }
        if self.deaf {
            self.deaf_since.get_or_insert(now);
        }
        let deadline = self.deadline(stage);
        let input = if stage == Stage::Forced && self.state != State::Closed {
            Input::Forced
        } else if self
            .write_deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            Input::WriteTimeOver
        } else if deadline.is_some_and(|deadline| deadline <= now) {
            Input::DeadlineOver
        } else {
            return Next::Wait(deadline);
        };
        match self.input(input) {
            Action::GiveUp => {
                // Once is enough.
                (self.absence, self.absent_since) = (None, None);
                Next::Do(Action::GiveUp)
            }
            Action::Nothing => Next::Wait(self.deadline(stage)),
            action => Next::Do(action),
        }
    }

    /// When the state's time is over, in a worker at `stage`.
    ///
    /// Draining shortens what waits for a peer alone; work is only ended by [`Input::Forced`].
    pub fn deadline(&self, stage: Stage) -> Option<Instant> {
        let draining = stage >= Stage::Draining;
        let limits = &self.limits;
        let lasts = match self.state {
            State::Fresh if draining => limits.silent_in_drain.min(limits.keep_alive),
            State::Idle if draining => Duration::ZERO,
            State::Fresh | State::Idle => limits.keep_alive,
            State::Opening | State::Reading => limits.header_timeout,
            State::Lingering if draining => limits.linger_in_drain,
            State::Lingering => {
                let quiet = self.since.max(self.heard).checked_add(limits.linger);
                return quiet.min(self.since.checked_add(limits.linger_busy));
            }
            State::Running | State::Finishing => {
                let deadlines = [self.absence_deadline(), self.write_deadline()];
                return deadlines.into_iter().flatten().min();
            }
            State::Upgraded | State::Closed => return None,
        };
        self.since.checked_add(lasts)
    }

    fn absence_deadline(&self) -> Option<Instant> {
        let patience = match self.absence? {
            Absence::Still => self.limits.body_timeout?,
            Absence::Left => self.limits.half_closed,
        };
        self.absent_since?.checked_add(patience)
    }

    fn write_deadline(&self) -> Option<Instant> {
        if self.state != State::Running {
            return None;
        }
        self.deaf_since?.checked_add(self.limits.write_timeout?)
    }
}

#[cfg(test)]
mod tests;
