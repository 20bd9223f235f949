//! The coroutine that a task of the loop runs: the app's, and then what is left to do for its
//! request. That is cheaper than a task's callback, and no exception is left to the loop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::{PyGeneratorExit, PyKeyboardInterrupt, PyStopIteration, PySystemExit};
use pyo3::prelude::*;
use worker_http::hosted::Start;

use super::ready::{Step, step};

/// What is left to do for a request when its app has come to an end.
pub(super) trait Finish: Send + Sync {
    fn finish(&self, py: Python<'_>, end: End);

    /// The app has come to its first wait.
    fn waits(&self, py: Python<'_>);
}

/// How an app ends.
pub(super) enum End {
    Returned,
    Raised(PyErr),
    /// Its task was cancelled, or something that it waited for.
    Cancelled(PyErr),
    /// With what ends the loop: `SystemExit` or `KeyboardInterrupt`. A task that begins at once would
    /// keep it to itself, so that it has to get to the loop in another way.
    Left(PyErr),
}

/// See the module. To everybody else it looks like the app's coroutine.
#[pyclass(frozen, module = "gracefork._gracefork")]
pub(crate) struct Runner {
    app: Py<PyAny>,
    finish: Box<dyn Finish>,
    /// Until the app has come to its first wait.
    start: Mutex<Option<Start>>,
    has_waited: AtomicBool,
}

impl Runner {
    pub(super) fn new(
        app: Bound<'_, PyAny>,
        finish: Box<dyn Finish>,
        start: Option<Start>,
    ) -> Self {
        Self {
            app: app.unbind(),
            finish,
            start: Mutex::new(start),
            has_waited: AtomicBool::new(false),
        }
    }

    fn has_started(&self) {
        let mut start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        let before = start.take();
        drop(start);
        drop(before);
    }

    /// What the app has come to: a future to wait for, or its end.
    fn go_on<'py>(
        &self,
        py: Python<'py>,
        stepped: PyResult<Step<'py>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let come_to = self.come_to(py, stepped);
        self.has_started();
        come_to
    }

    fn come_to<'py>(
        &self,
        py: Python<'py>,
        stepped: PyResult<Step<'py>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match stepped {
            Ok(Step::Yielded(future)) => {
                if !self.has_waited.swap(true, Ordering::Relaxed) {
                    self.finish.waits(py);
                }
                Ok(Some(future))
            }
            Ok(Step::Returned(_)) => {
                self.finish.finish(py, End::Returned);
                Ok(None)
            }
            Err(error) if ends_the_loop(py, &error) => {
                self.finish.finish(py, End::Left(error));
                Ok(None)
            }
            Err(error) if is_cancelled(py, &error) => {
                self.finish.finish(py, End::Cancelled(error.clone_ref(py)));
                Err(error)
            }
            Err(error) => {
                self.finish.finish(py, End::Raised(error));
                Ok(None)
            }
        }
    }
}

fn is_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<CancelledError>(py) || error.is_instance_of::<PyGeneratorExit>(py)
}

fn ends_the_loop(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}

#[pymethods]
impl Runner {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let stepped = step(self.app.bind(py), py.None().bind(py));
        self.go_on(py, stepped)
    }

    fn send<'py>(&self, py: Python<'py>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let stepped = step(self.app.bind(py), &value);
        self.go_on(py, stepped)?
            .ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (error, value=None, traceback=None))]
    fn throw<'py>(
        &self,
        py: Python<'py>,
        error: Bound<'py, PyAny>,
        value: Option<Bound<'py, PyAny>>,
        traceback: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = (value, traceback);
        let thrown = self
            .app
            .bind(py)
            .call_method1(pyo3::intern!(py, "throw"), (error,));
        let stepped = match thrown {
            Ok(future) => Ok(Step::Yielded(future)),
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                Ok(Step::Returned(py.None().into_bound(py)))
            }
            Err(error) => Err(error),
        };
        self.go_on(py, stepped)?
            .ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.app.bind(py).call_method0("close").map(drop)
    }

    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.app.bind(py).getattr(name)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.app.bind(py).repr()?.to_string())
    }
}
