//! What an app is told of a request before it runs.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, Method, Version};
use percent_encoding::percent_decode;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use worker_http::RawTarget;
use worker_http::hosted::Inquiry;

use super::names::Names;

/// What is the same in many scopes.
pub(super) struct Scopes {
    http: Py<PyDict>,
    websocket: Py<PyDict>,
    state: Option<Py<PyDict>>,
    names: Names,
    /// The addresses that came last, as Python has them.
    addresses: Mutex<[Option<Known>; ADDRESSES]>,
}

/// A power of two.
const ADDRESSES: usize = 64;

type Known = (SocketAddr, Py<PyTuple>);

/// The two kinds of a scope.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    WebSocket,
}

impl Scopes {
    pub(super) fn new(
        py: Python<'_>,
        root_path: &str,
        state: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let template = |kind: &str, extensions: &[&str]| -> PyResult<Py<PyDict>> {
            let asgi = PyDict::new(py);
            asgi.set_item("version", "3.0")?;
            asgi.set_item("spec_version", "2.5")?;
            let known = PyDict::new(py);
            for extension in extensions {
                known.set_item(extension, PyDict::new(py))?;
            }
            let scope = PyDict::new(py);
            scope.set_item("type", PyString::intern(py, kind))?;
            scope.set_item("asgi", asgi)?;
            scope.set_item("root_path", root_path)?;
            scope.set_item("extensions", known)?;
            Ok(scope.unbind())
        };
        Ok(Self {
            http: template(
                "http",
                &[
                    "http.response.early_hint",
                    "http.response.pathsend",
                    "http.response.trailers",
                ],
            )?,
            websocket: template("websocket", &["websocket.http.response"])?,
            state: state.map(Bound::unbind),
            names: Names::new(),
            addresses: Mutex::new([const { None }; ADDRESSES]),
        })
    }

    /// The scope of a request.
    pub(super) fn of<'py>(
        &self,
        py: Python<'py>,
        kind: Kind,
        inquiry: &Inquiry,
    ) -> PyResult<Bound<'py, PyDict>> {
        let head = &inquiry.head;
        let client = &inquiry.client;
        let scope = match kind {
            Kind::Http => &self.http,
            Kind::WebSocket => &self.websocket,
        };
        let scope = scope.bind(py).copy()?;
        let scheme = match (kind, client.https) {
            (Kind::Http, false) => intern!(py, "http"),
            (Kind::Http, true) => intern!(py, "https"),
            (Kind::WebSocket, false) => intern!(py, "ws"),
            (Kind::WebSocket, true) => intern!(py, "wss"),
        };
        scope.set_item(intern!(py, "scheme"), scheme)?;
        let version = match head.version {
            Version::HTTP_10 => intern!(py, "1.0"),
            Version::HTTP_2 => intern!(py, "2"),
            _ => intern!(py, "1.1"),
        };
        scope.set_item(intern!(py, "http_version"), version)?;
        if kind == Kind::Http {
            scope.set_item(intern!(py, "method"), method(py, &head.method))?;
        }
        set_target(&scope, head)?;
        scope.set_item(intern!(py, "headers"), self.fields(py, &head.headers)?)?;
        let peer = client.address.map(|address| {
            let port = client
                .peer
                .filter(|peer| peer.ip().to_canonical() == address);
            SocketAddr::new(address, port.map_or(0, |peer| peer.port()))
        });
        scope.set_item(intern!(py, "client"), self.address(py, peer)?)?;
        scope.set_item(intern!(py, "server"), self.address(py, client.local)?)?;
        if let Some(state) = &self.state {
            scope.set_item(intern!(py, "state"), state.bind(py).copy()?)?;
        }
        Ok(scope)
    }

    fn fields<'py>(&self, py: Python<'py>, fields: &HeaderMap) -> PyResult<Bound<'py, PyList>> {
        self.names.with(|names| {
            let pairs = fields.iter().map(|(name, value)| {
                let value = PyBytes::new(py, value.as_bytes());
                PyTuple::new(py, [names.bytes(py, name.as_str()), value])
            });
            PyList::new(py, pairs.collect::<PyResult<Vec<_>>>()?)
        })
    }

    /// An address as `(host, port)`.
    fn address<'py>(
        &self,
        py: Python<'py>,
        address: Option<SocketAddr>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(address) = address else {
            return Ok(None);
        };
        let mut addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let place = &mut addresses[usize::from(address.port()) % ADDRESSES];
        if let Some((known, tuple)) = place
            && *known == address
        {
            return Ok(Some(tuple.bind(py).clone()));
        }
        let host = address.ip().to_canonical().to_string();
        let tuple = (host, address.port()).into_pyobject(py)?;
        *place = Some((address, tuple.clone().unbind()));
        Ok(Some(tuple))
    }
}

fn method<'py>(py: Python<'py>, method: &Method) -> Bound<'py, PyString> {
    match *method {
        Method::GET => intern!(py, "GET").clone(),
        Method::POST => intern!(py, "POST").clone(),
        Method::HEAD => intern!(py, "HEAD").clone(),
        Method::PUT => intern!(py, "PUT").clone(),
        Method::DELETE => intern!(py, "DELETE").clone(),
        Method::OPTIONS => intern!(py, "OPTIONS").clone(),
        Method::PATCH => intern!(py, "PATCH").clone(),
        _ => PyString::new(py, &method.as_str().to_ascii_uppercase()),
    }
}

/// Path and query, from what the client has sent if hyper does not show that.
fn set_target(scope: &Bound<'_, PyDict>, head: &http::request::Parts) -> PyResult<()> {
    let py = scope.py();
    let raw = head.extensions.get::<RawTarget>();
    let raw = raw
        .map(|RawTarget(raw)| &**raw)
        .filter(|raw| raw.starts_with(b"/"));
    let (path, query) = match raw {
        Some(raw) => {
            let raw = raw.split(|byte| *byte == b'#').next().unwrap_or_default();
            let (path, query) = match raw.iter().position(|byte| *byte == b'?') {
                Some(at) => (&raw[..at], &raw[at + 1..]),
                None => (raw, &[][..]),
            };
            (path, query)
        }
        None => (
            head.uri.path().as_bytes(),
            head.uri.query().unwrap_or_default().as_bytes(),
        ),
    };
    let decoded = percent_decode(path).decode_utf8_lossy();
    scope.set_item(intern!(py, "path"), PyString::new(py, &decoded))?;
    scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, path))?;
    scope.set_item(intern!(py, "query_string"), PyBytes::new(py, query))
}
