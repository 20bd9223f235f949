//! One call of the app: from the request to the last byte of what it returns.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version, header};
use pyo3::exceptions::{
    PyBrokenPipeError, PyConnectionError, PyConnectionResetError, PyStopIteration, PySystemExit,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use worker_http::{Body, Gone, Handler, Reply, Request, Response};

use super::connection::ConnectionSocket;
use super::environ::{Elsewhere, Memory, Template};
use super::exchange::{Exchange, bytes_of};
use super::file::FileWrapper;
use super::hints::{EarlyHints, Turn};
use super::hooks::RequestHooks;
use super::input::Input;
use super::options::Options;
use crate::gil;
use crate::tokens::has_token;
use crate::worker::Worker;

/// The app, and what its calls have in common.
pub(super) struct Caller {
    app: Py<PyAny>,
    template: Template,
    hooks: RequestHooks,
    worker: worker_api::Worker,
}

/// What a thread keeps from call to call.
struct Desk {
    memory: Memory,
    exchange: Py<Exchange>,
    start_response: Py<PyAny>,
}

thread_local! {
    static DESK: RefCell<Option<Desk>> = const { RefCell::new(None) };
}

impl Handler for Caller {
    fn call(&self, mut request: Request, reply: Reply) {
        gil::with(|py| {
            if let Err(error) = self.answer(py, &mut request, reply) {
                error.write_unraisable(py, None);
            }
        });
    }
}

impl Caller {
    pub(super) fn new(
        py: Python<'_>,
        worker: &Worker,
        app: &Bound<'_, PyAny>,
        options: Options,
    ) -> PyResult<Self> {
        let settings = worker.inner.settings();
        let errors = match options.errors {
            Some(errors) => errors.into_bound(py),
            None => py.import("sys")?.getattr("stderr")?,
        };
        let constant = PyDict::new(py);
        constant.set_item("wsgi.errors", errors)?;
        constant.set_item("wsgi.version", (1, 0))?;
        constant.set_item("wsgi.multithread", settings.threads.get() > 1)?;
        constant.set_item("wsgi.multiprocess", options.multiprocess)?;
        constant.set_item("wsgi.run_once", false)?;
        constant.set_item("wsgi.file_wrapper", py.get_type::<FileWrapper>())?;
        constant.set_item("wsgi.early_hints", Bound::new(py, EarlyHints)?)?;
        constant.set_item("wsgi.input", Input::empty().into_pyobject(py)?)?;
        constant.set_item("wsgi.input_terminated", true)?;
        let template = Template::new(
            &constant,
            &options.script_name,
            settings.forwarded_allow_ips.clone(),
            worker.addresses.clone(),
        )?;
        Ok(Self {
            app: app.clone().unbind(),
            template,
            hooks: options.hooks,
            worker: worker.inner.clone(),
        })
    }

    /// The request is large: it stays where it is.
    fn answer(&self, py: Python<'_>, request: &mut Request, reply: Reply) -> PyResult<()> {
        let desk = DESK.take();
        let mut desk = desk.map_or_else(|| Desk::new(py, Memory::new()), Ok)?;
        let answered = self.answer_at(py, &mut desk, request, reply);
        if !desk.is_mine(py) {
            desk = Desk::new(py, desk.memory)?;
        }
        DESK.set(Some(desk));
        answered
    }

    fn answer_at(
        &self,
        py: Python<'_>,
        desk: &mut Desk,
        asked: &mut Request,
        reply: Reply,
    ) -> PyResult<()> {
        let environ = match self.template.environ(py, asked, &mut desk.memory)? {
            Ok(environ) => environ,
            Err(Elsewhere) => {
                let path = asked.uri().path();
                tracing::error!(path, "the request is not for a path below SCRIPT_NAME");
                reply.send(server_error());
                return Ok(());
            }
        };
        let request = self.hooks.request(asked, &environ)?;
        let mut input = None;
        if !(asked.body().is_ready() && asked.body().is_empty()) {
            let body = Bound::new(py, Input::new(asked.body_mut().detach()))?;
            environ.set_item(intern!(py, "wsgi.input"), &body)?;
            input = Some(body);
        }
        let exchange = desk.exchange.bind(py);
        let is_head = asked.method() == Method::HEAD;
        let may_switch = asks_for_switch(asked);
        let room = std::mem::take(asked.headers_mut());
        let is_noted = self.hooks.wants_answer();
        exchange.get().begin(reply, is_head, is_noted, room);
        let mut connection = None;
        if may_switch {
            let socket = Bound::new(py, ConnectionSocket::new(exchange, self.worker.drain()))?;
            environ.set_item(intern!(py, "gunicorn.socket"), &socket)?;
            connection = Some(socket);
        }
        let start_response = desk.start_response.bind(py);
        let turn = Turn::of(exchange);
        let returned = self.run(&environ, start_response, request.as_ref());
        // What it has written to the connection comes first.
        let has_answered = || {
            connection
                .as_ref()
                .is_some_and(|it| it.get().has_answered(py))
        };
        let done = match returned {
            Ok(returned) if has_answered() => close(&returned),
            Ok(returned) => send(&returned, exchange.get(), has_answered),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            if has_answered() {
                self.failed_after_switch(py, &error, &environ);
            } else {
                self.failed(py, &error, &environ, exchange.get());
            }
        }
        if let Some(input) = input {
            input.get().close();
        }
        drop(turn);
        let summary = exchange.get().end();
        if let Some(request) = request {
            self.hooks.after(&request, &environ, summary);
        }
        Ok(())
    }

    /// What the app returns.
    fn run<'py>(
        &self,
        environ: &Bound<'py, PyDict>,
        start_response: &Bound<'py, PyAny>,
        request: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(request) = request {
            self.hooks.before(request)?;
        }
        self.app.bind(environ.py()).call1((environ, start_response))
    }

    /// The app has raised an exception.
    fn failed(
        &self,
        py: Python<'_>,
        error: &PyErr,
        environ: &Bound<'_, PyDict>,
        exchange: &Exchange,
    ) {
        let gone = exchange.is_broken() && error.is_instance_of::<PyConnectionError>(py);
        if !gone {
            self.hooks.log(py, error, environ, exchange.is_unanswered());
        }
        exchange.answer_instead(server_error());
        self.leave_if_told(py, error);
    }

    /// The same, once the connection is the app's: gunicorn has it say with StopIteration that it has
    /// done all itself.
    fn failed_after_switch(&self, py: Python<'_>, error: &PyErr, environ: &Bound<'_, PyDict>) {
        let is_over = error.is_instance_of::<PyStopIteration>(py)
            || error.is_instance_of::<PyBrokenPipeError>(py)
            || error.is_instance_of::<PyConnectionResetError>(py);
        if !is_over {
            self.hooks.log(py, error, environ, false);
        }
        self.leave_if_told(py, error);
    }

    fn leave_if_told(&self, py: Python<'_>, error: &PyErr) {
        if error.is_instance_of::<PySystemExit>(py) {
            gil::detach(py, || self.worker.leave());
        }
    }
}

