//! What an app is told of a request before it runs.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, Method, Version};
use percent_encoding::percent_decode;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use worker_http::RawTarget;
use worker_http::hosted::Inquiry;

use super::fields::Fields;
use crate::peers::Peers;

/// What is the same in many scopes.
pub(super) struct Scopes {
    http: Py<PyDict>,
    websocket: Py<PyDict>,
    /// Where the app is mounted, without a slash at its end.
    mount: String,
    state: Option<Py<PyDict>>,
    fields: Fields,
    /// The addresses that came last, as Python has them.
    addresses: Mutex<Peers<Py<PyTuple>>>,
}

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
        sends_paths: bool,
    ) -> PyResult<Self> {
        let template = |kind: &str, scheme: &str, extensions: &[&str]| -> PyResult<Py<PyDict>> {
            let asgi = PyDict::new(py);
            asgi.set_item("version", "3.0")?;
            // From 2.4 on frameworks trust that send() fails once the client has left, and do not listen
            // for its leaving: a stream that has nothing to send for a while would never end.
            asgi.set_item("spec_version", "2.3")?;
            let known = PyDict::new(py);
            for extension in extensions {
                known.set_item(extension, PyDict::new(py))?;
            }
            let scope = PyDict::new(py);
            let set = |key: &str, value: Bound<'_, PyAny>| {
                scope.set_item(PyString::intern(py, key), value)
            };
            let text = |text: &str| PyString::intern(py, text).into_any();
            set("type", text(kind))?;
            set("asgi", asgi.into_any())?;
            set("http_version", text("1.1"))?;
            if kind == "http" {
                set("method", text("GET"))?;
            }
            set("scheme", text(scheme))?;
            set("root_path", text(root_path))?;
            set("query_string", PyBytes::new(py, b"").into_any())?;
            set("extensions", known.into_any())?;
            // A place for each that a request sets: a copy need not grow.
            for key in ["path", "raw_path", "headers", "client", "server"] {
                set(key, py.None().into_bound(py))?;
            }
            if state.is_some() {
                set("state", py.None().into_bound(py))?;
            }
            Ok(scope.unbind())
        };
        let known = [
            "http.response.early_hint",
            "http.response.trailers",
            "http.response.pathsend",
        ];
        Ok(Self {
            mount: root_path.trim_end_matches('/').to_owned(),
            http: template(
                "http",
                "http",
                if sends_paths { &known } else { &known[..2] },
            )?,
            websocket: template("websocket", "ws", &["websocket.http.response"])?,
            state: state.map(Bound::unbind),
            fields: Fields::new(),
            addresses: Mutex::new(Peers::new()),
        })
    }

    /// The scope of a request.
    pub(super) fn of<'py>(
        &self,
        py: Python<'py>,
        kind: Kind,
        inquiry: &Inquiry,
    ) -> PyResult<Bound<'py, PyDict>> {
        let Inquiry { head, client, .. } = inquiry;
        let scope = match kind {
            Kind::Http => &self.http,
            Kind::WebSocket => &self.websocket,
        };
        let scope = scope.bind(py).copy()?;
        if client.https {
            let scheme = match kind {
                Kind::Http => intern!(py, "https"),
                Kind::WebSocket => intern!(py, "wss"),
            };
            scope.set_item(intern!(py, "scheme"), scheme)?;
        }
        let version = match head.version {
            Version::HTTP_10 => Some(intern!(py, "1.0")),
            Version::HTTP_2 => Some(intern!(py, "2")),
            // As the template has it.
            _ => None,
        };
        if let Some(version) = version {
            scope.set_item(intern!(py, "http_version"), version)?;
        }
        if kind == Kind::Http && head.method != Method::GET {
            scope.set_item(intern!(py, "method"), method(py, &head.method))?;
        }
        set_target(&scope, head, &self.mount)?;
        scope.set_item(intern!(py, "headers"), self.pairs(py, &head.headers)?)?;
        let port = client
            .peer
            .filter(|peer| Some(peer.ip().to_canonical()) == client.address)
            .map_or(0, |peer| peer.port());
        let peer = client.address.map(|address| SocketAddr::new(address, port));
        scope.set_item(intern!(py, "client"), self.address(py, peer)?)?;
        scope.set_item(intern!(py, "server"), self.address(py, client.local)?)?;
        if let Some(state) = &self.state {
            scope.set_item(intern!(py, "state"), state.bind(py).copy()?)?;
        }
        Ok(scope)
    }

    fn pairs<'py>(&self, py: Python<'py>, fields: &HeaderMap) -> PyResult<Bound<'py, PyList>> {
        let pairs = PyList::empty(py);
        self.fields.with(|known| {
            fields.iter().try_for_each(|(name, value)| {
                pairs.append(known.pair(py, name, value.as_bytes())?)
            })
        })?;
        Ok(pairs)
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
        let tuple = addresses.get_or_try_make(address, |left| {
            let host = match left {
                Some(left) => left.bind(py).get_item(0)?,
                None => PyString::new(py, &address.ip().to_canonical().to_string()).into_any(),
            };
            let tuple = (host, address.port()).into_pyobject(py)?;
            Ok::<_, PyErr>(tuple.unbind())
        })?;
        Ok(Some(tuple.bind(py).clone()))
    }
}

fn method<'py>(py: Python<'py>, method: &Method) -> Bound<'py, PyString> {
    match *method {
        Method::POST => intern!(py, "POST").clone(),
        Method::HEAD => intern!(py, "HEAD").clone(),
        Method::PUT => intern!(py, "PUT").clone(),
        Method::DELETE => intern!(py, "DELETE").clone(),
        Method::OPTIONS => intern!(py, "OPTIONS").clone(),
        Method::PATCH => intern!(py, "PATCH").clone(),
        _ => PyString::new(py, &method.as_str().to_ascii_uppercase()),
    }
}

/// Path and query, from what the client has sent if hyper does not show that. The path is the whole
/// one, with where the app is mounted: a proxy may have taken that off.
fn set_target(scope: &Bound<'_, PyDict>, head: &http::request::Parts, mount: &str) -> PyResult<()> {
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
    let below = decoded.strip_prefix(mount);
    let is_whole = below.is_some_and(|below| below.is_empty() || below.starts_with('/'));
    let (decoded, path) = if mount.is_empty() || is_whole || !path.starts_with(b"/") {
        (decoded, Cow::from(path))
    } else {
        let raw = [mount.as_bytes(), path].concat();
        (Cow::from(format!("{mount}{decoded}")), Cow::from(raw))
    };
    scope.set_item(intern!(py, "path"), PyString::new(py, &decoded))?;
    scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, &path))?;
    if !query.is_empty() {
        scope.set_item(intern!(py, "query_string"), PyBytes::new(py, query))?;
    }
    Ok(())
}
