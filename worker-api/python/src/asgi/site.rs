//! What all requests of a worker have in common: the app, its loop, and how its tasks begin.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use slab::Slab;
use worker_api::Stage;
use worker_http::hosted::{Answer, Driver, Inquiry, LoopHandler, Start};

use super::frames::Close;
use super::handshake::{Offer, Wish};
use super::option;
use super::ready::Done;
use super::runner::{End, Finish, Runner};
use super::scope::{Kind, Scopes};
use super::talk::{self, Talk};
use super::waits::resolve;
use super::websocket::{self, Socket};
use crate::wsgi::hang::report;

/// See the module.
pub(super) struct Site {
    worker: worker_api::Worker,
    app: Py<PyAny>,
    event_loop: Py<PyAny>,
    tasks: Tasks,
    scopes: Scopes,
    pub(super) done: Py<Done>,
    driver: OnceLock<Driver<Handler>>,
    /// Of the loop: done when the worker has drained.
    end: Py<PyAny>,
    error_log: Py<PyAny>,
    /// What ends the loop in the middle of everything.
    leave_at_once: Py<PyAny>,
    /// Requests whose answers have begun and may have no piece of a body yet.
    begun: Mutex<Begun>,
    /// Open WebSockets.
    sockets: Mutex<Slab<Py<Socket>>>,
    /// What those are told that are open, or come to be.
    farewell: OnceLock<Close>,
    /// A WebSocket's message may be so long.
    pub(super) message_limit: usize,
    /// After so many seconds of silence a WebSocket's peer is asked whether it is there.
    pub(super) ping_interval: Option<f64>,
    /// So many seconds a WebSocket's peer has to say good-bye.
    pub(super) close_grace: f64,
}

/// A WebSocket's longest message, if nothing else is said: as long as uvicorn's.
const MESSAGE_LIMIT: usize = 16 << 20;
/// How long a WebSocket's peer has to say good-bye, in seconds, if nothing else is said.
const CLOSE_GRACE: f64 = 5.0;

/// So many seconds a head waits at least for the first piece of its body, and twice as long at most:
/// they leave together, and a middleware passes them on one after the other.
const HEAD_WAITS: f64 = 0.005;

/// Those that began since somebody looked, and those before.
#[derive(Default)]
struct Begun {
    lately: Vec<Py<Talk>>,
    before: Vec<Py<Talk>>,
    /// Somebody will look.
    is_watched: bool,
}

/// How a coroutine becomes a task.
enum Tasks {
    /// By the loop's own function and a factory of the app's: it begins who knows when.
    Factory,
    /// It begins at once, in this turn of the loop: the class, and the names of the arguments
    /// that say so.
    Eager(Py<PyAny>, Py<PyDict>),
    /// By the loop's own function, which has it begin in the loop's next round.
    Soon,
}

/// The driver's way to the site.
pub(super) struct Handler(pub(super) Arc<Site>);

impl Site {
    pub(super) fn new(
        worker: &worker_api::Worker,
        app: Bound<'_, PyAny>,
        event_loop: &Bound<'_, PyAny>,
        end: &Bound<'_, PyAny>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let py = app.py();
        let root_path = option::<String>(options, "root_path")?.unwrap_or_default();
        let state = options.get_item("state")?.filter(|state| !state.is_none());
        let state = state.map(|state| state.cast_into::<PyDict>()).transpose()?;
        let sends_paths = option(options, "pathsend")?.unwrap_or(true);
        let logging = py.import("logging")?;
        Ok(Self {
            worker: worker.clone(),
            tasks: Tasks::of(event_loop)?,
            scopes: Scopes::new(py, &root_path, state, sends_paths)?,
            done: Py::new(py, Done)?,
            driver: OnceLock::new(),
            end: end.clone().unbind(),
            error_log: logging
                .call_method1("getLogger", ("gunicorn.error",))?
                .unbind(),
            leave_at_once: py.import("gracefork._orders")?.getattr("Leave")?.unbind(),
            event_loop: event_loop.clone().unbind(),
            app: app.unbind(),
            begun: Mutex::default(),
            sockets: Mutex::default(),
            farewell: OnceLock::new(),
            message_limit: match option(options, "ws_max_message_size")? {
                Some(0) => usize::MAX,
                limit => limit.unwrap_or(MESSAGE_LIMIT),
            },
            ping_interval: option(options, "ws_ping_interval")?.filter(|interval| *interval > 0.0),
            close_grace: option(options, "ws_close_grace")?.unwrap_or(CLOSE_GRACE),
        })
    }

    pub(super) fn set_driver(&self, driver: Driver<Handler>) {
        let _ = self.driver.set(driver);
    }

    pub(super) fn driver(&self) -> PyResult<&Driver<Handler>> {
        let driver = self.driver.get();
        driver.ok_or_else(|| PyRuntimeError::new_err("nothing is served yet"))
    }

