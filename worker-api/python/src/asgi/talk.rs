//! One HTTP request and its answer, as the app sees them: `receive` and `send`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::Method;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use worker_http::hosted::{Inquiry, Reply, RequestBody};

use super::answer::{kind_of, too_late, unexpected};
use super::ready::{Pause, Waiting};
use super::receiving::{Inbox, Receivers, Receiving};
use super::runner::{End, Finish};
use super::site::Site;
use super::speech::Speech;
use super::waits::{comes_of_os_error, resolve, try_lock};

/// So many messages that reach nobody an app may send before it is told.
const UNHEARD: u32 = 100;

/// So many seconds an app may go on with an answer that has no body before it counts as speaking to
/// nobody: most come to their end by themselves.
const PATIENCE: f64 = 1.0;

/// See the module.
#[pyclass(frozen, module = "gracefork._gracefork")]
pub(super) struct Talk {
    site: Arc<Site>,
    state: Mutex<State>,
}

struct State {
    /// Until the app has all of it, or has ended: who waits in it would keep this alive for ever.
    body: Option<RequestBody>,
    /// Until the app has ended.
    answer: Option<(Reply, Speech)>,
    /// What came while somebody waited, until somebody takes it.
    came: Option<Next>,
    /// Those who wait in `receive`.
    receivers: Receivers,
    /// All is said: there is nothing to receive any more.
    is_over: bool,
    /// Futures of those who wait in `send`.
    senders: Vec<Py<PyAny>>,
    /// How many messages of the app came when nobody heard them any more.
    unheard: u32,
    /// For how long the client has had all of an answer that has no body.
    nobody: Nobody,
    /// The app has come to its first wait.
    has_waited: bool,
    /// The app was told that the client left in the middle of the request's body.
    broke_off: bool,
}

/// Whether somebody hears what an app says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nobody {
    /// As far as is known, the client.
    No,
    /// The answer has no body. The app will soon be told.
    Soon,
    Now,
}

/// What is next in `receive`.
enum Next {
    Body(Bytes, bool),
    Disconnect,
    Wait,
}

#[pymethods]
impl Talk {
    fn receive<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Receiving::of(slf.py(), Inbox::Talk(slf.clone().unbind())).map(Bound::into_any)
    }

    fn send<'py>(
        slf: &Bound<'py, Self>,
        message: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let kind = kind_of(message)?;
        let kind = kind.to_str()?;
        let mut state = this.try_lock()?;
        let state = &mut *state;
        let Some((reply, speech)) = &mut state.answer else {
            return Err(too_late(kind));
        };
        let is_gone = !speech.is_complete() && reply.is_gone();
        if is_gone || state.nobody == Nobody::Now {
            // Before version 2.4 of the specification this is no error: what the app does after its
            // answer, it is to do. But the loop has its turn, and a stream without an end gets one.
            state.unheard += 1;
            if state.unheard > UNHEARD {
                return Err(PyOSError::new_err("the client has gone away"));
            }
        }
        if is_gone {
            return Ok(Bound::new(py, Pause::default())?.into_any());
        }
        let what = kind
            .strip_prefix("http.response.")
            .ok_or_else(|| unexpected(kind, "one of an HTTP response"))?;
        speech.say(reply, kind, what, message)?;
        if state.has_waited && speech.is_begun() {
            this.site.has_begun(slf)?;
        }
        if speech.is_complete() {
            state.is_over = true;
            state.receivers.wake_all(py)?;
        } else if speech.is_for_nobody() {
            this.speaks_to_nobody(slf, &mut state.nobody)?;
            return Ok(Bound::new(py, Pause::default())?.into_any());
        } else if !speech.has_room() {
            let waker = this.waker(slf)?;
            if speech.poll_room(&Context::from_waker(&waker)).is_pending() {
                let future = this.site.create_future(py)?;
                state.senders.push(future.clone().unbind());
                return Ok(Bound::new(py, Waiting::new(&future)?)?.into_any());
            }
        }
        Ok(this.site.done.bind(py).clone().into_any())
    }
}

