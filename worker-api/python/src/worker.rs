//! The worker, as Python sees it.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use worker_api::{Forked, Handover, PodPhase, Stage};

use crate::hooks::PyHooks;

/// What the fork server took over, until a child makes its worker of it.
static HANDOVER: Mutex<Option<Handover>> = Mutex::new(None);

/// Takes over the listeners and the scoreboard that this process, a fork server, was started with,
/// before code of the app runs; what that starts will not have them. What each worker would make
/// for itself, its way to log and the types of the module, is made for all of them. Doing it again
/// does nothing.
#[pyfunction]
pub(crate) fn inherit(py: Python<'_>) -> PyResult<()> {
    let mut handover = HANDOVER.lock().unwrap_or_else(PoisonError::into_inner);
    if handover.is_none() {
        *handover = Some(Handover::take().map_err(failed)?);
        crate::log::start();
        crate::wsgi::make_types(py);
        crate::asgi::make_types(py);
    }
    Ok(())
}

/// Unmaps unchanged pages of files until they are used again; how many bytes they were.
#[pyfunction]
pub(crate) fn release_file_pages() -> usize {
    worker_api::memory::release_file_pages()
}

/// This process as a worker of gracefork; `Worker(slot, generation, control_fd, max_requests,
/// hooks)` makes it, once, in a child of the fork server.
#[pyclass(frozen, module = "gracefork._gracefork")]
pub(crate) struct Worker {
    pub(crate) inner: worker_api::Worker,
    /// Of its listeners; none for a Unix socket.
    pub(crate) addresses: Vec<Option<SocketAddr>>,
}

#[pymethods]
impl Worker {
    #[new]
    #[pyo3(signature = (slot, generation, control_fd, max_requests=0, hooks=None))]
    fn new(
        py: Python<'_>,
        slot: usize,
        generation: u64,
        control_fd: RawFd,
        max_requests: u64,
        hooks: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        inherit(py)?;
        let handover = HANDOVER
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| PyRuntimeError::new_err("this process has made its worker already"))?;
        let addresses = handover.addresses();
        let forked = Forked {
            handover,
            control: own(py, control_fd)?,
            slot,
            generation,
            max_requests: NonZeroU64::new(max_requests),
        };
        let mut builder = worker_api::Worker::builder().forked(forked);
        if let Some(hooks) = hooks {
            builder = builder.hooks(PyHooks::new(hooks));
        }
        let inner = builder.init().map_err(failed)?;
        Ok(Self { inner, addresses })
    }

    /// Its place among the workers, from 0.
    #[getter]
    fn slot(&self) -> usize {
        self.inner.slot()
    }

    /// Goes up at each reload.
    #[getter]
    fn generation(&self) -> u64 {
        self.inner.generation()
    }

    #[getter]
    fn pid(&self) -> u32 {
        self.inner.info().pid
    }

    /// How many requests it has served.
    #[getter]
    fn requests(&self) -> u64 {
        self.inner.in_flight().served()
    }

    /// Health answers say so from now on; serving goes on.
    fn mark_unhealthy(&self, py: Python<'_>) {
        // It tells the master, who may be slow to read.
        py.detach(|| self.inner.health().mark_unhealthy());
    }

    /// Whether this worker and its pod are healthy.
    fn is_healthy(&self) -> bool {
        self.inner.health().is_healthy()
    }

    /// How far its way out has come: "serving", "lameduck", "retiring", "draining" or "forced".
    fn stage(&self) -> &'static str {
        match self.inner.drain().stage() {
            Stage::Serving => "serving",
            Stage::Lameduck => "lameduck",
            Stage::Retiring => "retiring",
            Stage::Draining => "draining",
            Stage::Forced => "forced",
        }
    }

    /// The phase of the pod: "boot", "ready", "lameduck", "drain", "force" or "exit".
    fn pod_phase(&self) -> &'static str {
        match self.inner.pod_phase() {
            PodPhase::Boot => "boot",
            PodPhase::Ready => "ready",
            PodPhase::Lameduck => "lameduck",
            PodPhase::Drain => "drain",
            PodPhase::Force => "force",
            PodPhase::Exit => "exit",
        }
    }

    /// One line for humans, shown in the pod's status.
    fn status(&self, py: Python<'_>, text: &str) {
        py.detach(|| self.inner.status(text));
    }

    /// Reports that nothing is in flight and nothing will come; what serves says so itself, where
    /// nothing is left for the app to do.
    fn drained(&self, py: Python<'_>) {
        py.detach(|| self.inner.drained());
    }

    /// Leaves the pod: while that serves, it drains once another one has taken its place.
    fn leave(&self, py: Python<'_>) {
        py.detach(|| self.inner.leave());
    }

    /// Reports that this worker cannot work, and that a replacement could not either.
    fn fatal(&self, py: Python<'_>, reason: &str) {
        py.detach(|| self.inner.fatal(reason));
    }

    fn __repr__(&self) -> String {
        let info = self.inner.info();
        format!(
            "<gracefork worker {} of generation {}, pid {}>",
            info.slot, info.generation, info.pid
        )
    }
}

/// Takes a descriptor that the caller gives away, as one that closes at `exec`.
fn own(py: Python<'_>, fd: RawFd) -> PyResult<OwnedFd> {
    let owned = worker_api::duplicate(fd)?;
    py.import("os")?.call_method1("close", (fd,))?;
    Ok(owned)
}

fn failed(error: impl std::fmt::Display) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}
