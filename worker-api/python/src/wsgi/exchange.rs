//! One request's way to its response: what has been said, what is out, and what may still come.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use pyo3::exceptions::{PyAssertionError, PyConnectionResetError, PyTypeError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use worker_http::{Body, Gone, HintsTooLong, Patience, ReasonPhrase, Reply, Response, Streaming};

use super::file::Part;
use super::head::Head;
use crate::gil;

/// A shorter body is copied; what a longer one is in is kept until it is sent.
const COPIED: usize = 4096;

/// `start_response` is a method of it. It is used again for the next request of its thread, if
/// the app has kept nothing of it; calling the thing itself is `write`.
#[pyclass(frozen, module = "gracefork._gracefork")]
pub(super) struct Exchange {
    state: Mutex<State>,
}

struct State {
    is_head: bool,
    head: Option<Head>,
    /// An empty map: the request's, whose room the response's fields get. HTTP in turn gives it to
    /// the next request.
    room: HeaderMap,
    out: Out,
    /// What is left of the length that the head promises.
    left: Option<u64>,
    /// Bytes of the body that went out.
    sent: u64,
    /// Whether the hooks want to know what the app has said.
    is_noted: bool,
    /// Status and headers as the app has given them.
    said: Option<(Py<PyAny>, Py<PyAny>)>,
}

enum Out {
    /// There is no request.
    Idle,
    Nothing(Reply),
    Head(Streaming),
    All,
    /// The client has gone, or what it has got cannot be made whole.
    Broken,
}

/// How a response has ended, for the hooks.
pub(super) struct Summary {
    pub(super) status: u16,
    pub(super) said: Option<(Py<PyAny>, Py<PyAny>)>,
    pub(super) len: Option<u64>,
    pub(super) sent: u64,
}

#[pymethods]
impl Exchange {
    #[pyo3(signature = (status, response_headers, exc_info=None, /))]
    fn start_response<'py>(
        this: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        response_headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let exchange = this.get();
        let (has_head, is_out, room) = {
            let mut state = exchange.lock();
            let is_out = !matches!(state.out, Out::Nothing(_));
            let room = std::mem::take(&mut state.room);
            (state.head.is_some(), is_out, room)
        };
        match exc_info.filter(|info| !info.is_none()) {
            // Too late to say anything else: the app's error goes on its way.
            Some(info) if is_out => return Err(PyErr::from_value(info.get_item(1)?)),
            None if has_head => {
                let error = "start_response was called already";
                return Err(PyAssertionError::new_err(error));
            }
            _ => {}
        }
        let head = Head::new(status, response_headers, room)?;
        let mut state = exchange.lock();
        state.left = head.len;
        let said = state.is_noted.then(|| {
            let (status, headers) = (status.clone(), response_headers.clone());
            (status.unbind(), headers.unbind())
        });
        let before = (
            std::mem::replace(&mut state.said, said),
            state.head.replace(head),
        );
        drop((state, before));
        Ok(this.clone())
    }

    fn __call__(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.stream(py, bytes_of(data)?)
            .map_err(|Gone| PyConnectionResetError::new_err("the client has gone away"))
    }
}

impl Exchange {
    pub(super) fn new() -> Self {
        let state = State {
            is_head: false,
            head: None,
            room: HeaderMap::new(),
            out: Out::Idle,
            left: None,
            sent: 0,
            is_noted: false,
            said: None,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// A request comes. What the app says is noted if `is_noted`.
    pub(super) fn begin(&self, reply: Reply, is_head: bool, is_noted: bool, mut room: HeaderMap) {
        room.clear();
        *self.lock() = State {
            is_head,
            head: None,
            room,
            out: Out::Nothing(reply),
            left: None,
            sent: 0,
            is_noted,
            said: None,
        };
    }

    /// Sends hints, unless the client has the head of the response.
    pub(super) fn hint(&self, fields: &HeaderMap) -> Result<(), HintsTooLong> {
        let hints = match &self.lock().out {
            Out::Nothing(reply) => reply.early_hints().cloned(),
            _ => None,
        };
        hints.map_or(Ok(()), |hints| hints.send(fields))
    }

    /// The request is over. What is not whole by now is cut off.
    pub(super) fn end(&self) -> Option<Summary> {
        let mut state = self.lock();
        let said = state.said.take();
        let summary = state.head.take().map(|head| Summary {
            status: head.status.as_u16(),
            said,
            len: head.len,
            sent: state.sent,
        });
        let out = std::mem::replace(&mut state.out, Out::Idle);
        drop(state);
        drop(out);
        summary
    }

    /// An error before `start_response` was called.
    pub(super) fn must_have_head(&self) -> PyResult<()> {
        self.lock().must_have_head()
    }

    /// Whether the client has got nothing yet.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self.lock().out, Out::Nothing(_))
    }

    /// Whether the client has gone away.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.lock().out, Out::Broken)
    }

