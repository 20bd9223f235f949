//! What all requests of a worker have in common: the app, its loop, and how its tasks begin.

use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use worker_http::hosted::{Driver, Inquiry, LoopHandler};

use super::option;
use super::ready::Done;
use super::runner::{Finish, Runner};
use super::scope::{Kind, Scopes};
use super::talk::{Closing, Talk};

/// See the module.
pub(super) struct Site {
    app: Py<PyAny>,
    event_loop: Py<PyAny>,
    tasks: Tasks,
    scopes: Scopes,
    pub(super) done: Py<Done>,
    driver: OnceLock<Driver<Handler>>,
    /// Of the loop: done when the worker has drained.
    end: Py<PyAny>,
    error_log: Py<PyAny>,
}

/// How a coroutine becomes a task.
enum Tasks {
    /// By the loop's own function: it has a factory of the app's, or cannot do better.
    Loop,
    /// It begins at once, in this turn of the loop: the class, and the names of the arguments
    /// that say so.
    Eager(Py<PyAny>, Py<PyDict>),
}

/// The driver's way to the site.
pub(super) struct Handler(pub(super) Arc<Site>);

impl Site {
    pub(super) fn new(
        app: Bound<'_, PyAny>,
        event_loop: &Bound<'_, PyAny>,
        end: &Bound<'_, PyAny>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let py = app.py();
        let root_path = option::<String>(options, "root_path")?.unwrap_or_default();
        let state = options.get_item("state")?.filter(|state| !state.is_none());
        let state = state.map(|state| state.cast_into::<PyDict>()).transpose()?;
        let logging = py.import("logging")?;
        Ok(Self {
            tasks: Tasks::of(event_loop)?,
            scopes: Scopes::new(py, &root_path, state)?,
            done: Py::new(py, Done)?,
            driver: OnceLock::new(),
            end: end.clone().unbind(),
            error_log: logging
                .call_method1("getLogger", ("gracefork.error",))?
                .unbind(),
            event_loop: event_loop.clone().unbind(),
            app: app.unbind(),
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

    /// Calls the app, and makes a task of what it returns.
    pub(super) fn run(
        &self,
        arguments: (Bound<'_, PyDict>, Bound<'_, PyAny>, Bound<'_, PyAny>),
        finish: Box<dyn Finish>,
    ) -> PyResult<()> {
        let py = arguments.0.py();
        let coroutine = self.app.bind(py).call1(arguments)?;
        let runner = Bound::new(py, Runner::new(coroutine, finish))?;
        match &self.tasks {
            Tasks::Eager(class, names) => {
                let arguments = PyTuple::new(py, [runner])?;
                class.bind(py).call(arguments, Some(names.bind(py)))?;
            }
            Tasks::Loop => {
                let event_loop = self.event_loop.bind(py);
                event_loop.call_method1(intern!(py, "create_task"), (runner,))?;
            }
        }
        Ok(())
    }

    /// Writes to the error log.
    pub(super) fn report(&self, py: Python<'_>, text: &str, error: Option<&PyErr>) {
        let written = error.map_or(Ok(None), |error| {
            let details = PyDict::new(py);
            details.set_item("exc_info", error.value(py))?;
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

    fn begin(self: &Arc<Self>, py: Python<'_>, inquiry: Inquiry) -> PyResult<()> {
        let scope = self.scopes.of(py, Kind::Http, &inquiry)?;
        let talk = Bound::new(py, Talk::new(self, inquiry))?;
        let receive = talk.getattr(intern!(py, "receive"))?;
        let send = talk.getattr(intern!(py, "send"))?;
        let closing = Closing(talk.clone().unbind());
        let begun = self.run((scope, receive, send), Box::new(closing));
        if let Err(error) = begun {
            talk.get().fail(py, error);
        }
        Ok(())
    }
}

impl Tasks {
    fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        let has_factory = !event_loop.call_method0("get_task_factory")?.is_none();
        if has_factory || py.version_info() < (3, 12) {
            return Ok(Self::Loop);
        }
        let names = PyDict::new(py);
        names.set_item("loop", event_loop)?;
        names.set_item("eager_start", true)?;
        let class = py.import("asyncio")?.getattr("Task")?;
        Ok(Self::Eager(class.unbind(), names.unbind()))
    }
}

impl LoopHandler for Handler {
    fn call(&self, inquiry: Inquiry) {
        Python::attach(|py| {
            if let Err(error) = self.0.begin(py, inquiry) {
                self.0.report(py, "cannot begin a request", Some(&error));
            }
        });
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

/// Gives a future its result, unless it was cancelled.
pub(super) fn resolve(future: &Bound<'_, PyAny>, result: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
        future.call_method1(intern!(py, "set_result"), (result,))?;
    }
    Ok(())
}