impl Talk {
    pub(super) fn new(site: &Arc<Site>, inquiry: Inquiry) -> Self {
        let http::request::Parts {
            method, headers, ..
        } = inquiry.head;
        let speech = Speech::new(site, method == Method::HEAD, headers);
        let state = State {
            body: Some(inquiry.body),
            answer: Some((inquiry.reply, speech)),
            came: None,
            receivers: Receivers::default(),
            is_over: false,
            senders: Vec::new(),
            unheard: 0,
            nobody: Nobody::No,
            has_waited: false,
            broke_off: false,
        };
        Self {
            site: Arc::clone(site),
            state: Mutex::new(state),
        }
    }

    /// The next message, if there is one; else those who wait are woken when there is.
    pub(super) fn take<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, this) = (slf.py(), slf.get());
        let next = {
            let mut state = this.try_lock()?;
            let next = match state.came.take() {
                Some(came) => came,
                None => this.next(slf, &mut state)?,
            };
            if !matches!(next, Next::Wait) {
                this.wake_receiver(slf, &mut state)?;
            }
            next
        };
        match next {
            Next::Wait => Ok(None),
            next => next.message(py).map(Some),
        }
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
            match self.next(slf, state)? {
                Next::Wait => return Ok(()),
                next => state.came = Some(next),
            }
        }
        state.receivers.wake_first(py)
    }

    /// What is next to receive; those who wait are woken when there is more.
    fn next(&self, slf: &Bound<'_, Self>, state: &mut State) -> PyResult<Next> {
        if state.is_over {
            return Ok(Next::Disconnect);
        }
        if let Some(body) = state.body.take() {
            return self.next_of_body(slf, state, body);
        }
        let is_over = match &state.answer {
            // It will be looked after.
            Some(_) if state.nobody == Nobody::Soon => false,
            Some((reply, speech)) if !speech.is_complete() => {
                let waker = self.waker(slf)?;
                reply.poll_over(&Context::from_waker(&waker)).is_ready()
            }
            _ => true,
        };
        Ok(if is_over {
            Next::Disconnect
        } else {
            Next::Wait
        })
    }

    /// Puts back what the app has not got yet.
    fn next_of_body(
        &self,
        slf: &Bound<'_, Self>,
        state: &mut State,
        mut body: RequestBody,
    ) -> PyResult<Next> {
        if let Some(whole) = body.take_whole() {
            return Ok(Next::Body(whole, false));
        }
        let driver = self.site.driver()?;
        let waker = self.waker(slf)?;
        let mut poll = || {
            let mut cx = Context::from_waker(&waker);
            driver.with_connections(|| body.poll_chunk(&mut cx))
        };
        let mut polled = poll();
        if polled.is_pending() {
            // It was only asked for; perhaps it is there now.
            polled = poll();
        }
        Ok(match polled {
            Poll::Pending => {
                state.body = Some(body);
                Next::Wait
            }
            Poll::Ready(Ok(chunk)) => {
                let is_over = chunk.is_none() || body.is_at_end();
                state.body = (!is_over).then_some(body);
                Next::Body(chunk.unwrap_or_default(), !is_over)
            }
            Poll::Ready(Err(_)) => {
                state.broke_off = true;
                Next::Disconnect
            }
        })
    }

    /// Has those who wait looked after, on the loop.
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
        this.wake_receiver(slf, state)?;
        if state.senders.is_empty() {
            return Ok(());
        }
        if let Some((_, speech)) = &state.answer {
            let waker = this.waker(slf)?;
            if speech.poll_room(&Context::from_waker(&waker)).is_pending() {
                return Ok(());
            }
        }
        for sender in state.senders.drain(..) {
            resolve(sender.bind(py), py.None().bind(py))?;
        }
        Ok(())
    }

    /// The app waits, for the first time.
    fn waits(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let is_begun = {
            let mut state = this.try_lock()?;
            state.has_waited = true;
            let answer = state.answer.as_ref();
            answer.is_some_and(|(_, speech)| speech.is_begun())
        };
        if is_begun {
            this.site.has_begun(slf)?;
        }
        Ok(())
    }

    /// The head has waited for the first piece of its body, if it still does so.
    pub(super) fn send_head(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let state = &mut *this.try_lock()?;
        match &mut state.answer {
            Some((reply, speech)) if !reply.is_gone() => {
                speech.send_head(reply)?;
                if speech.is_for_nobody() {
                    this.speaks_to_nobody(slf, &mut state.nobody)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The client has all of the answer, and its app goes on.
    fn speaks_to_nobody(&self, slf: &Bound<'_, Self>, nobody: &mut Nobody) -> PyResult<()> {
        if *nobody == Nobody::No {
            *nobody = Nobody::Soon;
            let tell = Bound::new(slf.py(), TellOfNobody(slf.clone().unbind()))?;
            self.site.call_later(slf.py(), PATIENCE, tell.into_any())?;
        }
        Ok(())
    }

    /// The app has come to its end.
    pub(super) fn finish(&self, py: Python<'_>, end: &End) {
        let (answer, told, nobody, broke_off) = {
            let mut state = self.lock();
            state.body = None;
            state.came = None;
            state.senders.clear();
            state.is_over = true;
            let told = state.receivers.wake_all(py);
            (state.answer.take(), told, state.nobody, state.broke_off)
        };
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
        let Some((reply, speech)) = answer else {
            return;
        };
        let is_complete = speech.is_complete();
        let is_gone = !is_complete && (reply.is_gone() || nobody == Nobody::Now || broke_off);
        match end {
            // It was told so in `send`, or saw it in `receive`.
            End::Raised(error) if is_gone && comes_of_os_error(py, error) => {}
            End::Raised(error) => {
                let text = "Exception in ASGI application";
                self.site.report(py, text, Some(error));
            }
            End::Cancelled(_) if is_complete && self.site.is_forced() => self.site.cut_off(),
            End::Cancelled(error) if !is_complete && !is_gone && !self.site.is_forced() => {
                let text = "A request's task was cancelled before its response was complete";
                self.site.report(py, text, Some(error));
            }
            End::Returned if !is_gone && !is_complete => {
                let text = if speech.is_unheard() {
                    "The ASGI application returned without a response"
                } else {
                    "The ASGI application returned before its response was complete"
                };
                self.site.report(py, text, None);
            }
            End::Returned | End::Cancelled(_) | End::Left(_) => {}
        }
        speech.close(reply, broke_off && matches!(end, End::Returned));
    }

    /// For the app, which may come here while it is here already: what Python's collector ends in
    /// the middle of it is the app's code.
    fn try_lock(&self) -> PyResult<MutexGuard<'_, State>> {
        try_lock(&self.state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells an app that nobody hears it, if it still speaks, as a callback.
#[pyclass(frozen, module = "gracefork._gracefork")]
struct TellOfNobody(Py<Talk>);

#[pymethods]
impl TellOfNobody {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let talk = self.0.bind(py);
        talk.get().try_lock()?.nobody = Nobody::Now;
        Talk::look_after(talk)
    }
}

/// What is left to do when the app has ended.
pub(super) struct Closing(pub(super) Py<Talk>);

impl Finish for Closing {
    fn finish(&self, py: Python<'_>, end: End) {
        let talk = self.0.get();
        talk.finish(py, &end);
        if let End::Left(error) = end {
            talk.site.leave(py, error);
        }
    }

    fn waits(&self, py: Python<'_>) {
        if let Err(error) = Talk::waits(self.0.bind(py)) {
            error.write_unraisable(py, None);
        }
    }
}

impl Next {
    fn message(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let message = PyDict::new(py);
        let kind = intern!(py, "type");
        match self {
            Self::Body(body, more) => {
                message.set_item(kind, intern!(py, "http.request"))?;
                message.set_item(intern!(py, "body"), PyBytes::new(py, &body))?;
                message.set_item(intern!(py, "more_body"), more)?;
            }
            Self::Disconnect | Self::Wait => {
                message.set_item(kind, intern!(py, "http.disconnect"))?;
            }
        }
        Ok(message.into_any())
    }
}
