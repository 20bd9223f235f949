//! The environ of a request, as gunicorn makes it.

use std::borrow::Cow;
use std::net::SocketAddr;

use http::{HeaderMap, Method, Uri, Version, header};
use percent_encoding::percent_decode;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use worker_api::AllowedIps;
use worker_http::{Client, RawTarget, Request};

use super::names::Names;
use crate::peers::Peers;
use crate::text::latin1;

/// A dict that has grown to so many keys has room for about twenty more.
const ROOMY: usize = 24;

/// What is the same in every environ of this worker.
pub(super) struct Template {
    dict: Py<PyDict>,
    /// Where the app is mounted; empty at the root.
    script_name: String,
    /// Who may say so for a request.
    believed: AllowedIps,
    /// The listeners' addresses; none for a Unix socket.
    listeners: Vec<Option<SocketAddr>>,
}

/// What a thread remembers of the requests that it has seen.
pub(super) struct Memory {
    names: Names,
    peers: Peers<Peer>,
}

struct Peer {
    ip: Py<PyString>,
    port: Py<PyString>,
}

/// The request is for a path that is not below the app's.
pub(super) struct Elsewhere;

impl Template {
    /// From what does not depend on the request: `constant` has the `wsgi` keys.
    pub(super) fn new(
        constant: &Bound<'_, PyDict>,
        script_name: &str,
        believed: AllowedIps,
        listeners: Vec<Option<SocketAddr>>,
    ) -> PyResult<Self> {
        let dict = constant;
        for (key, value) in [
            ("REQUEST_METHOD", "GET"),
            ("SCRIPT_NAME", script_name),
            ("PATH_INFO", "/"),
            ("QUERY_STRING", ""),
            ("RAW_URI", "/"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            (
                "SERVER_SOFTWARE",
                concat!("gracefork/", env!("CARGO_PKG_VERSION")),
            ),
            ("SERVER_NAME", ""),
            ("SERVER_PORT", ""),
            ("REMOTE_ADDR", ""),
            ("wsgi.url_scheme", "http"),
        ] {
            dict.set_item(PyString::intern(dict.py(), key), value)?;
        }
        if let [Some(address)] = listeners[..] {
            set_server(dict, address)?;
        }
        // A copy has the room that the original has.
        let more = 0..ROOMY.saturating_sub(dict.len());
        more.clone()
            .try_for_each(|key| dict.set_item(key.to_string(), ""))?;
        more.clone()
            .try_for_each(|key| dict.del_item(key.to_string()))?;
        Ok(Self {
            dict: dict.clone().unbind(),
            script_name: script_name.to_owned(),
            believed,
            listeners,
        })
    }

    /// The environ of a request, but for its body.
    pub(super) fn environ<'py>(
        &self,
        py: Python<'py>,
        request: &Request,
        memory: &mut Memory,
    ) -> PyResult<Result<Bound<'py, PyDict>, Elsewhere>> {
        let client = request.body().client();
        let environ = self.dict.bind(py).copy()?;
        set_method(&environ, request.method())?;
        if request.version() == Version::HTTP_10 {
            let protocol = intern!(py, "HTTP/1.0");
            environ.set_item(intern!(py, "SERVER_PROTOCOL"), protocol)?;
        }
        if client.https {
            environ.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "https"))?;
        }
        self.set_addresses(&environ, client, request.headers(), memory)?;
        let mounted = memory.set_fields(&environ, request.headers())?;
        let mounted = mounted.filter(|_| self.believes(client));
        let mounted = mounted.unwrap_or(self.script_name.as_bytes());
        let raw = request.extensions().get::<RawTarget>();
        let elsewhere = set_target(&environ, request.uri(), raw, mounted)?;
        Ok(elsewhere.map(|()| environ))
    }

    /// Whether a client may say where the app is mounted.
    fn believes(&self, client: &Client) -> bool {
        client
            .peer
            .is_none_or(|peer| self.believed.contains(peer.ip()))
    }

    fn set_addresses(
        &self,
        environ: &Bound<'_, PyDict>,
        client: &Client,
        headers: &HeaderMap,
        memory: &mut Memory,
    ) -> PyResult<()> {
        let py = environ.py();
        if let Some(peer) = client.peer {
            let peer = memory.peer(py, peer)?;
            environ.set_item(intern!(py, "REMOTE_ADDR"), peer.ip.bind(py))?;
            environ.set_item(intern!(py, "REMOTE_PORT"), peer.port.bind(py))?;
        }
        match self.listeners[..] {
            [Some(_)] => Ok(()),
            _ => match self.listener_of(client.local) {
                Some(address) => set_server(environ, address),
                None => set_server_by_host(environ, client, headers),
            },
        }
    }

    /// Which listener a connection came by, going by its own end.
    fn listener_of(&self, local: Option<SocketAddr>) -> Option<SocketAddr> {
        let local = local?;
        let mut all = self.listeners.iter().copied().flatten();
        let same = all.find(|listener| {
            let here = listener.ip().is_unspecified() || listener.ip() == local.ip();
            here && listener.port() == local.port()
        });
        Some(same.unwrap_or(local))
    }
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            names: Names::new(),
            peers: Peers::new(),
        }
    }

    /// Sets what the app gets to see of the fields. Returns what one says that it does not: where
    /// the app is mounted.
    fn set_fields<'a>(
        &mut self,
        environ: &Bound<'_, PyDict>,
        headers: &'a HeaderMap,
    ) -> PyResult<Option<&'a [u8]>> {
        let py = environ.py();
        let mut mounted = None;
        let mut fields = headers.iter().peekable();
        while let Some((name, value)) = fields.next() {
            let mut repeated = fields.next_if(|(next, _)| *next == name);
            let field = if repeated.is_none() {
                self.names.field(py, name, value.as_bytes())?
            } else {
                let between: &[u8] = if name == header::COOKIE { b"; " } else { b"," };
                let mut joined = value.as_bytes().to_vec();
                while let Some((_, value)) = repeated {
                    joined.extend_from_slice(between);
                    joined.extend_from_slice(value.as_bytes());
                    repeated = fields.next_if(|(next, _)| *next == name);
                }
                self.names.field(py, name, &joined)?
            };
            match field {
                Some((key, value)) => environ.set_item(key, value)?,
                None if name == "script_name" => mounted = Some(value.as_bytes()),
                None => {}
            }
        }
        Ok(mounted)
    }

    fn peer(&mut self, py: Python<'_>, address: SocketAddr) -> PyResult<&Peer> {
        self.peers.get_or_try_make(address, |left| {
            let ip = match left {
                Some(left) => left.ip,
                None => PyString::new(py, &address.ip().to_canonical().to_string()).unbind(),
            };
            let port = PyString::new(py, &address.port().to_string()).unbind();
            Ok(Peer { ip, port })
        })
    }
}

