//! One WebSocket, as the app sees it: `receive` and `send`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tungstenite::Message;
use worker_http::hosted::{Answer, Inquiry, Reply, Switching};

use super::answer::{fields, kind_of, unexpected};
use super::events::{close_of, connecting, disconnected, message_of, protocol_of, received};
use super::frames::{Came, Close, Frames};
use super::handshake::{Offer, forbidden};
use super::ready::Waiting;
use super::receiving::{Inbox, Receivers, Receiving};
use super::runner::{End, Finish};
use super::site::Site;
use super::speech::Speech;
use super::waits::{comes_of_os_error, resolve, try_lock};

/// See the module.
#[pyclass(frozen, module = "gracefork._gracefork")]
pub(super) struct Socket {
    site: Arc<Site>,
    state: Mutex<State>,
}

struct State {
    stage: Stage,
    /// The app was told that somebody wants to connect.
    has_begun: bool,
    /// Messages may be compressed.
    deflates: bool,
    /// Until the app has ended.
    reply: Option<Reply>,
    /// Its place among the site's sockets, while it is open.
    place: Option<usize>,
    /// What came while somebody waited, until somebody takes it.
    came: Option<Py<PyAny>>,
    /// Those who wait in `receive`.
    receivers: Receivers,
    /// Futures of those who wait in `send`.
    senders: Vec<Py<PyAny>>,
    /// Handle of the next [`beat`](Socket::beat).
    next_beat: Option<Py<PyAny>>,
}

enum Stage {
    /// The app has to say whether it accepts.
    Asked(Switching, Offer),
    /// It does not, and says more about it.
    Denied(Speech),
    /// It does; the connection is not ours yet. What it sends meanwhile waits, and so does its
    /// good-bye.
    Accepted(Switching, Vec<Message>, Option<Close>),
    Open(Box<Frames>),
    Closed(Close),
}

#[pymethods]
impl Socket {
    fn receive<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Receiving::of(slf.py(), Inbox::Socket(slf.clone().unbind())).map(Bound::into_any)
    }

    fn send<'py>(
        slf: &Bound<'py, Self>,
        message: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let kind = kind_of(message)?;
        let mut state = this.try_lock()?;
        let state = &mut *state;
        this.hear(slf, state, kind.to_str()?, message)?;
        if let Stage::Open(frames) = &mut state.stage
            && !frames.flush()
        {
            let future = this.site.create_future(py)?;
            state.senders.push(future.clone().unbind());
            return Ok(Bound::new(py, Waiting::new(&future)?)?.into_any());
        }
        Ok(this.site.done.bind(py).clone().into_any())
    }

    /// The peer had its time to say good-bye.
    fn cut(&self, py: Python<'_>) -> PyResult<()> {
        self.give_up(py, &mut self.lock())
    }

    /// Some time has passed: is the peer still there?
    fn beat(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        {
            let mut state = this.lock();
            state.next_beat = None;
            let Stage::Open(frames) = &mut state.stage else {
                return Ok(());
            };
            if !frames.beat() {
                return this.give_up(py, &mut state);
            }
            this.begin_to_listen(slf, &mut state)?;
        }
        // It may have read something.
        Self::look_after(slf)
    }
}

impl Socket {
    pub(super) fn new(site: &Arc<Site>, inquiry: Inquiry, offer: Offer) -> Self {
        let state = State {
            stage: Stage::Asked(inquiry.switching, offer),
            has_begun: false,
            deflates: false,
            reply: Some(inquiry.reply),
            place: None,
            came: None,
            receivers: Receivers::default(),
            senders: Vec::new(),
            next_beat: None,
        };
        Self {
            site: Arc::clone(site),
            state: Mutex::new(state),
        }
    }

