//! One HTTP request and its answer, as the app sees them: `receive` and `send`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use worker_http::hosted::{Answer, Inquiry, Reply, RequestBody, StreamBody};

use super::answer::{Head, body, fields, flag, too_late, unexpected};
use super::ready::{Ready, Waiting};
use super::runner::{End, Finish};
use super::site::{Site, resolve};

/// See the module.
#[pyclass(frozen, module = "gracefork._gracefork")]
pub(super) struct Talk {
    site: Arc<Site>,
    is_head: bool,
    state: Mutex<State>,
}

struct State {
    body: RequestBody,
    /// The app has all of the body.
    has_body: bool,
    /// Until the app has ended.
    reply: Option<Reply>,
    said: Said,
    /// Futures of those who wait in `receive`.
    receivers: VecDeque<Py<PyAny>>,
    /// Futures of those who wait in `send`.
    senders: Vec<Py<PyAny>>,
}

/// What the app has said.
enum Said {
    Nothing,
    Start(Head),
    Part(Streaming),
    /// All but the trailers.
    Body(StreamBody),
    All,
}

struct Streaming {
    /// `None` if the body is not sent: it answers a HEAD.
    stream: Option<StreamBody>,
    left: Option<u64>,
    trailers: bool,
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
        let (py, this) = (slf.py(), slf.get());
        let mut state = this.lock();
        if state.receivers.is_empty() {
            match this.next(slf, &mut state)? {
                Next::Wait => {}
                next => {
                    let value = next.message(py)?.into_any().unbind();
                    return Ok(Bound::new(py, Ready { value })?.into_any());
                }
            }
        }
        let future = this.site.create_future(py)?;
        state.receivers.push_back(future.clone().unbind());
        Ok(Bound::new(py, Waiting::new(&future)?)?.into_any())
    }

    fn send<'py>(
        slf: &Bound<'py, Self>,
        message: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let kind = message
            .get_item(intern!(py, "type"))?
            .ok_or_else(|| PyRuntimeError::new_err("an ASGI message has a `type`"))?;
        let kind = kind.cast::<PyString>()?.to_str()?;
        let mut state = this.lock();
        let state = &mut *state;
        let is_gone = match &state.reply {
            Some(reply) => !matches!(state.said, Said::All) && reply.is_over(),
            None => return Err(too_late(kind)),
        };
        if is_gone {
            return Err(PyOSError::new_err("the client has gone away"));
        }
        state.said = match (kind, std::mem::replace(&mut state.said, Said::All)) {
            ("http.response.start", Said::Nothing) => match Head::of(message) {
                Ok(head) => Said::Start(head),
                Err(error) => {
                    state.said = Said::Nothing;
                    return Err(error);
                }
            },
            ("http.response.body", Said::Start(head)) => this.begin(state, head, message)?,
            ("http.response.body", Said::Part(part)) => this.go_on(part, message)?,
            ("http.response.pathsend", Said::Start(head)) => {
                this.send_file(state, head, message)?
            }
            ("http.response.trailers", Said::Body(stream)) => this.end(stream, message)?,
            (_, Said::All) => return Err(too_late(kind)),
            (_, said) => {
                let error = unexpected(kind, said.expected());
                state.said = said;
                return Err(error);
            }
        };
        if matches!(state.said, Said::All) {
            state.tell_receivers(py)?;
        } else if let Said::Part(Streaming {
            stream: Some(stream),
            ..
        }) = &state.said
            && !has_room(stream)
        {
            return this.wait_for_room(slf, stream, &mut state.senders);
        }
        Ok(this.site.done.bind(py).clone().into_any())
    }
}

impl Talk {
    pub(super) fn new(site: &Arc<Site>, inquiry: Inquiry) -> Self {
        let state = State {
            body: inquiry.body,
            has_body: false,
            reply: Some(inquiry.reply),
            said: Said::Nothing,
            receivers: VecDeque::new(),
            senders: Vec::new(),
        };
        Self {
            site: Arc::clone(site),
            is_head: inquiry.head.method == Method::HEAD,
            state: Mutex::new(state),
        }
    }

