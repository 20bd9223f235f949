//! What the app waits in, and why it comes to no good end.

use std::sync::{Mutex, MutexGuard, TryLockError};

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;

/// So many exceptions, each raised while another was handled, are looked at.
const CONTEXTS: usize = 16;

/// Gives a future its result, unless it was cancelled.
pub(super) fn resolve(future: &Bound<'_, PyAny>, result: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
        future.call_method1(intern!(py, "set_result"), (result,))?;
    }
    Ok(())
}

/// Whether an exception is an `OSError`, or was raised while one was handled: a framework may have a
/// name of its own for a client that has gone away.
pub(super) fn comes_of_os_error(py: Python<'_>, error: &PyErr) -> bool {
    let mut next = Some(error.value(py).clone().into_any());
    for _ in 0..CONTEXTS {
        let Some(error) = next.filter(|error| !error.is_none()) else {
            return false;
        };
        if error.is_instance_of::<PyOSError>() {
            return true;
        }
        next = error.getattr(intern!(py, "__context__")).ok();
    }
    false
}

/// Locks what no other thread holds for long, and this one perhaps: that is an error then.
pub(super) fn try_lock<T>(state: &Mutex<T>) -> PyResult<MutexGuard<'_, T>> {
    match state.try_lock() {
        Ok(state) => Ok(state),
        Err(TryLockError::Poisoned(state)) => Ok(state.into_inner()),
        Err(TryLockError::WouldBlock) => Err(PyRuntimeError::new_err(
            "receive() or send() is called in the middle of a call of it",
        )),
    }
}
