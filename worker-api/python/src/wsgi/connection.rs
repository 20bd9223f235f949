//! `gunicorn.socket`: the connection itself, for an app that speaks another protocol on it, as
//! Flask-Sock and Flask-SocketIO do.
//!
//! The connection stays where it is. The app gets one end of a pair of sockets: what it writes there
//! begins with the head of a response, which is sent as any other, and from then on a thread each way
//! carries bytes. When the worker retires or drains, the app finds the end of what it reads.

use std::io::{self, Cursor, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};
use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use worker_api::{Drain, Stage};
use worker_http::{Body, Reply, Response, Upgraded};

use super::exchange::Exchange;
use crate::gil;

/// The threads of one connection, two of them.
const CARRIES: &str = "gracefork-carry";
/// Of the head that the app writes.
const MOST_FIELDS: usize = 100;
const MOST_BYTES: usize = 64 << 10;
/// What a client still says when the app has closed its end is taken for so long, so that what it was
/// told last is not lost by a reset.
const LINGER: Duration = Duration::from_secs(1);

/// What a request for another protocol finds in its environ. It becomes a socket of Python's when
/// the app asks for anything of it; an app that does not is answered for as ever.
#[pyclass(frozen, module = "gracefork._gracefork")]
pub(super) struct ConnectionSocket {
    exchange: Py<Exchange>,
    drain: Drain,
    socket: PyOnceLock<Py<PyAny>>,
    line: Arc<Line>,
}

#[pymethods]
impl ConnectionSocket {
    fn __getattr__<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if name.to_cow()?.starts_with("__") {
            return Err(PyAttributeError::new_err(name.clone().unbind()));
        }
        let socket = self.socket.get_or_try_init(py, || self.open(py))?;
        socket.bind(py).getattr(name)
    }
}

impl ConnectionSocket {
    pub(super) fn new(exchange: &Bound<'_, Exchange>, drain: Drain) -> Self {
        Self {
            exchange: exchange.clone().unbind(),
            drain,
            socket: PyOnceLock::new(),
            line: Arc::default(),
        }
    }

    /// The call is over: whether the app has answered here. What it has written is seen to first.
    pub(super) fn has_answered(&self, py: Python<'_>) -> bool {
        gil::detach(py, || self.line.settle())
    }

    fn open(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (ours, theirs) = UnixStream::pair()?;
        let fd = PyDict::new(py);
        fd.set_item(intern!(py, "fileno"), theirs.as_raw_fd())?;
        let socket = py.import("socket")?.getattr("socket")?;
        let socket = socket.call((), Some(&fd))?;
        // It is the socket's now.
        let _ = theirs.into_raw_fd();
        let (line, ours) = (Arc::clone(&self.line), Arc::new(ours));
        let exchange = self.exchange.clone_ref(py);
        line.set(Progress::Open(Arc::clone(&ours)));
        end_with(&self.drain, &ours)?;
        start_thread(CARRIES, move || answer(&line, &ours, exchange)).inspect_err(|_| {
            self.line.set(Progress::Over);
        })?;
        self.exchange.get().lasts();
        Ok(socket.unbind())
    }
}

/// How far the app has come with its own answer.
#[derive(Default)]
struct Line {
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
enum Progress {
    /// It has not asked for the socket.
    #[default]
    Unused,
    /// The head that it writes is read from this end.
    Open(Arc<UnixStream>),
    /// It was read, and is the answer.
    Answered,
    /// There was none, or the request was answered in another way.
    Over,
}

impl Line {
    fn settle(&self) -> bool {
        let mut progress = self.lock();
        if let Progress::Open(ours) = &*progress {
            // What it has written is still read, and then the end.
            let _ = ours.shutdown(Shutdown::Read);
        }
        while matches!(*progress, Progress::Open(_)) {
            let changed = self.changed.wait(progress);
            progress = changed.unwrap_or_else(PoisonError::into_inner);
        }
        matches!(*progress, Progress::Answered)
    }

