//! `wsgi.input`: the body of a request as a file.

use std::sync::{Mutex, MutexGuard, TryLockError};

use bytes::Bytes;
use pyo3::exceptions::{PyConnectionResetError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use worker_http::RequestBody;

use crate::gil;

/// Reads on while the client sends; the lock is let go of only to wait for it.
#[pyclass(frozen, module = "gracefork._gracefork", name = "Input")]
pub(super) struct Input {
    body: Mutex<Body>,
}

struct Body {
    /// What has come and is not read.
    ready: Bytes,
    /// `None` when all has come, or when the request is over.
    rest: Option<RequestBody>,
}

impl Input {
    /// Of a request without a body.
    pub(super) fn empty() -> Self {
        Self::of(None)
    }

    pub(super) fn new(body: RequestBody) -> Self {
        Self::of(Some(body))
    }

    fn of(rest: Option<RequestBody>) -> Self {
        let ready = Bytes::new();
        Self {
            body: Mutex::new(Body { ready, rest }),
        }
    }

    /// The request is over: the connection can go on, whoever still has this.
    pub(super) fn close(&self) {
        if let Ok(mut body) = self.lock() {
            body.rest = None;
        }
    }

    /// Two threads that read one body would each get a part of it: whoever comes second is told,
    /// rather than kept waiting with Python's lock in its hands.
    fn lock(&self) -> PyResult<MutexGuard<'_, Body>> {
        match self.body.try_lock() {
            Ok(body) => Ok(body),
            Err(TryLockError::Poisoned(body)) => Ok(body.into_inner()),
            Err(TryLockError::WouldBlock) => {
                let error = "wsgi.input is being read by another thread";
                Err(PyRuntimeError::new_err(error))
            }
        }
    }
}

#[pymethods]
impl Input {
    /// Reads so many bytes, or all that are left.
    #[pyo3(signature = (size=None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let taken = self.lock()?.take(py, limit(size))?;
        Ok(PyBytes::new(py, &taken))
    }

    /// Reads a line with its end, of at most so many bytes.
    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let line = self.lock()?.take_line(py, limit(size))?;
        Ok(PyBytes::new(py, &line))
    }

    /// Reads all lines, or as many as have so many bytes.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(
        &self,
        py: Python<'py>,
        hint: Option<isize>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let enough = hint
            .filter(|hint| *hint > 0)
            .map_or(usize::MAX, isize::unsigned_abs);
        let (mut lines, mut total) = (Vec::new(), 0);
        while total < enough {
            let line = self.lock()?.take_line(py, usize::MAX)?;
            if line.is_empty() {
                break;
            }
            total += line.len();
            lines.push(PyBytes::new(py, &line));
        }
        Ok(lines)
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.lock()?.take_line(py, usize::MAX)?;
        Ok((!line.is_empty()).then(|| PyBytes::new(py, &line)))
    }
}

fn limit(size: Option<isize>) -> usize {
    // Files take any negative number for "all".
    size.and_then(|size| usize::try_from(size).ok())
        .unwrap_or(usize::MAX)
}

impl Body {
    fn take(&mut self, py: Python<'_>, limit: usize) -> PyResult<Bytes> {
        if limit == 0 {
            return Ok(Bytes::new());
        }
        self.fill(py)?;
        if self.ready.len() >= limit || self.rest.is_none() {
            let len = limit.min(self.ready.len());
            return Ok(self.ready.split_to(len));
        }
        let mut taken = Vec::new();
        while taken.len() < limit && self.fill(py)? {
            let len = (limit - taken.len()).min(self.ready.len());
            taken.extend_from_slice(&self.ready.split_to(len));
        }
        Ok(taken.into())
    }

    fn take_line(&mut self, py: Python<'_>, limit: usize) -> PyResult<Bytes> {
        let mut line = Vec::new();
        while line.len() < limit && self.fill(py)? {
            let here = &self.ready[..self.ready.len().min(limit - line.len())];
            let end = memchr::memchr(b'\n', here);
            let part = self.ready.split_to(end.map_or(here.len(), |end| end + 1));
            let is_whole = end.is_some() || part.len() + line.len() == limit;
            if is_whole && line.is_empty() {
                return Ok(part);
            }
            line.extend_from_slice(&part);
            if is_whole {
                break;
            }
        }
        Ok(line.into())
    }

    /// Sees that something is ready, unless the end has come. `false` if it has.
    fn fill(&mut self, py: Python<'_>) -> PyResult<bool> {
        while self.ready.is_empty() {
            let Some(rest) = &mut self.rest else {
                return Ok(false);
            };
            let chunk = if rest.is_ready() {
                rest.next_chunk()
            } else {
                gil::detach(py, || rest.next_chunk())
            };
            match chunk {
                Ok(Some(chunk)) => self.ready = chunk,
                Ok(None) => self.rest = None,
                Err(error) => {
                    let error = format!("the request's body is not whole: {error}");
                    return Err(PyConnectionResetError::new_err(error));
                }
            }
        }
        if self
            .rest
            .as_ref()
            .is_some_and(|rest| rest.is_ready() && rest.is_empty())
        {
            self.rest = None;
        }
        Ok(true)
    }
}
