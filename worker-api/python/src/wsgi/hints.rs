//! `wsgi.early_hints`: what an app calls, as under gunicorn, to send hints ahead of its response.

use std::cell::Cell;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::exchange::Exchange;
use super::head::fields_of_hints;

thread_local! {
    static CURRENT: Cell<Option<Py<Exchange>>> = const { Cell::new(None) };
}

/// One for all requests, so that it costs them nothing: it belongs to the one that the thread
/// works for. From another thread, and once the response has a head, it does nothing.
#[pyclass(frozen, module = "gracefork._gracefork")]
pub(super) struct EarlyHints;

#[pymethods]
impl EarlyHints {
    fn __call__(&self, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let fields = fields_of_hints(headers)?;
        let Some(exchange) = CURRENT.take() else {
            return Ok(());
        };
        let sent = exchange.get().hint(&fields);
        CURRENT.set(Some(exchange));
        sent.map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

/// While it lives, the hints of this thread are an exchange's.
pub(super) struct Turn {
    before: Option<Py<Exchange>>,
}

impl Turn {
    pub(super) fn of(exchange: &Bound<'_, Exchange>) -> Self {
        Self {
            before: CURRENT.replace(Some(exchange.clone().unbind())),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}