    /// The first piece of a body; often it is the last.
    fn begin(&self, state: &State, head: Head, message: &Bound<'_, PyDict>) -> PyResult<Said> {
        let py = message.py();
        let body = body(message)?;
        let more = flag(message, intern!(py, "more_body"))?;
        let Head {
            parts,
            length,
            trailers,
        } = head;
        if self.is_head {
            // The length that the app has named stands for itself.
            let body = if length.is_some() || more {
                Bytes::new()
            } else {
                body
            };
            self.answer(state, parts, Answer::bytes(body))?;
            let part = Streaming {
                stream: None,
                left: None,
                trailers: false,
            };
            return Ok(if more { Said::Part(part) } else { Said::All });
        }
        let left = rest(length, body.len(), more)?;
        if !more && !trailers {
            self.answer(state, parts, Answer::bytes(body))?;
            return Ok(Said::All);
        }
        let (stream, answer) = Answer::stream(length);
        if !body.is_empty() {
            let _ = stream.push(body);
        }
        self.answer(state, parts, answer)?;
        if !more {
            return Ok(Said::Body(stream));
        }
        Ok(Said::Part(Streaming {
            stream: Some(stream),
            left,
            trailers,
        }))
    }

    /// Another piece.
    fn go_on(&self, mut part: Streaming, message: &Bound<'_, PyDict>) -> PyResult<Said> {
        let more = flag(message, intern!(message.py(), "more_body"))?;
        let body = body(message)?;
        let Some(stream) = part.stream else {
            return Ok(if more { Said::Part(part) } else { Said::All });
        };
        part.left = rest(part.left, body.len(), more)?;
        self.site.driver()?.with_connections(|| {
            if !body.is_empty() {
                stream.push(body)?;
            }
            if !more && !part.trailers {
                stream.finish(None);
            }
            Ok::<_, std::io::Error>(())
        })?;
        Ok(match (more, part.trailers) {
            (true, _) => {
                part.stream = Some(stream);
                Said::Part(part)
            }
            (false, true) => Said::Body(stream),
            (false, false) => Said::All,
        })
    }

    /// A file, in the place of a body.
    fn send_file(&self, state: &State, head: Head, message: &Bound<'_, PyDict>) -> PyResult<Said> {
        let path = message.get_item(intern!(message.py(), "path"))?;
        let path: std::path::PathBuf = path
            .ok_or_else(|| PyRuntimeError::new_err("a pathsend has a `path`"))?
            .extract()?;
        let file = std::fs::File::open(path)?;
        let len = file.metadata()?.len();
        let len = head.length.unwrap_or(len).min(len);
        self.answer(state, head.parts, Answer::file(file, 0, len))?;
        Ok(Said::All)
    }

    fn end(&self, stream: StreamBody, message: &Bound<'_, PyDict>) -> PyResult<Said> {
        let trailers = fields(message)?;
        let more = flag(message, intern!(message.py(), "more_trailers"))?;
        if more {
            return Err(PyRuntimeError::new_err("trailers come in one message"));
        }
        let driver = self.site.driver()?;
        driver.with_connections(|| stream.finish(Some(trailers)));
        Ok(Said::All)
    }

    fn answer(&self, state: &State, parts: http::response::Parts, answer: Answer) -> PyResult<()> {
        if let Some(reply) = &state.reply {
            let driver = self.site.driver()?;
            driver.with_connections(|| reply.send(parts, answer));
        }
        Ok(())
    }