    /// That of the call of this thread, which has not answered.
    pub(super) fn patience(&self) -> Option<Patience> {
        match &self.lock().out {
            Out::Nothing(reply) => Some(reply.patience()),
            _ => None,
        }
    }

    /// The right to answer, if nothing is out: what the app says in another way goes nowhere then.
    pub(super) fn take_reply(&self) -> Option<Reply> {
        let mut state = self.lock();
        match std::mem::replace(&mut state.out, Out::All) {
            Out::Nothing(reply) => Some(reply),
            out => {
                state.out = out;
                None
            }
        }
    }

    /// Answers in the app's stead, if nothing is out.
    pub(super) fn answer_instead(&self, response: Response) {
        let mut state = self.lock();
        match std::mem::replace(&mut state.out, Out::Broken) {
            Out::Nothing(reply) => {
                state.out = Out::All;
                drop(state);
                reply.send(response);
            }
            // Without its end, what is out is cut off.
            out => drop((state, out)),
        }
    }

    /// The body's next piece, of any number: all of it, if it is as long as the head says.
    pub(super) fn piece(&self, py: Python<'_>, data: Bytes) -> Result<(), Gone> {
        let mut state = self.lock();
        let len = data.len() as u64;
        if matches!(state.out, Out::Nothing(_)) && state.left.is_some_and(|left| left <= len) {
            state.send_whole(data);
            return Ok(());
        }
        drop(state);
        self.stream(py, data)
    }

    /// The body in one piece, which is all that the app sends.
    pub(super) fn whole(&self, py: Python<'_>, data: Bytes) -> PyResult<()> {
        let len = data.len() as u64;
        let mut state = self.lock();
        state.must_have_head()?;
        if matches!(state.out, Out::Nothing(_)) {
            if !state.omits_body() {
                is_enough(state.left, len)?;
            }
            state.send_whole(data);
            return Ok(());
        }
        drop(state);
        match self.stream(py, data) {
            Ok(()) => self.finish(),
            // There is nothing more to do.
            Err(Gone) => Ok(()),
        }
    }

    /// A file, from where it is to its end or as far as the head says.
    pub(super) fn file(&self, part: Part) -> PyResult<()> {
        let mut state = self.lock();
        let len = state.left.unwrap_or(part.len);
        if state.omits_body() {
            state.keep_len(Some(part.len));
            state.send(Body::empty());
        } else {
            is_enough(state.left, part.len)?;
            (state.sent, state.left) = (len, Some(0));
            state.send(Body::file_part(part.file, part.offset, len));
        }
        Ok(())
    }

    /// The app has nothing more to send. An error if that is less than it has promised.
    pub(super) fn finish(&self) -> PyResult<()> {
        let mut state = self.lock();
        if matches!(state.out, Out::Nothing(_) | Out::Head(_)) && !state.omits_body() {
            is_enough(state.left, 0)?;
        }
        match std::mem::replace(&mut state.out, Out::All) {
            Out::Nothing(reply) => {
                state.out = Out::Nothing(reply);
                state.keep_len(None);
                state.send(Body::empty());
            }
            Out::Head(streaming) => streaming.end(),
            out => state.out = out,
        }
        Ok(())
    }