    pub(super) fn create_future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let event_loop = self.event_loop.bind(py);
        event_loop.call_method0(intern!(py, "create_future"))
    }

    /// Has the loop call `callback` after so many seconds; returns its handle, to cancel that.
    pub(super) fn call_later<'py>(
        &self,
        py: Python<'py>,
        seconds: f64,
        callback: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let event_loop = self.event_loop.bind(py);
        event_loop.call_method1(intern!(py, "call_later"), (seconds, callback))
    }

    /// An app has said the head of an answer, and does something else now. Should that last, the head
    /// is sent by itself.
    pub(super) fn has_begun(self: &Arc<Self>, talk: &Bound<'_, Talk>) -> PyResult<()> {
        let is_watched = {
            let mut begun = self.begun();
            begun.lately.push(talk.clone().unbind());
            std::mem::replace(&mut begun.is_watched, true)
        };
        if is_watched {
            return Ok(());
        }
        self.watch_heads(talk.py())
    }

    fn watch_heads(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let look = Bound::new(py, LookAtHeads(Arc::clone(self)))?;
        self.call_later(py, HEAD_WAITS, look.into_any()).map(drop)
    }

    /// The heads that have waited for long enough; `true` if others wait still.
    fn late_heads(&self) -> (Vec<Py<Talk>>, bool) {
        let mut begun = self.begun();
        let lately = std::mem::take(&mut begun.lately);
        begun.is_watched = !lately.is_empty();
        let late = std::mem::replace(&mut begun.before, lately);
        (late, begun.is_watched)
    }

    fn begun(&self) -> MutexGuard<'_, Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A WebSocket is open; tells its place, for when it is not any more.
    pub(super) fn enroll(&self, socket: &Bound<'_, Socket>) -> usize {
        self.sockets().insert(socket.clone().unbind())
    }

    pub(super) fn dismiss(&self, place: usize) {
        let socket = self.sockets().try_remove(place);
        drop(socket);
    }

    /// What a WebSocket is told that opens now; nothing while the worker stays.
    pub(super) fn farewell(&self) -> Option<Close> {
        self.farewell.get().cloned()
    }

    fn say_farewell(&self, py: Python<'_>, close: &Close) {
        if self.farewell.set(close.clone()).is_err() {
            return;
        }
        let sockets: Vec<_> = {
            let sockets = self.sockets();
            sockets.iter().map(|(_, it)| it.clone_ref(py)).collect()
        };
        for socket in sockets {
            let socket = socket.bind(py);
            if let Err(error) = socket.get().leave(socket, close.clone()) {
                error.write_unraisable(py, None);
            }
        }
    }

    fn sockets(&self) -> MutexGuard<'_, Slab<Py<Socket>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the app, and makes a task of what it returns.
    pub(super) fn run(
        &self,
        arguments: (Bound<'_, PyDict>, Bound<'_, PyAny>, Bound<'_, PyAny>),
        finish: Box<dyn Finish>,
        start: Start,
    ) -> PyResult<()> {
        let py = arguments.0.py();
        let coroutine = self.app.bind(py).call1(arguments)?;
        let start = match self.tasks {
            Tasks::Eager(..) | Tasks::Soon => Some(start),
            Tasks::Factory => None,
        };
        let runner = Bound::new(py, Runner::new(coroutine, finish, start))?;
        match &self.tasks {
            Tasks::Eager(class, names) => {
                let arguments = PyTuple::new(py, [runner])?;
                class.bind(py).call(arguments, Some(names.bind(py)))?;
            }
            Tasks::Soon | Tasks::Factory => {
                let event_loop = self.event_loop.bind(py);
                event_loop.call_method1(intern!(py, "create_task"), (runner,))?;
            }
        }
        Ok(())
    }

    /// The app wants the process to end. It does so without losing a request: another one takes its
    /// place, and the worker drains. Unless it is told to end now: then the loop ends with this,
    /// which it lets through as what a callback of its own raises.
    pub(super) fn leave(&self, py: Python<'_>, error: PyErr) {
        if !error.matches(py, &self.leave_at_once).unwrap_or(true) {
            self.report(py, "Exception in ASGI application", Some(&error));
            return py.detach(|| self.worker.leave());
        }
        let event_loop = self.event_loop.bind(py);
        let told = Bound::new(py, Raise(error))
            .and_then(|raise| event_loop.call_method1(intern!(py, "call_soon"), (raise,)));
        if let Err(failure) = told {
            failure.write_unraisable(py, None);
        }
    }

    /// Whether the worker is cut off from what it still does.
    pub(super) fn is_forced(&self) -> bool {
        self.worker.drain().stage() == Stage::Forced
    }

    /// What an app still did for a request that was answered has ended with the worker: it counts as
    /// a request does.
    pub(super) fn cut_off(&self) {
        tracing::warn!("background work of an answered request cut off");
        self.worker.in_flight().enter().abort();
    }

    /// Writes to the error log.
    pub(super) fn report(&self, py: Python<'_>, text: &str, error: Option<&PyErr>) {
        let written = error.map_or(Ok(None), |error| {
            let details = PyDict::new(py);
            // Python 3.11 and older keep the traceback apart.
            details.set_item("exc_info", error.clone_ref(py).into_value(py))?;
            Ok(Some(details))
        });
        let written = written.and_then(|details| {
            let log = self.error_log.bind(py);
            log.call_method(intern!(py, "error"), (text,), details.as_ref())
        });
        if let Err(failure) = written {
            failure.write_unraisable(py, None);
        }
    }

    fn begin(self: &Arc<Self>, py: Python<'_>, inquiry: Inquiry, start: Start) -> PyResult<()> {
        match Wish::of(&inquiry.head) {
            Wish::Http => self.begin_talk(py, inquiry, start),
            Wish::WebSocket(offer) => self.begin_socket(py, inquiry, offer, start),
            Wish::Wrong(parts) => {
                let answer = Answer::bytes(Bytes::new());
                let driver = self.driver()?;
                driver.with_connections(|| inquiry.reply.send(*parts, answer));
                Ok(())
            }
        }
    }

    fn begin_talk(
        self: &Arc<Self>,
        py: Python<'_>,
        inquiry: Inquiry,
        start: Start,
    ) -> PyResult<()> {
        let scope = self.scopes.of(py, Kind::Http, &inquiry)?;
        let talk = Bound::new(py, Talk::new(self, inquiry))?;
        let receive = talk.getattr(intern!(py, "receive"))?;
        let send = talk.getattr(intern!(py, "send"))?;
        let closing = talk::Closing(talk.clone().unbind());
        let begun = self.run((scope, receive, send), Box::new(closing), start);
        if let Err(error) = begun {
            talk.get().finish(py, &End::Raised(error));
        }
        Ok(())
    }

    fn begin_socket(
        self: &Arc<Self>,
        py: Python<'_>,
        inquiry: Inquiry,
        offer: Offer,
        start: Start,
    ) -> PyResult<()> {
        let scope = self.scopes.of(py, Kind::WebSocket, &inquiry)?;
        scope.set_item(intern!(py, "subprotocols"), &offer.protocols)?;
        let socket = Bound::new(py, Socket::new(self, inquiry, offer))?;
        let receive = socket.getattr(intern!(py, "receive"))?;
        let send = socket.getattr(intern!(py, "send"))?;
        let closing = websocket::Closing(socket.clone().unbind());
        let begun = self.run((scope, receive, send), Box::new(closing), start);
        if let Err(error) = begun {
            socket.get().finish(&socket, &End::Raised(error));
        }
        Ok(())
    }
}