    /// What is next to receive; those who wait are woken when there is more.
    fn next(&self, slf: &Bound<'_, Self>, state: &mut State) -> PyResult<Next> {
        if !state.has_body {
            if let Some(whole) = state.body.take_whole() {
                state.has_body = true;
                return Ok(Next::Body(whole, false));
            }
            let driver = self.site.driver()?;
            let mut polled = Poll::Pending;
            // The first time asks for it; what has come already is there at the second.
            for _ in 0..2 {
                let waker = self.waker(slf)?;
                let mut cx = Context::from_waker(&waker);
                polled = driver.with_connections(|| state.body.poll_chunk(&mut cx));
                if polled.is_ready() {
                    break;
                }
            }
            return Ok(match polled {
                Poll::Pending => Next::Wait,
                Poll::Ready(Ok(chunk)) => {
                    state.has_body = chunk.is_none() || state.body.is_at_end();
                    Next::Body(chunk.unwrap_or_default(), !state.has_body)
                }
                Poll::Ready(Err(_)) => {
                    state.has_body = true;
                    Next::Disconnect
                }
            });
        }
        let is_over = match &state.reply {
            Some(reply) if !matches!(state.said, Said::All) => {
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

    fn wait_for_room<'py>(
        &self,
        slf: &Bound<'py, Self>,
        stream: &StreamBody,
        senders: &mut Vec<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let waker = self.waker(slf)?;
        if stream.poll_room(&Context::from_waker(&waker)).is_ready() {
            return Ok(self.site.done.bind(py).clone().into_any());
        }
        let future = self.site.create_future(py)?;
        senders.push(future.clone().unbind());
        Ok(Bound::new(py, Waiting::new(&future)?)?.into_any())
    }

    /// Has those who wait looked after, on the loop.
    fn waker(&self, slf: &Bound<'_, Self>) -> PyResult<Waker> {
        let slf = slf.clone().unbind();
        Ok(self.site.driver()?.waker(move || {
            Python::attach(|py| {
                let slf = slf.bind(py);
                if let Err(error) = slf.get().look_after(slf) {
                    error.write_unraisable(py, None);
                }
            });
        }))
    }

    /// Something has come, or gone.
    fn look_after(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let mut state = self.lock();
        let state = &mut *state;
        while let Some(first) = state.receivers.front() {
            let first = first.bind(py).clone();
            if !first.call_method0(intern!(py, "done"))?.is_truthy()? {
                let message = match self.next(slf, state)? {
                    Next::Wait => break,
                    next => next.message(py)?,
                };
                resolve(&first, &message)?;
            }
            state.receivers.pop_front();
        }
        if state.senders.is_empty() {
            return Ok(());
        }
        if let Said::Part(Streaming {
            stream: Some(stream),
            ..
        }) = &state.said
        {
            let waker = self.waker(slf)?;
            if stream.poll_room(&Context::from_waker(&waker)).is_pending() {
                return Ok(());
            }
        }
        for sender in state.senders.drain(..) {
            resolve(sender.bind(py), py.None().bind(py))?;
        }
        Ok(())
    }

    /// The app could not even begin.
    pub(super) fn fail(&self, py: Python<'_>, error: PyErr) {
        self.finish(py, End::Raised(error));
    }

    fn finish(&self, py: Python<'_>, end: End) {
        let (reply, said) = {
            let mut state = self.lock();
            let said = std::mem::replace(&mut state.said, Said::All);
            (state.reply.take(), said)
        };
        let Some(reply) = reply else { return };
        let is_gone = !matches!(said, Said::All) && reply.is_over();
        match (&end, &said) {
            // It was told so in `send`, or saw it in `receive`.
            (End::Raised(error), _) if is_gone && error.is_instance_of::<PyOSError>(py) => {}
            (End::Raised(error), _) => {
                let text = "Exception in ASGI application";
                self.site.report(py, text, Some(error));
            }
            (End::Returned, Said::Nothing | Said::Start(_)) if !is_gone => {
                let text = "The ASGI application returned without a response";
                self.site.report(py, text, None);
            }
            (End::Returned, Said::Part(_) | Said::Body(_)) if !is_gone => {
                let text = "The ASGI application returned before its response was complete";
                self.site.report(py, text, None);
            }
            (End::Returned | End::Cancelled, _) => {}
        }
        let Ok(driver) = self.site.driver() else {
            return;
        };
        driver.with_connections(|| {
            if let Said::Nothing | Said::Start(_) = said {
                let (parts, answer) = internal_error();
                reply.send(parts, answer);
            }
            // What was begun and not ended is cut off here.
            drop(said);
        });
        drop(reply);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left to do when the app has ended.
pub(super) struct Closing(pub(super) Py<Talk>);

impl Finish for Closing {
    fn finish(&self, py: Python<'_>, end: End) {
        self.0.get().finish(py, end);
    }
}

impl State {
    /// All is said: who still waits to receive has nothing to wait for.
    fn tell_receivers(&mut self, py: Python<'_>) -> PyResult<()> {
        while let Some(receiver) = self.receivers.pop_front() {
            resolve(receiver.bind(py), &Next::Disconnect.message(py)?)?;
        }
        Ok(())
    }
}

impl Said {
    fn expected(&self) -> &'static str {
        match self {
            Self::Nothing => "'http.response.start'",
            Self::Start(_) | Self::Part(_) => "'http.response.body'",
            Self::Body(_) => "'http.response.trailers'",
            Self::All => "nothing",
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

fn has_room(stream: &StreamBody) -> bool {
    let room = stream.poll_room(&Context::from_waker(Waker::noop()));
    matches!(room, Poll::Ready(Ok(())))
}

/// What is left of a body's length, if the app has named one.
fn rest(length: Option<u64>, came: usize, more: bool) -> PyResult<Option<u64>> {
    let Some(length) = length else {
        return Ok(None);
    };
    let left = length
        .checked_sub(came as u64)
        .ok_or_else(|| PyRuntimeError::new_err("the response is longer than its content-length"))?;
    if left > 0 && !more {
        let error = "the response is shorter than its content-length";
        return Err(PyRuntimeError::new_err(error));
    }
    Ok(Some(left))
}

fn internal_error() -> (http::response::Parts, Answer) {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::INTERNAL_SERVER_ERROR;
    parts.headers = HeaderMap::with_capacity(1);
    let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
    parts.headers.insert(http::header::CONTENT_TYPE, text);
    (
        parts,
        Answer::bytes(Bytes::from_static(b"Internal Server Error")),
    )
}
