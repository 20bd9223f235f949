//! The drain-aware connection: HTTP by hyper, its beginning and its end by [`lifecycle`].
//!
//! [`lifecycle`]: crate::lifecycle

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1::UpgradeableConnection;
use worker_api::Stage;

use crate::accept::Open;
use crate::checks::Client;
use crate::checks::Refusal;
use crate::io::{Io, Socket, has_bytes, local_of, peer_of};
use crate::lifecycle::{Action, Input, Next, State};
use crate::linger::Linger;
use crate::link::Link;
use crate::service::{App, Counted};
use crate::setup::Setup;

type Http<T, S> = UpgradeableConnection<Io<T>, Counted<S, T>>;

/// One connection, from its accept to its close, as a future. It is done when the socket is
/// closed; it has no result, since what went wrong concerns the peer alone.
///
/// It needs no runtime: `T` is a driver's socket, `M` its clock, and whoever polls it has two
/// duties. It polls again when the worker's [`Stage`] has changed, and it polls
/// in a place where a response may be computed.
#[must_use = "a connection does nothing unless it is polled"]
pub struct Connection<T: Socket, S: App, M> {
    link: Arc<Link<T>>,
    /// For the next HTTP machine: one that was asked for an upgrade, however long ago, does not give
    /// back its own.
    app: S,
    phase: Phase<T, S>,
    timer: M,
    alarm: Option<Alarm>,
}

/// Who has the socket.
#[expect(
    clippy::large_enum_variant,
    reason = "a connection spends its life in the large one"
)]
enum Phase<T: Socket, S: App> {
    /// HTTP.
    Http(Http<T, S>),
    /// The connection, between two HTTP machines; and bytes for the next machine.
    Apart(Bytes),
    /// The app.
    Switched,
    /// The connection, for the good-bye.
    Lingering(Linger<T>),
    /// Nobody.
    Closed,
}

/// The only timer of a connection.
struct Alarm {
    at: Instant,
    rang: bool,
    sleep: Pin<Box<dyn Sleep>>,
}

impl<T: Socket, S: App, M: Timer> Connection<T, S, M> {
    /// Takes a freshly accepted socket.
    pub fn new(setup: &Arc<Setup>, timer: M, socket: T, app: S) -> Self {
        let (open, now) = (setup.open(), timer.now());
        Self::late(setup, timer, socket, app, open, now)
    }

    /// Takes a socket that was accepted, and counted, at a time before.
    pub(crate) fn late(
        setup: &Arc<Setup>,
        timer: M,
        socket: T,
        app: S,
        open: Open,
        accepted: Instant,
    ) -> Self {
        let peer = peer_of(&socket);
        let client = Client {
            local: local_of(&socket),
            ..Client::direct(peer.address())
        };
        let intake = setup.intake(peer);
        let link = Arc::new(Link::new(Arc::clone(setup), client, intake, open, accepted));
        Self {
            phase: Phase::Http(http(&link, app.clone(), socket, Bytes::new())),
            link,
            app,
            timer,
            alarm: None,
        }
    }

    /// Lets whoever has the socket go on. Ready with what came of it when somebody else is next.
    fn run(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        match &mut self.phase {
            Phase::Http(http) => {
                if let Err(error) = ready!(Pin::new(http).poll(cx)) {
                    tracing::debug!(%error, "connection ended");
                }
                Poll::Ready(self.end_http())
            }
            Phase::Switched => {
                let socket = ready!(self.link.poll_home(cx));
                self.link.bring_home(socket);
                Poll::Ready(match self.link.state() {
                    State::Upgraded => Input::SocketReturned,
                    // HTTP gave it back and cannot go on.
                    _ => Input::HttpEnded,
                })
            }
            Phase::Lingering(linger) => {
                let left = linger.left();
                let done = linger.poll(cx);
                if linger.left() < left {
                    self.link.input(Input::BytesCame);
                }
                done.map(|()| Input::LingerOver)
            }
            Phase::Apart(_) | Phase::Closed => Poll::Pending,
        }
    }

    /// HTTP is over: finds out who has the socket now.
    fn end_http(&mut self) -> Input {
        self.phase = Phase::Switched;
        match self.link.take_home() {
            Some(socket) => {
                self.link.end_request();
                self.link.bring_home(socket);
                Input::HttpEnded
            }
            None => {
                self.link.switch();
                Input::ProtocolSwitched
            }
        }
    }

    fn act(&mut self, action: Action, cx: &mut Context<'_>) {
        match action {
            Action::Nothing => {}
            Action::Look => {
                if let Some(sight) = self.look(cx) {
                    let next = self.link.input(sight);
                    self.act(next, cx);
                    self.start_anew();
                }
            }
            Action::Linger => self.linger(None, cx),
            Action::Refuse => self.linger(Some(Refusal::HeadTimeout), cx),
            Action::GiveUp => self.link.give_up(),
            Action::HangUp => {
                tracing::debug!("the client does not read its response; hanging up");
                self.link.end_request();
                self.phase = Phase::Closed;
            }
            Action::Close => self.phase = Phase::Closed,
            Action::Abort => {
                self.link.abort_request();
                self.phase = Phase::Closed;
            }
        }
    }

