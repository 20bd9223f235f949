//! gunicorn's hooks of requests, and its log.

use http::Version;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use worker_http::Request;

use super::exchange::Summary;
use crate::text::latin1;

/// `pre_request(worker, req)` and `post_request(worker, req, environ, resp)`.
pub(super) struct RequestHooks {
    /// gunicorn's worker object, whose `log` is told of exceptions.
    pub(super) worker: Option<Py<PyAny>>,
    /// Makes the request object.
    pub(super) request: Option<Py<PyAny>>,
    pub(super) before: Option<Py<PyAny>>,
    pub(super) after: Option<Py<PyAny>>,
}

/// gunicorn's response object, as far as hooks read it.
#[pyclass(frozen, module = "gracefork._gracefork", name = "Response")]
struct Answered {
    /// As the app has said it; `None` if it has not got so far.
    #[pyo3(get)]
    status: Option<Py<PyAny>>,
    #[pyo3(get)]
    status_code: Option<u16>,
    /// Pairs, as the app has given them.
    #[pyo3(get)]
    headers: Py<PyList>,
    /// What the app has promised.
    #[pyo3(get)]
    response_length: Option<u64>,
    /// Bytes of the body that went out.
    #[pyo3(get)]
    sent: u64,
}

impl Answered {
    fn of(py: Python<'_>, summary: Option<Summary>) -> PyResult<Self> {
        let Some(summary) = summary else {
            return Ok(Self {
                status: None,
                status_code: None,
                headers: PyList::empty(py).unbind(),
                response_length: None,
                sent: 0,
            });
        };
        let (status, headers) = summary.said.unzip();
        let headers = match headers {
            Some(headers) => headers.bind(py).try_iter()?.collect::<PyResult<Vec<_>>>()?,
            None => Vec::new(),
        };
        Ok(Self {
            status,
            status_code: Some(summary.status),
            headers: PyList::new(py, headers)?.unbind(),
            response_length: summary.len,
            sent: summary.sent,
        })
    }
}

impl RequestHooks {
    /// Whether a hook is told of the answer.
    pub(super) fn wants_answer(&self) -> bool {
        self.after.is_some()
    }

    /// The request object, if a hook is to be given one.
    pub(super) fn request<'py>(
        &self,
        asked: &Request,
        environ: &Bound<'py, PyDict>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = environ.py();
        let Some(make) = self.request.as_ref().filter(|_| self.is_hooked()) else {
            return Ok(None);
        };
        let headers = PyList::empty(py);
        for (name, value) in asked.headers() {
            let name = name.as_str().to_ascii_uppercase();
            headers.append((name, latin1(py, value.as_bytes())?))?;
        }
        let version = if asked.version() == Version::HTTP_10 {
            (1, 0)
        } else {
            (1, 1)
        };
        let peer = match asked.body().client().peer {
            Some(peer) => (peer.ip().to_canonical().to_string(), peer.port())
                .into_pyobject(py)?
                .into_any(),
            None => PyString::new(py, "").into_any(),
        };
        let uri = environ.get_item(intern!(py, "RAW_URI"))?;
        let method = asked.method().as_str();
        let request = make.bind(py).call1((method, uri, version, headers, peer))?;
        Ok(Some(request))
    }

    pub(super) fn before(&self, request: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = request.py();
        if let Some(hook) = &self.before {
            hook.bind(py).call1((&self.worker, request))?;
        }
        Ok(())
    }

    /// What the hook raises is logged: the response is out.
    pub(super) fn after(
        &self,
        request: &Bound<'_, PyAny>,
        environ: &Bound<'_, PyDict>,
        summary: Option<Summary>,
    ) {
        let py = request.py();
        let Some(hook) = &self.after else { return };
        let called = Answered::of(py, summary).and_then(|response| {
            let arguments = (&self.worker, request, environ, response);
            hook.bind(py).call1(arguments)
        });
        if let Err(error) = called {
            self.say(py, &error, "Exception in post_request hook");
        }
    }

    /// The app has failed.
    pub(super) fn log(
        &self,
        py: Python<'_>,
        error: &PyErr,
        environ: &Bound<'_, PyDict>,
        unanswered: bool,
    ) {
        let uri = environ.get_item(intern!(py, "RAW_URI")).ok().flatten();
        let uri = uri.map(|uri| uri.to_string()).unwrap_or_default();
        let then = if unanswered {
            ""
        } else {
            ", its response is cut off"
        };
        self.say(py, error, &format!("Error handling request {uri}{then}"));
    }

    /// Writes a line and the traceback to gunicorn's log, or to standard error.
    fn say(&self, py: Python<'_>, error: &PyErr, message: &str) {
        let logged = match &self.worker {
            Some(worker) => self.say_to(worker.bind(py), error, message),
            None => print(py, error, message),
        };
        if let Err(failed) = logged {
            failed.write_unraisable(py, None);
            error.clone_ref(py).write_unraisable(py, None);
        }
    }

    fn say_to(&self, worker: &Bound<'_, PyAny>, error: &PyErr, message: &str) -> PyResult<()> {
        let py = worker.py();
        let options = PyDict::new(py);
        // Python 3.11 and older keep the traceback apart.
        options.set_item("exc_info", error.clone_ref(py).into_value(py))?;
        let log = worker.getattr("log")?;
        log.call_method("error", ("%s", message), Some(&options))?;
        Ok(())
    }

    fn is_hooked(&self) -> bool {
        self.before.is_some() || self.after.is_some()
    }
}

fn print(py: Python<'_>, error: &PyErr, message: &str) -> PyResult<()> {
    let stderr = py.import("sys")?.getattr("stderr")?;
    stderr.call_method1("write", (format!("{message}\n"),))?;
    error.display(py);
    stderr.call_method0("flush").map(drop)
}