/// Has the heads sent that have waited for long enough, as a callback.
#[pyclass(frozen, module = "gracefork._gracefork")]
struct LookAtHeads(Arc<Site>);

#[pymethods]
impl LookAtHeads {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let (late, is_watched) = self.0.late_heads();
        for talk in late {
            if let Err(error) = Talk::send_head(talk.bind(py)) {
                error.write_unraisable(py, None);
            }
        }
        match is_watched {
            true => self.0.watch_heads(py),
            false => Ok(()),
        }
    }
}

/// A callback that raises.
#[pyclass(frozen, module = "gracefork._gracefork")]
struct Raise(PyErr);

#[pymethods]
impl Raise {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        Err(self.0.clone_ref(py))
    }
}

impl Tasks {
    fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        if !event_loop.call_method0("get_task_factory")?.is_none() {
            return Ok(Self::Factory);
        }
        if py.version_info() < (3, 12) {
            return Ok(Self::Soon);
        }
        let names = PyDict::new(py);
        names.set_item("loop", event_loop)?;
        names.set_item("eager_start", true)?;
        let class = py.import("asyncio")?.getattr("Task")?;
        Ok(Self::Eager(class.unbind(), names.unbind()))
    }
}

impl LoopHandler for Handler {
    fn call(&self, inquiry: Inquiry, start: Start) {
        Python::attach(|py| {
            if let Err(error) = self.0.begin(py, inquiry, start) {
                self.0.report(py, "cannot begin a request", Some(&error));
            }
        });
    }

    fn stage_changed(&self, stage: Stage) {
        let close = match stage {
            Stage::Retiring => Close::new(1012, "the server restarts"),
            Stage::Draining => Close::new(1001, "the server stops"),
            _ => return,
        };
        Python::attach(|py| self.0.say_farewell(py, &close));
    }

    /// The loop's thread may have Python's lock: nothing here needs it.
    fn stalled(&self, since: Duration) {
        let what = format!(
            "the event loop is blocked since {:.1} s",
            since.as_secs_f64()
        );
        report(&self.0.worker, &what);
    }

    fn over(&self) {
        Python::attach(|py| {
            let Site {
                driver,
                event_loop,
                end,
                ..
            } = &*self.0;
            let ended = (|| {
                use std::os::fd::AsRawFd;
                if let Some(driver) = driver.get() {
                    for fd in [driver.kernel(), driver.bell()] {
                        let event_loop = event_loop.bind(py);
                        event_loop.call_method1("remove_reader", (fd.as_raw_fd(),))?;
                    }
                }
                resolve(end.bind(py), &py.None().into_bound(py))
            })();
            if let Err(error) = ended {
                error.write_unraisable(py, None);
            }
        });
    }
}