/// RFC 9110, section 7.8: it counts where Connection names it, and in HTTP/1.1.
fn asks_for_switch(asked: &Request) -> bool {
    let fields = asked.headers();
    fields.contains_key(header::UPGRADE)
        && asked.version() == Version::HTTP_11
        && has_token(fields, &header::CONNECTION, "upgrade")
}

impl Desk {
    fn new(py: Python<'_>, memory: Memory) -> PyResult<Self> {
        let exchange = Bound::new(py, Exchange::new())?;
        Ok(Self {
            memory,
            start_response: exchange.getattr(intern!(py, "start_response"))?.unbind(),
            exchange: exchange.unbind(),
        })
    }

    /// Whether the app has kept nothing of it.
    fn is_mine(&self, py: Python<'_>) -> bool {
        gil::references(self.start_response.bind(py)) == 1
            && gil::references(self.exchange.bind(py)) == 2
    }
}

/// Answers with what the app returns, unless it `has_answered` by the end of that.
fn send(
    returned: &Bound<'_, PyAny>,
    exchange: &Exchange,
    has_answered: impl Fn() -> bool,
) -> PyResult<()> {
    match send_at_once(returned, exchange) {
        Some(sent) => sent,
        None => {
            let sent = send_iterable(returned, exchange, has_answered);
            let closed = close(returned);
            sent.and(closed)
        }
    }
}

/// Answers with what can be taken as it is: a list or tuple, or a file.
fn send_at_once(returned: &Bound<'_, PyAny>, exchange: &Exchange) -> Option<PyResult<()>> {
    let py = returned.py();
    if let Ok(list) = returned.cast_exact::<PyList>() {
        let pieces = list.iter().map(|piece| bytes_of(&piece));
        return Some(join(pieces).and_then(|body| exchange.whole(py, body)));
    }
    if let Ok(tuple) = returned.cast_exact::<PyTuple>() {
        let pieces = tuple.iter().map(|piece| bytes_of(&piece));
        return Some(join(pieces).and_then(|body| exchange.whole(py, body)));
    }
    let file = returned.cast_exact::<FileWrapper>().ok()?.get();
    let part = file.part(py)?;
    let sent = exchange.must_have_head().and_then(|()| exchange.file(part));
    Some(sent.and(file.close(py)))
}

/// Most often there is one piece, which needs no copy.
fn join(mut pieces: impl ExactSizeIterator<Item = PyResult<Bytes>>) -> PyResult<Bytes> {
    if pieces.len() == 1
        && let Some(only) = pieces.next()
    {
        return only;
    }
    let mut all = BytesMut::new();
    for piece in pieces {
        all.extend_from_slice(&piece?);
    }
    Ok(all.freeze())
}

fn send_iterable(
    returned: &Bound<'_, PyAny>,
    exchange: &Exchange,
    has_answered: impl Fn() -> bool,
) -> PyResult<()> {
    let py = returned.py();
    for piece in returned.try_iter()? {
        let piece = bytes_of(&piece?)?;
        if piece.is_empty() {
            continue;
        }
        exchange.must_have_head()?;
        if let Err(Gone) = exchange.piece(py, piece) {
            return Ok(());
        }
    }
    // A generator runs only now.
    if has_answered() {
        return Ok(());
    }
    exchange.must_have_head()?;
    exchange.finish()
}

fn close(returned: &Bound<'_, PyAny>) -> PyResult<()> {
    let close = returned.getattr_opt(intern!(returned.py(), "close"))?;
    close.map_or(Ok(()), |close| close.call0().map(drop))
}

fn server_error() -> Response {
    let mut response = Response::new(Body::from("Internal Server Error\n"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