    /// Sends the head if it is not out, and a piece of the body as soon as the client takes it.
    fn stream(&self, py: Python<'_>, data: Bytes) -> Result<(), Gone> {
        let mut state = self.lock();
        if state.omits_body() {
            // What the client may not get does not keep the head back.
            if matches!(state.out, Out::Nothing(_)) {
                state.keep_len(None);
                state.send(Body::empty());
            }
            return Ok(());
        }
        state.start_streaming();
        let chunk = cut(data, state.left);
        let streaming = match std::mem::replace(&mut state.out, Out::Broken) {
            Out::Head(streaming) => streaming,
            Out::Broken => return Err(Gone),
            out => {
                state.out = out;
                return Ok(());
            }
        };
        drop(state);
        let len = chunk.len() as u64;
        let sent = gil::detach(py, || streaming.send(chunk).map(|()| streaming));
        let streaming = sent?;
        let mut state = self.lock();
        state.out = Out::Head(streaming);
        state.sent += len;
        state.left = state.left.map(|left| left - len);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `len` bytes are what is `left` to be sent.
fn is_enough(left: Option<u64>, len: u64) -> PyResult<()> {
    match left {
        Some(left) if left > len => {
            let error = "the response is shorter than its Content-Length";
            Err(PyAssertionError::new_err(error))
        }
        _ => Ok(()),
    }
}

impl State {
    fn omits_body(&self) -> bool {
        self.is_head || self.head.as_ref().is_some_and(Head::forbids_body)
    }

    /// Says how long a body would be that is not sent: as the app says, else as long as it is.
    fn keep_len(&mut self, len: Option<u64>) {
        if self.omits_body()
            && let Some(head) = &mut self.head
            && head.status != http::StatusCode::NO_CONTENT
            && let Some(len) = head.len.or(len.filter(|_| !head.forbids_body()))
        {
            let value = HeaderValue::from(len);
            head.headers.insert(header::CONTENT_LENGTH, value);
        }
    }

    fn must_have_head(&self) -> PyResult<()> {
        if self.head.is_some() {
            return Ok(());
        }
        let error = "the app has returned without a call of start_response";
        Err(PyAssertionError::new_err(error))
    }

    /// A body that is as long as the head says, or longer.
    fn send_whole(&mut self, data: Bytes) {
        let mut body = Bytes::new();
        if self.omits_body() {
            self.keep_len(Some(data.len() as u64));
        } else {
            body = cut(data, self.left);
            self.sent = body.len() as u64;
            self.left = Some(0);
        }
        self.send(body.into());
    }

    fn send(&mut self, body: Body) {
        if let Out::Nothing(reply) = std::mem::replace(&mut self.out, Out::All) {
            let (head, ()) = self.response(()).into_parts();
            reply.send(Response::from_parts(head, body));
        }
    }

    fn start_streaming(&mut self) {
        self.out = match std::mem::replace(&mut self.out, Out::Broken) {
            Out::Nothing(reply) => {
                let (head, ()) = self.response(()).into_parts();
                Out::Head(reply.stream(head, self.left))
            }
            out => out,
        };
    }

    fn response<B>(&mut self, body: B) -> http::Response<B> {
        let mut response = http::Response::new(body);
        if let Some(head) = &mut self.head {
            *response.status_mut() = head.status;
            *response.headers_mut() = std::mem::take(&mut head.headers);
            let reason = head
                .reason
                .take()
                .and_then(|it| ReasonPhrase::try_from(it).ok());
            if let Some(reason) = reason {
                response.extensions_mut().insert(reason);
            }
        }
        response
    }
}

/// A piece of a body: PEP 3333 wants bytes, and nothing that looks like some.
pub(super) fn bytes_of(data: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    let Ok(data) = data.cast::<PyBytes>() else {
        let kind = data.get_type();
        let error = format!("a response is made of bytes, not of {kind}");
        return Err(PyTypeError::new_err(error));
    };
    let bytes = data.as_bytes();
    if bytes.len() <= COPIED {
        return Ok(Bytes::copy_from_slice(bytes));
    }
    Ok(Bytes::from_owner(PyBackedBytes::from(data.clone())))
}

/// No more than the head has promised.
fn cut(mut data: Bytes, limit: Option<u64>) -> Bytes {
    if let Some(Ok(limit)) = limit.map(usize::try_from) {
        data.truncate(limit);
    }
    data
}
