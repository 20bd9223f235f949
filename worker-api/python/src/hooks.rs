//! A worker's hooks, as Python functions.

use pyo3::prelude::*;
use pyo3::types::PyString;
use worker_api::{Health, Hooks, WorkerInfo};

/// Calls the methods of a Python object that it has; what it has not is left at the default.
pub(crate) struct PyHooks {
    hooks: Py<PyAny>,
}

impl PyHooks {
    pub(crate) fn new(hooks: Py<PyAny>) -> Self {
        Self { hooks }
    }

    /// `false` if there is no such hook. What it raises is written out, and no more: a hook that
    /// fails does not keep a worker from leaving.
    fn call(&self, name: &str) -> bool {
        let called = Python::try_attach(|py| {
            let name = PyString::intern(py, name);
            let hook = self.hooks.bind(py).getattr_opt(&name)?;
            match hook.filter(|hook| !hook.is_none()) {
                Some(hook) => hook.call0().map(|_| true),
                None => Ok(false),
            }
            .or_else(|error: PyErr| {
                error.write_unraisable(py, Some(name.as_any()));
                Ok::<_, PyErr>(true)
            })
        });
        matches!(called, Some(Ok(true)))
    }
}

impl Hooks for PyHooks {
    fn on_term(&self, _: &WorkerInfo, health: &Health) {
        if !self.call("on_term") && !health.is_pod_healthy() {
            health.mark_unhealthy();
        }
    }

    fn on_drain(&self, _: &WorkerInfo) {
        self.call("on_drain");
    }

    fn on_drained(&self, _: &WorkerInfo) {
        self.call("on_drained");
    }

    fn worker_abort(&self, _: &WorkerInfo) {
        self.call("worker_abort");
    }

    fn worker_exit(&self, _: &WorkerInfo) {
        self.call("worker_exit");
    }

    fn reopen_logs(&self, _: &WorkerInfo) {
        self.call("reopen_logs");
    }
}
