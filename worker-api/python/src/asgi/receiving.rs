//! What `receive` gives: awaited, it is the next message.
//!
//! A message stays where it is until whoever awaits it runs: a future only says that there is one.
//! So who is cancelled meanwhile, by a time-out for example, has taken nothing, and the message is
//! the next one's.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use pyo3::intern;
use pyo3::prelude::*;

use super::ready::{Step, step, stop};
use super::talk::Talk;
use super::waits::resolve;
use super::websocket::Socket;

/// Where messages come in.
pub(super) enum Inbox {
    Talk(Py<Talk>),
    Socket(Py<Socket>),
}

/// See the module.
#[pyclass(frozen, module = "gracefork._gracefork")]
pub(super) struct Receiving {
    inbox: Inbox,
    wait: Mutex<Option<Wait>>,
}

/// A future, and the iterator that waits for it.
struct Wait {
    future: Py<PyAny>,
    steps: Py<PyAny>,
}

impl Receiving {
    pub(super) fn of(py: Python<'_>, inbox: Inbox) -> PyResult<Bound<'_, Self>> {
        let wait = Mutex::new(None);
        Bound::new(py, Self { inbox, wait })
    }

    fn replace(&self, wait: Option<Wait>) -> Option<Wait> {
        let mut place = self.wait.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut place, wait)
    }

    /// Whoever waits here does so no more. If it was woken, another one is to be; on the loop, since
    /// the collector may end a coroutine anywhere.
    fn give_up(&self, wait: &Wait, py: Python<'_>) -> PyResult<()> {
        if is_done(wait.future.bind(py))? {
            self.inbox.waker(py)?.wake();
        }
        Ok(())
    }
}

#[pymethods]
impl Receiving {
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
        let mut wait = self.replace(None);
        loop {
            if let Some(wait) = wait
                && let Step::Yielded(future) = step(wait.steps.bind(py), &value)?
            {
                self.replace(Some(wait));
                return Ok(future);
            }
            if let Some(message) = self.inbox.take(py)? {
                return Err(stop(py, &message));
            }
            let future = self.inbox.wait(py)?;
            let steps = future.call_method0(intern!(py, "__await__"))?.unbind();
            let future = future.unbind();
            wait = Some(Wait { future, steps });
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
        let py = error.py();
        let Some(wait) = self.replace(None) else {
            return Err(PyErr::from_value(error));
        };
        let steps = wait.steps.bind(py);
        let thrown = steps.call_method1(intern!(py, "throw"), (error,));
        match &thrown {
            Ok(_) => drop(self.replace(Some(wait))),
            Err(_) => self.give_up(&wait, py)?,
        }
        thrown
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(wait) = self.replace(None) else {
            return Ok(());
        };
        wait.steps.bind(py).call_method0("close")?;
        self.give_up(&wait, py)
    }
}

impl Inbox {
    /// The next message, if there is one; else it is told of.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self {
            Self::Talk(talk) => Talk::take(talk.bind(py)),
            Self::Socket(socket) => Socket::take(socket.bind(py)),
        }
    }

    /// A future that is resolved when there is a message, or the end.
    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Talk(talk) => Talk::wait(talk.bind(py)),
            Self::Socket(socket) => Socket::wait(socket.bind(py)),
        }
    }

    /// Has those who wait looked after, on the loop.
    fn waker(&self, py: Python<'_>) -> PyResult<Waker> {
        match self {
            Self::Talk(talk) => talk.get().waker(talk.bind(py)),
            Self::Socket(socket) => socket.get().waker(socket.bind(py)),
        }
    }
}

/// Futures of those who wait, in their order.
#[derive(Default)]
pub(super) struct Receivers(VecDeque<Py<PyAny>>);

impl Receivers {
    pub(super) fn add(&mut self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        // Whoever asks again and again whether there is something gives up each time.
        while let Some(last) = self.0.back()
            && is_done(last.bind(future.py()))?
        {
            self.0.pop_back();
        }
        self.0.push_back(future.clone().unbind());
        Ok(())
    }

    /// Whether somebody waits who was not woken.
    pub(super) fn are_waiting(&mut self, py: Python<'_>) -> PyResult<bool> {
        while let Some(first) = self.0.front() {
            if !is_done(first.bind(py))? {
                return Ok(true);
            }
            self.0.pop_front();
        }
        Ok(false)
    }

    pub(super) fn wake_first(&mut self, py: Python<'_>) -> PyResult<()> {
        let first = self.0.pop_front();
        first.map_or(Ok(()), |first| resolve(first.bind(py), py.None().bind(py)))
    }

    pub(super) fn wake_all(&mut self, py: Python<'_>) -> PyResult<()> {
        while !self.0.is_empty() {
            self.wake_first(py)?;
        }
        Ok(())
    }
}

fn is_done(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    future
        .call_method0(intern!(future.py(), "done"))?
        .is_truthy()
}