    fn set(&self, progress: Progress) {
        *self.lock() = progress;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what the app answers, answers that, and carries bytes for as long as there are any.
fn answer(line: &Line, ours: &Arc<UnixStream>, exchange: Py<Exchange>) {
    let head = read_head(ours);
    let answer = match head {
        Ok(Some(head)) => exchange.get().take_reply().map(|reply| (head, reply)),
        Ok(None) => None,
        Err(error) => {
            tracing::error!(%error, "what the app writes to gunicorn.socket is no response");
            None
        }
    };
    drop(exchange);
    let is_answered = answer.is_some();
    line.set(if is_answered {
        Progress::Answered
    } else {
        Progress::Over
    });
    if let Some((head, reply)) = answer
        && let Err(error) = head.send(reply, ours)
    {
        tracing::debug!(%error, "a connection that the app has taken over ends");
    }
    let _ = ours.shutdown(Shutdown::Both);
}

/// A response's head, and what came behind it.
struct Head {
    parts: http::response::Parts,
    rest: Vec<u8>,
}

/// Nothing, where the app writes less than a head.
fn read_head(mut ours: &UnixStream) -> io::Result<Option<Head>> {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while text.len() < MOST_BYTES {
        let len = ours.read(&mut piece)?;
        if len == 0 {
            return Ok(None);
        }
        text.extend_from_slice(&piece[..len]);
        if let Some(head) = Head::parse(&text).map_err(io::Error::other)? {
            return Ok(Some(head));
        }
    }
    Err(io::Error::other("its head is too long"))
}

impl Head {
    /// Nothing while it is not whole.
    fn parse(text: &[u8]) -> Result<Option<Self>, Box<dyn std::error::Error + Send + Sync>> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(len) = head.parse(text)? else {
            return Ok(None);
        };
        let mut response = http::Response::new(());
        *response.status_mut() = StatusCode::from_u16(head.code.unwrap_or_default())?;
        for field in head.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes())?;
            let value = HeaderValue::from_bytes(field.value)?;
            response.headers_mut().append(name, value);
        }
        let (parts, ()) = response.into_parts();
        let rest = text[len..].to_vec();
        Ok(Some(Self { parts, rest }))
    }

    fn send(self, reply: Reply, ours: &Arc<UnixStream>) -> io::Result<()> {
        let Self { mut parts, rest } = self;
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return carry(&reply.switch(parts)?, ours, &rest);
        }
        // How long it lives, and how its body ends, is said by who sends it.
        parts.headers.remove(header::CONNECTION);
        let pieces = parts.headers.remove(header::TRANSFER_ENCODING);
        if pieces.is_some() {
            return Err(io::Error::other("chunks are not taken from the app"));
        }
        let len = parts.headers.get(header::CONTENT_LENGTH);
        let len = len.and_then(|len| len.to_str().ok()?.parse().ok());
        let body = Cursor::new(rest).chain(ours.try_clone()?);
        let body = match len {
            Some(len) => Body::sized_reader(body, len),
            None => Body::reader(body),
        };
        reply.send(Response::from_parts(parts, body));
        Ok(())
    }
}

/// Carries bytes both ways until the app closes its end, beginning with the `rest` of what it has
/// written.
fn carry(client: &Upgraded, ours: &Arc<UnixStream>, rest: &[u8]) -> io::Result<()> {
    let (to_app, mut from_client) = (Arc::clone(ours), client.clone());
    let (ends, ended) = mpsc::channel::<()>();
    start_thread(CARRIES, move || {
        let _ends = ends;
        // The one has gone, or the other.
        let _ = io::copy(&mut from_client, &mut &*to_app);
        let _ = to_app.shutdown(Shutdown::Write);
    })?;
    let mut to_client = client;
    let sent = to_client
        .write_all(rest)
        .and_then(|()| io::copy(&mut &**ours, &mut to_client).map(drop));
    let _ = client.shutdown();
    let _ = ended.recv_timeout(LINGER);
    client.stop_reading();
    sent
}

/// Ends what the app reads when the worker retires or drains.
fn end_with(drain: &Drain, ours: &Arc<UnixStream>) -> io::Result<()> {
    static OPEN: Mutex<Option<Vec<Weak<UnixStream>>>> = Mutex::new(None);
    let open = || OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if open().is_none() {
        let drain = drain.clone();
        start_thread("gracefork-ends", move || {
            drain.wait(Stage::Retiring);
            let all = open().take().unwrap_or_default();
            for ours in all.iter().filter_map(Weak::upgrade) {
                let _ = ours.shutdown(Shutdown::Write);
            }
        })?;
    }
    let mut all = open();
    let all = all.get_or_insert_default();
    all.retain(|ours| ours.strong_count() > 0);
    all.push(Arc::downgrade(ours));
    if drain.stage() >= Stage::Retiring {
        let _ = ours.shutdown(Shutdown::Write);
    }
    Ok(())
}

fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(run).map(drop)
}
