//! `gunicorn.socket`: the connection itself, for an app that speaks another protocol on it, as
//! Flask-Sock and Flask-SocketIO do.
//!
//! The connection stays where it is. The app gets one end of a pair of sockets: what it writes there
//! begins with the head of a response, which is sent as any other, and from then on a thread each way
//! carries bytes. That ends with the call, as under gunicorn; and when the worker retires or drains,
//! the app finds the end of what it reads.

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
use worker_http::{Body, Patience, Reply, Response, Upgraded};

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
        self.socket(py)?.getattr(name)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.socket(py)?.call_method0(intern!(py, "close"))?;
        Ok(())
    }
}

impl ConnectionSocket {
    /// For the call of this thread.
    pub(super) fn new(exchange: &Bound<'_, Exchange>, drain: Drain) -> Self {
        Self {
            exchange: exchange.clone().unbind(),
            drain,
            socket: PyOnceLock::new(),
            line: Arc::new(Line {
                patience: exchange.get().patience(),
                progress: Mutex::default(),
                changed: Condvar::new(),
            }),
        }
    }

    /// The call is over: whether the app has answered here. What it has written is seen to first, and
    /// nothing that it writes from now on goes anywhere.
    pub(super) fn has_answered(&self, py: Python<'_>) -> bool {
        gil::detach(py, || self.line.settle())
    }

    fn socket<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        let socket = self.socket.get_or_try_init(py, || self.open(py))?;
        Ok(socket.bind(py))
    }

    fn open(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (ours, theirs) = UnixStream::pair()?;
        let fd = PyDict::new(py);
        fd.set_item(intern!(py, "fileno"), theirs.as_raw_fd())?;
        let socket = py.import("socket")?.getattr("socket")?;
        let socket = socket.call((), Some(&fd))?;
        // It is the socket's now.
        let _ = theirs.into_raw_fd();
        // Whatever `socket.setdefaulttimeout` says.
        socket.call_method1(intern!(py, "settimeout"), (py.None(),))?;
        let ours = Arc::new(ours);
        end_with(&self.drain, &ours)?;
        let exchange = self.exchange.clone_ref(py);
        let undecided = Undecided::new(&self.line, &ours);
        start_thread(CARRIES, move || answer(undecided, &ours, exchange))?;
        Ok(socket.unbind())
    }
}

/// How far the app has come with its own answer.
struct Line {
    /// The call's.
    patience: Option<Patience>,
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
    Answered(Arc<UnixStream>),
    /// There was none, or the request was answered in another way.
    Over,
}

impl Line {
    fn settle(&self) -> bool {
        let mut progress = self.lock();
        if let Progress::Open(ours) | Progress::Answered(ours) = &*progress {
            // What it has written is still read, and then the end.
            let _ = ours.shutdown(Shutdown::Read);
        }
        while matches!(*progress, Progress::Open(_)) {
            let changed = self.changed.wait(progress);
            progress = changed.unwrap_or_else(PoisonError::into_inner);
        }
        matches!(*progress, Progress::Answered(_))
    }

    fn set(&self, progress: Progress) {
        *self.lock() = progress;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever waits for the app's answer is told, however its reading ends.
struct Undecided {
    line: Arc<Line>,
    is_decided: bool,
}

impl Undecided {
    fn new(line: &Arc<Line>, ours: &Arc<UnixStream>) -> Self {
        line.set(Progress::Open(Arc::clone(ours)));
        Self {
            line: Arc::clone(line),
            is_decided: false,
        }
    }

    fn answered_by(mut self, ours: &Arc<UnixStream>) {
        self.is_decided = true;
        // Its thread waits in `settle` by now, if the call has ended: it is this call's yet.
        self.line.patience.iter().for_each(Patience::take);
        self.line.set(Progress::Answered(Arc::clone(ours)));
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        if !self.is_decided {
            self.line.set(Progress::Over);
        }
    }
}

/// Reads what the app answers, answers that, and carries bytes for as long as there are any.
fn answer(undecided: Undecided, ours: &Arc<UnixStream>, exchange: Py<Exchange>) {
    let head = read_head(ours).unwrap_or_else(|error| {
        tracing::error!(%error, "what the app writes to gunicorn.socket is no response");
        None
    });
    let reply = head.and_then(|head| Some((head, exchange.get().take_reply()?)));
    drop(exchange);
    if let Some((head, reply)) = reply {
        undecided.answered_by(ours);
        if let Err(error) = head.send(reply, ours) {
            tracing::debug!(%error, "a connection that the app has taken over ends");
        }
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
        let (mut parts, ()) = response.into_parts();
        if parts.status != StatusCode::SWITCHING_PROTOCOLS {
            // How long it lives is said by who sends it.
            parts.headers.remove(header::CONNECTION);
            if parts.headers.contains_key(header::TRANSFER_ENCODING) {
                return Err("its body is in chunks".into());
            }
        }
        let rest = text[len..].to_vec();
        Ok(Some(Self { parts, rest }))
    }

    fn send(self, reply: Reply, ours: &Arc<UnixStream>) -> io::Result<()> {
        let Self { parts, rest } = self;
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return carry(&reply.switch(parts)?, ours, &rest);
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
        let end = take_in(&mut from_client, &to_app);
        let _ = to_app.shutdown(end);
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

/// Takes what the client says until it says no more, and gives it to the app for as long as that
/// reads. What ends then.
fn take_in(client: &mut Upgraded, mut app: &UnixStream) -> Shutdown {
    let mut piece = [0; 8192];
    let mut is_read = true;
    loop {
        match client.read(&mut piece) {
            // It may still listen.
            Ok(0) => return Shutdown::Write,
            Ok(len) => is_read = is_read && app.write_all(&piece[..len]).is_ok(),
            Err(_) => return Shutdown::Both,
        }
    }
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
    let started = thread.spawn(run).map(drop);
    started.inspect_err(|error| tracing::error!(%error, "no thread for a connection of the app's"))
}