    /// The next message, if there is one; else those who wait are woken when there is.
    pub(super) fn take<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, this) = (slf.py(), slf.get());
        let mut state = this.try_lock()?;
        let next = match state.came.take() {
            Some(came) => Some(came.into_bound(py)),
            None => this.next(slf, &mut state)?,
        };
        if next.is_some() {
            this.wake_receiver(slf, &mut state)?;
        }
        Ok(next)
    }

    /// A future for whoever waits for the next message.
    pub(super) fn wait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        let future = this.site.create_future(slf.py())?;
        this.try_lock()?.receivers.add(&future)?;
        Ok(future)
    }

    /// Wakes the first of those who wait, if there is something for it.
    fn wake_receiver(&self, slf: &Bound<'_, Self>, state: &mut State) -> PyResult<()> {
        let py = slf.py();
        if !state.receivers.are_waiting(py)? {
            return Ok(());
        }
        if state.came.is_none() {
            state.came = self.next(slf, state)?.map(Bound::unbind);
        }
        match state.came {
            Some(_) => state.receivers.wake_first(py),
            None => Ok(()),
        }
    }

    /// The next message, if there is one; else those who wait are woken.
    fn next<'py>(
        &self,
        slf: &Bound<'py, Self>,
        state: &mut State,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        if !std::mem::replace(&mut state.has_begun, true) {
            return connecting(py).map(Some);
        }
        let came = match (&mut state.stage, &state.reply) {
            (Stage::Denied(speech), _) if speech.is_complete() => Some(Close::new(1006, "")),
            (Stage::Asked(..) | Stage::Denied(_), Some(reply)) => {
                let waker = self.waker(slf)?;
                let over = reply.poll_over(&Context::from_waker(&waker));
                over.is_ready().then(|| Close::new(1006, ""))
            }
            (Stage::Asked(..) | Stage::Denied(_), None) => Some(Close::new(1006, "")),
            (Stage::Accepted(..), _) => None,
            (Stage::Open(frames), _) => match frames.receive() {
                Came::Message(message) => return received(py, message).map(Some),
                Came::Close(close) => Some(close),
                Came::Nothing => None,
            },
            (Stage::Closed(close), _) => Some(close.clone()),
        };
        came.map(|close| disconnected(py, &close)).transpose()
    }

    /// Takes a message of the app.
    fn hear(
        &self,
        slf: &Bound<'_, Self>,
        state: &mut State,
        kind: &str,
        message: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let gone = || PyOSError::new_err("the WebSocket is closed");
        let Some(reply) = &state.reply else {
            return Err(gone());
        };
        if let Stage::Asked(..) = state.stage {
            return self.answer(slf, state, kind, message);
        }
        match (kind, &mut state.stage) {
            (_, Stage::Denied(speech)) => {
                let what = kind
                    .strip_prefix("websocket.http.response.")
                    .ok_or_else(|| unexpected(kind, "the body of the response"))?;
                speech.say(reply, kind, what, message)
            }
            ("websocket.send", Stage::Accepted(_, waiting, None)) => {
                waiting.push(message_of(message)?);
                Ok(())
            }
            ("websocket.send", Stage::Open(frames)) => {
                frames.send(message_of(message)?).map_err(|_| gone())
            }
            ("websocket.close", Stage::Open(frames)) => {
                frames.close(close_of(message)?);
                self.begin_to_close(slf)
            }
            ("websocket.close", Stage::Accepted(_, _, close @ None)) => {
                *close = Some(close_of(message)?);
                Ok(())
            }
            ("websocket.send" | "websocket.close", Stage::Accepted(..) | Stage::Closed(_)) => {
                Err(gone())
            }
            _ => Err(unexpected(kind, "'websocket.send' or 'websocket.close'")),
        }
    }

    /// The app says whether it accepts.
    fn answer(
        &self,
        slf: &Bound<'_, Self>,
        state: &mut State,
        kind: &str,
        message: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let driver = self.site.driver()?;
        let Some(reply) = &state.reply else {
            return Ok(());
        };
        if reply.is_gone() {
            return Err(PyOSError::new_err("the client has gone away"));
        }
        match kind {
            "websocket.accept" => {
                let protocol = protocol_of(message)?;
                let fields = fields(message, HeaderMap::new())?;
                let closed = Stage::Closed(Close::new(1006, ""));
                if let Stage::Asked(switching, offer) = std::mem::replace(&mut state.stage, closed)
                {
                    state.deflates = offer.deflates;
                    let parts = offer.accept(protocol, fields);
                    let answer = Answer::bytes(Bytes::new());
                    driver.with_connections(|| reply.send(parts, answer));
                    state.stage = Stage::Accepted(switching, Vec::new(), None);
                    state.place = Some(self.site.enroll(slf));
                    self.open(slf, state)?;
                    if let Some(close) = self.site.farewell() {
                        return self.say_goodbye(slf, state, close);
                    }
                }
                Ok(())
            }
            "websocket.close" => {
                let (parts, answer) = forbidden();
                driver.with_connections(|| reply.send(parts, answer));
                state.stage = Stage::Closed(Close::new(1006, ""));
                Ok(())
            }
            "websocket.http.response.start" => {
                let mut speech = Speech::new(&self.site, false, HeaderMap::new());
                speech.say(reply, kind, "start", message)?;
                state.stage = Stage::Denied(speech);
                Ok(())
            }
            _ => Err(unexpected(
                kind,
                "'websocket.accept', 'websocket.close' or 'websocket.http.response.start'",
            )),
        }
    }

    /// The connection is ours as soon as the head is out.
    fn open(&self, slf: &Bound<'_, Self>, state: &mut State) -> PyResult<()> {
        let Stage::Accepted(switching, waiting, close) = &mut state.stage else {
            return Ok(());
        };
        let waker = self.waker(slf)?;
        match switching.poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => {}
            Poll::Ready(Ok(switched)) => {
                let mut frames = Box::new(Frames::new(
                    switched,
                    waker,
                    self.site.message_limit,
                    state.deflates,
                ));
                for message in waiting.drain(..) {
                    // A failure is found by whoever receives.
                    let _ = frames.send(message);
                }
                // Whoever does not receive is to hear of its end as well.
                frames.pump();
                let close = close.take();
                state.stage = Stage::Open(frames);
                self.begin_to_listen(slf, state)?;
                if let Some(close) = close {
                    self.say_goodbye(slf, state, close)?;
                }
            }
            Poll::Ready(Err(_)) => self.end(slf.py(), state, Close::new(1006, "")),
        }
        Ok(())
    }

    pub(super) fn waker(&self, slf: &Bound<'_, Self>) -> PyResult<Waker> {
        let slf = slf.clone().unbind();
        Ok(self.site.driver()?.waker(move || {
            Python::attach(|py| {
                let slf = slf.bind(py);
                if let Err(error) = Self::look_after(slf) {
                    error.write_unraisable(py, None);
                }
            });
        }))
    }

    /// Something has come, or gone.
    fn look_after(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let Ok(mut state) = this.try_lock() else {
            this.waker(slf)?.wake();
            return Ok(());
        };
        let state = &mut *state;
        this.open(slf, state)?;
        let has_left = match &mut state.stage {
            Stage::Open(frames) => {
                let goes_on = frames.pump();
                let has_left = frames.flush();
                if !goes_on && frames.is_read() {
                    let close = frames.end_at_once();
                    this.end(py, state, close);
                }
                has_left
            }
            Stage::Accepted(..) => false,
            _ => true,
        };
        this.wake_receiver(slf, state)?;
        if has_left {
            for sender in state.senders.drain(..) {
                resolve(sender.bind(py), py.None().bind(py))?;
            }
        }
        Ok(())
    }

    /// The worker is on its way out.
    pub(super) fn leave(&self, slf: &Bound<'_, Self>, close: Close) -> PyResult<()> {
        let mut state = self.lock();
        self.say_goodbye(slf, &mut state, close)?;
        state.receivers.wake_all(slf.py())
    }

    fn say_goodbye(&self, slf: &Bound<'_, Self>, state: &mut State, close: Close) -> PyResult<()> {
        match &mut state.stage {
            Stage::Open(frames) => {
                frames.close(close);
                self.begin_to_close(slf)
            }
            Stage::Accepted(_, _, before) => {
                before.get_or_insert(close);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// We have said good-bye: the peer has some time to do so.
    fn begin_to_close(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let cut = slf.getattr(intern!(slf.py(), "cut"))?;
        let later = self.site.call_later(slf.py(), self.site.close_grace, cut);
        later.map(drop)
    }

    /// From now on the peer is not silent for long.
    fn begin_to_listen(&self, slf: &Bound<'_, Self>, state: &mut State) -> PyResult<()> {
        if let Some(interval) = self.site.ping_interval {
            let beat = slf.getattr(intern!(slf.py(), "beat"))?;
            let handle = self.site.call_later(slf.py(), interval, beat)?;
            state.next_beat = Some(handle.unbind());
        }
        Ok(())
    }

    /// The peer is lost: whoever waits for it has nothing to wait for.
    fn give_up(&self, py: Python<'_>, state: &mut State) -> PyResult<()> {
        if let Stage::Open(frames) = &mut state.stage {
            let close = frames.end_at_once();
            self.end(py, state, close);
        }
        for sender in state.senders.drain(..) {
            resolve(sender.bind(py), py.None().bind(py))?;
        }
        state.receivers.wake_all(py)
    }

    /// The connection is given back.
    fn end(&self, py: Python<'_>, state: &mut State, close: Close) {
        let before = std::mem::replace(&mut state.stage, Stage::Closed(close));
        if let Ok(driver) = self.site.driver() {
            driver.with_connections(|| drop(before));
        }
        if let Some(place) = state.place.take() {
            self.site.dismiss(place);
        }
        // Its timer keeps what it calls.
        if let Some(handle) = state.next_beat.take()
            && let Err(error) = handle.call_method0(py, intern!(py, "cancel"))
        {
            error.write_unraisable(py, None);
        }
    }

    /// The app has come to its end.
    pub(super) fn finish(&self, slf: &Bound<'_, Self>, end: &End) {
        let py = slf.py();
        let mut state = self.lock();
        let state = &mut *state;
        let Some(reply) = state.reply.take() else {
            return;
        };
        let is_open = matches!(state.stage, Stage::Open(_) | Stage::Accepted(..));
        match end {
            End::Raised(error) if !is_open && comes_of_os_error(py, error) => {}
            End::Raised(error) => {
                let text = "Exception in ASGI application";
                self.site.report(py, text, Some(error));
            }
            End::Returned if matches!(state.stage, Stage::Asked(..)) && !reply.is_gone() => {
                let text = "The ASGI application returned without an answer to a WebSocket";
                self.site.report(py, text, None);
            }
            End::Returned | End::Cancelled(_) | End::Left(_) => {}
        }
        if let Stage::Denied(_) = state.stage {
            let closed = Stage::Closed(Close::new(1006, ""));
            if let Stage::Denied(speech) = std::mem::replace(&mut state.stage, closed) {
                return speech.close(reply, false);
            }
        }
        let code = if let End::Raised(_) = end { 1011 } else { 1000 };
        if let Err(error) = self.say_goodbye(slf, state, Close::new(code, "")) {
            error.write_unraisable(py, None);
        }
        if let Stage::Asked(..) = state.stage {
            state.stage = Stage::Closed(Close::new(1006, ""));
        }
        if let Ok(driver) = self.site.driver() {
            driver.with_connections(|| drop(reply));
        }
    }

    /// For the app, as that of a [`Talk`](super::talk::Talk).
    fn try_lock(&self) -> PyResult<MutexGuard<'_, State>> {
        try_lock(&self.state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left to do when the app has ended.
pub(super) struct Closing(pub(super) Py<Socket>);

impl Finish for Closing {
    fn finish(&self, py: Python<'_>, end: End) {
        let socket = self.0.bind(py);
        socket.get().finish(socket, &end);
        if let End::Left(error) = end {
            socket.get().site.leave(py, error);
        }
    }

    fn waits(&self, _: Python<'_>) {}
}
