//! WSGI (PEP 3333): serves an app that is a Python callable, on threads of the baton driver.

mod call;
mod connection;
mod environ;
mod exchange;
mod file;
pub(crate) mod hang;
mod head;
mod hints;
mod hooks;
mod input;
mod main_thread;
mod names;
mod options;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use self::call::Caller;
use self::hang::Around;
use self::options::Options;
use crate::worker::Worker;

/// Serves `app` until this worker has drained; meanwhile the handlers of Python's signals run on
/// the calling thread, which must be the main one. Calls of the app are made on threads of their
/// own. An exception that a signal handler raises comes out at once, but for SystemExit and
/// KeyboardInterrupt: they make the worker drain.
#[pyfunction]
pub(crate) fn serve_wsgi(
    py: Python<'_>,
    worker: &Bound<'_, Worker>,
    app: &Bound<'_, PyAny>,
    options: &Bound<'_, PyDict>,
) -> PyResult<()> {
    let worker = worker.get();
    let options = Options::new(options)?;
    let around = Around::new(&worker.inner, options.hang_timeout);
    let caller = Caller::new(py, worker, app, options)?;
    main_thread::serve(py, &worker.inner, caller, around)
}

/// Makes the types that apps meet here, which would be made when they are first used otherwise.
pub(crate) fn make_types(py: Python<'_>) {
    py.get_type::<exchange::Exchange>();
    py.get_type::<file::FileWrapper>();
    py.get_type::<hints::EarlyHints>();
    py.get_type::<input::Input>();
}
