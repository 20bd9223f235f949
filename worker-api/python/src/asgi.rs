//! ASGI 3: connections run on the very loop that runs the app's coroutines.
//!
//! The loop watches the driver's descriptors; each turn reads what has come, starts the app's tasks
//! and writes what they answer. An answer that is whole leaves before `send` returns.
//!
//! Reading order: `site` is what all requests have in common, `scope` what the app is told of one;
//! `talk` is one request, with its `receive` and `send`; `speech` and `answer` are what an app may
//! say there; `websocket`, with `handshake`, `events`, `frames` and `deflate`, is one WebSocket; `runner` runs
//! the app's coroutine; `waits` is what a message waits in; `ready` and `fields` save allocations.

mod answer;
mod deflate;
mod events;
mod fields;
mod frames;
mod handshake;
mod ready;
mod receiving;
mod runner;
mod scope;
mod site;
mod speech;
mod talk;
mod waits;
mod websocket;

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use worker_http::hosted::{self, Driver};

pub(crate) use self::runner::Runner;
use self::site::{Handler, Site};
use crate::worker::Worker;

/// Serves an ASGI app on a loop, which has to run in the calling thread. The future is done when
/// the worker has drained; `worker.drained()` is to be called next, or after what the app does at
/// its end.
#[pyfunction]
pub(crate) fn serve_asgi<'py>(
    worker: &Bound<'py, Worker>,
    app: Bound<'py, PyAny>,
    r#loop: Bound<'py, PyAny>,
    options: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = worker.py();
    let end = r#loop.call_method0("create_future")?;
    let stall = option::<f64>(options, "hang_timeout")?
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let site = Arc::new(Site::new(&worker.get().inner, app, &r#loop, &end, options)?);
    let driver = hosted::start(
        worker.get().inner.clone(),
        Handler(Arc::clone(&site)),
        stall,
    )
    .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    let reader = Bound::new(
        py,
        Reader {
            driver: driver.clone(),
        },
    )?;
    for (fd, callback) in [(driver.kernel(), "turn"), (driver.bell(), "answer_bell")] {
        r#loop.call_method1("add_reader", (fd.as_raw_fd(), reader.getattr(callback)?))?;
    }
    site.set_driver(driver);
    Ok(end)
}

/// Makes the types that apps meet here, which would be made when they are first used otherwise.
pub(crate) fn make_types(py: Python<'_>) {
    py.get_type::<ready::Done>();
    py.get_type::<ready::Pause>();
    py.get_type::<ready::Waiting>();
    py.get_type::<receiving::Receiving>();
    py.get_type::<talk::Talk>();
}

/// An option, if it is given and not None.
fn option<'py, T>(options: &Bound<'py, PyDict>, name: &str) -> PyResult<Option<T>>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    match options.get_item(name)?.filter(|value| !value.is_none()) {
        Some(value) => Ok(Some(value.extract().map_err(Into::into)?)),
        None => Ok(None),
    }
}

/// What the loop calls when the driver's descriptors can be read.
#[pyclass(frozen, module = "gracefork._gracefork")]
struct Reader {
    driver: Driver<Handler>,
}

#[pymethods]
impl Reader {
    fn turn(&self) {
        self.driver.turn();
    }

    fn answer_bell(&self) {
        self.driver.answer_bell();
    }
}