fn set_target(
    environ: &Bound<'_, PyDict>,
    uri: &Uri,
    raw: Option<&RawTarget>,
    mounted: &[u8],
) -> PyResult<Result<(), Elsewhere>> {
    let py = environ.py();
    let whole;
    let target = match (raw, uri.scheme(), uri.path_and_query()) {
        (Some(raw), ..) => &raw.0,
        (None, None, Some(target)) => target.as_str().as_bytes(),
        _ => {
            whole = uri.to_string();
            whole.as_bytes()
        }
    };
    let target = latin1(py, target)?;
    let (path, query) = match raw {
        // What hyper has made of it is not what came.
        Some(raw) => split_target(&raw.0),
        None => (uri.path().as_bytes(), uri.query().unwrap_or("").as_bytes()),
    };
    if !query.is_empty() {
        environ.set_item(intern!(py, "QUERY_STRING"), latin1(py, query)?)?;
    }
    let mut below = path;
    if !mounted.is_empty() {
        below = match path.strip_prefix(mounted) {
            Some(below) => below,
            None => return Ok(Err(Elsewhere)),
        };
        environ.set_item(intern!(py, "SCRIPT_NAME"), latin1(py, mounted)?)?;
    }
    let is_target = below.len() == target.len()? && memchr::memchr(b'%', below).is_none();
    let path = if is_target {
        target.clone()
    } else {
        latin1(py, &Cow::from(percent_decode(below)))?
    };
    environ.set_item(intern!(py, "PATH_INFO"), path)?;
    environ.set_item(intern!(py, "RAW_URI"), target)?;
    Ok(Ok(()))
}