    /// Looks for bytes of a next request where they can be: in hyper's buffer and in the kernel.
    /// `None` if the reason to look has gone.
    ///
    /// For that, hyper is taken apart. It may be only between two messages: elsewhere its buffer
    /// and the socket hold the rest of a body, which must never be taken for a request. It is
    /// between two messages if and only if
    /// 1. it wants to read (else it waits for the app to take more of a body), and then
    /// 2. asked to shut down gracefully, it is done at once without another read. A body's rest
    ///    it would read or wait for, and its buffer is empty then: see 1.
    fn look(&mut self, cx: &mut Context<'_>) -> Option<Input> {
        let Phase::Http(http) = &mut self.phase else {
            return Some(Input::LookedNothing);
        };
        let (state, reads) = (self.link.state(), self.link.reads());
        if Pin::new(&mut *http).poll(cx).is_ready() {
            return Some(self.end_http());
        }
        if self.link.state() != state {
            return None;
        }
        let wanted = self.link.reads();
        Pin::new(&mut *http).graceful_shutdown();
        let done = Pin::new(http).poll(cx).is_ready();
        if !done {
            return Some(Input::LookedBusy);
        }
        if wanted == reads || wanted != self.link.reads() {
            return Some(self.end_http());
        }
        Some(self.take_apart())
    }

    /// Takes hyper apart, between two messages, and sees what there is of a next one.
    fn take_apart(&mut self) -> Input {
        let Phase::Http(http) = std::mem::replace(&mut self.phase, Phase::Switched) else {
            return Input::LookedNothing;
        };
        // Dropped with the rest, its end of the I/O gives the socket back to the link.
        let buffered = http.into_parts().map(|parts| parts.read_buf);
        let Some(socket) = self.link.take_home() else {
            self.link.switch();
            return Input::ProtocolSwitched;
        };
        let in_kernel = has_bytes(&socket);
        self.link.bring_home(socket);
        // If a request before asked for an upgrade and got none, hyper ends as if it had, and with it
        // what it has read: nothing, since the intake gives it whole heads.
        let buffered = buffered.unwrap_or_default();
        let is_blank = buffered.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        self.phase = Phase::Apart(buffered);
        if in_kernel || !is_blank || self.link.has_bytes() {
            Input::LookedBytes
        } else {
            Input::LookedNothing
        }
    }

    /// After a look: a new HTTP machine, if the connection goes on.
    fn start_anew(&mut self) {
        if !matches!(self.link.state(), State::Fresh | State::Opening) {
            return;
        }
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Apart(before) => {
                if let Some(socket) = self.link.take_home() {
                    self.phase = Phase::Http(http(&self.link, self.app.clone(), socket, before));
                }
            }
            other => self.phase = other,
        }
    }

    /// Says good-bye. The next turn of the loop half-closes, in the same pass.
    fn linger(&mut self, refusal: Option<Refusal>, cx: &mut Context<'_>) {
        // Whoever had the socket lets go of it here.
        self.phase = Phase::Closed;
        let before = self.link.take_refusal();
        if before.is_none() && refusal.is_some() {
            self.link.setup.connections.refused();
        }
        let refusal = before.or(refusal);
        if let Some(socket) = self.link.take_home() {
            let mut linger = Linger::new(socket);
            if let Some(refusal) = refusal {
                linger.refuse(refusal, cx);
            }
            self.phase = Phase::Lingering(linger);
        }
    }

    /// Waits until `deadline`, if there is one.
    fn wait(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = deadline else {
            return Poll::Pending;
        };
        let timer = &self.timer;
        let alarm = self.alarm.get_or_insert_with(|| Alarm {
            at,
            rang: false,
            sleep: timer.sleep_until(at),
        });
        // An alarm that rings too early is set again then. So a busy connection, whose deadline
        // moves with each request, hardly ever touches the timer.
        if alarm.rang || at < alarm.at {
            timer.reset(&mut alarm.sleep, at);
            alarm.at = at;
        }
        alarm.rang = alarm.sleep.as_mut().poll(cx).is_ready();
        if alarm.rang {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// An HTTP machine that has read `before` already.
fn http<T: Socket, S: App>(link: &Arc<Link<T>>, app: S, socket: T, before: Bytes) -> Http<T, S> {
    let io = Io::new(socket, before, Arc::clone(link));
    let service = Counted::new(app, Arc::clone(link));
    link.setup
        .http
        .serve_connection(io, service)
        .with_upgrades()
}

// Nothing in it is pinned in place: what must not move is boxed, by hyper or here.
impl<T: Socket, S: App, M> Unpin for Connection<T, S, M> {}

impl<T: Socket, S: App, M: Timer> Future for Connection<T, S, M> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            // What is forced to end does not run once more.
            if this.link.setup.drain.stage() < Stage::Forced
                && let Poll::Ready(input) = this.run(cx)
            {
                let action = this.link.input(input);
                this.act(action, cx);
                continue;
            }
            match this.link.advance(this.timer.now(), cx) {
                Next::Do(action) => this.act(action, cx),
                Next::Wait(_) if matches!(this.phase, Phase::Closed) => return Poll::Ready(()),
                Next::Wait(deadline) => {
                    if this.wait(deadline, cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}
