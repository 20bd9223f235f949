//! Awaitables that cost next to nothing: what is known already is given without a future.
#![expect(unsafe_code, reason = "steps an iterator by CPython's own function")]

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::prelude::*;

/// Awaited, it is done at once, with nothing; one for all.
#[pyclass(frozen, module = "gracefork._gracefork")]
pub(super) struct Done;

#[pymethods]
impl Done {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self) -> Option<Py<PyAny>> {
        None
    }

    fn send(&self, _value: Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (error, value=None, traceback=None))]
    fn throw(
        &self,
        error: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (value, traceback);
        Err(PyErr::from_value(error))
    }

    fn close(&self) {}
}

/// Awaited, it gives the loop one turn, and is done.
#[derive(Default)]
#[pyclass(frozen, module = "gracefork._gracefork")]
pub(super) struct Pause {
    has_begun: AtomicBool,
}

#[pymethods]
impl Pause {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        (!self.has_begun.swap(true, Ordering::Relaxed)).then(|| py.None())
    }

    fn send(&self, py: Python<'_>, _value: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.__next__(py)
            .ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (error, value=None, traceback=None))]
    fn throw(
        &self,
        error: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (value, traceback);
        Err(PyErr::from_value(error))
    }

    fn close(&self) {}
}

/// Awaited, it waits for a future of the loop. Not the future itself, so that it can be made a
/// task of, as what a coroutine function returns can.
#[pyclass(frozen, module = "gracefork._gracefork")]
pub(super) struct Waiting {
    /// The future's iterator.
    steps: Py<PyAny>,
}

impl Waiting {
    pub(super) fn new(future: &Bound<'_, PyAny>) -> PyResult<Self> {
        let steps = future.call_method0(pyo3::intern!(future.py(), "__await__"))?;
        Ok(Self {
            steps: steps.unbind(),
        })
    }
}

#[pymethods]
impl Waiting {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.send(py, py.None().into_bound(py))
    }

    fn send<'py>(&self, py: Python<'py>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match step(self.steps.bind(py), &value)? {
            Step::Yielded(future) => Ok(future),
            Step::Returned(value) => Err(stop(py, &value)),
        }
    }

    #[pyo3(signature = (error, value=None, traceback=None))]
    fn throw<'py>(
        &self,
        error: Bound<'py, PyAny>,
        value: Option<Bound<'py, PyAny>>,
        traceback: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = (value, traceback);
        let steps = self.steps.bind(error.py());
        steps.call_method1(pyo3::intern!(error.py(), "throw"), (error,))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.steps.bind(py).call_method0("close").map(drop)
    }
}

/// What comes of a step of a coroutine.
pub(super) enum Step<'py> {
    Yielded(Bound<'py, PyAny>),
    Returned(Bound<'py, PyAny>),
}

/// Has a coroutine, or another iterator that awaits, go on.
pub(super) fn step<'py>(
    coroutine: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Step<'py>> {
    let py = coroutine.py();
    let mut result = std::ptr::null_mut();
    // SAFETY: both are objects that are alive, the interpreter is attached, and the result, if
    // there is one, is a reference of its own.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), value.as_ptr(), &raw mut result) {
            ffi::PySendResult::PYGEN_NEXT => Ok(Step::Yielded(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_RETURN => {
                Ok(Step::Returned(Bound::from_owned_ptr(py, result)))
            }
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        }
    }
}

/// The exception that ends an iterator with a value, which is no tuple: those would be taken for
/// its arguments.
pub(super) fn stop(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyErr {
    // SAFETY: the interpreter is attached, and both are objects that are alive.
    unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr()) };
    PyErr::fetch(py)
}