fn set_method(environ: &Bound<'_, PyDict>, method: &Method) -> PyResult<()> {
    let py = environ.py();
    let name = match method.as_str() {
        // As the template has it.
        "GET" => return Ok(()),
        "POST" => intern!(py, "POST"),
        "HEAD" => intern!(py, "HEAD"),
        "PUT" => intern!(py, "PUT"),
        "PATCH" => intern!(py, "PATCH"),
        "DELETE" => intern!(py, "DELETE"),
        "OPTIONS" => intern!(py, "OPTIONS"),
        other => return environ.set_item(intern!(py, "REQUEST_METHOD"), other),
    };
    environ.set_item(intern!(py, "REQUEST_METHOD"), name)
}

fn set_server(environ: &Bound<'_, PyDict>, address: SocketAddr) -> PyResult<()> {
    let py = environ.py();
    environ.set_item(intern!(py, "SERVER_NAME"), address.ip().to_string())?;
    environ.set_item(intern!(py, "SERVER_PORT"), address.port().to_string())
}

/// A Unix socket has no name that an app could make a URL of: the client's word is taken.
fn set_server_by_host(
    environ: &Bound<'_, PyDict>,
    client: &Client,
    headers: &HeaderMap,
) -> PyResult<()> {
    let py = environ.py();
    let host = headers
        .get(header::HOST)
        .map_or(&b""[..], |host| host.as_bytes());
    let (name, port) = match memchr::memrchr(b':', host) {
        Some(colon) if !host.ends_with(b"]") => (&host[..colon], &host[colon + 1..]),
        _ if host.is_empty() => (host, &b""[..]),
        _ if client.https => (host, &b"443"[..]),
        _ => (host, &b"80"[..]),
    };
    environ.set_item(intern!(py, "SERVER_NAME"), latin1(py, name)?)?;
    environ.set_item(intern!(py, "SERVER_PORT"), latin1(py, port)?)
}

/// Path and query of a target as it was sent.
fn split_target(target: &[u8]) -> (&[u8], &[u8]) {
    let fragment = memchr::memchr(b'#', target).unwrap_or(target.len());
    let target = &target[..fragment];
    let start = match memchr::memmem::find(target, b"://") {
        Some(scheme) if !target.starts_with(b"/") => {
            let host = &target[scheme + 3..];
            let path = memchr::memchr2(b'/', b'?', host).unwrap_or(host.len());
            scheme + 3 + path
        }
        _ => 0,
    };
    let target = &target[start..];
    match memchr::memchr(b'?', target) {
        Some(mark) => (&target[..mark], &target[mark + 1..]),
        None => (target, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_a_path_and_a_query_but_no_fragment_and_no_host() {
        for (target, path, query) in [
            ("/a?b?c", "/a", "b?c"),
            ("/a#b?c", "/a", ""),
            ("/\"<>`?\"", "/\"<>`", "\""),
            ("http://host/a?b", "/a", "b"),
            ("http://host?b", "", "b"),
            ("http://host", "", ""),
            ("/http://host/a", "/http://host/a", ""),
            ("*", "*", ""),
        ] {
            let split = split_target(target.as_bytes());
            assert_eq!(split, (path.as_bytes(), query.as_bytes()), "{target}");
        }
    }
}
