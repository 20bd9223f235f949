//! What an app may say: its messages, as responses.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, LINK, TRANSFER_ENCODING};
use http::response::Parts;
use http::{Response, StatusCode};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyString, PyTuple};
use worker_http::ReasonPhrase;

use super::fields;

/// Up to so many bytes are copied: that costs less than to keep Python's object.
const SMALL: usize = 4 << 10;

/// The type of a message.
pub(super) fn kind_of<'py>(message: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyString>> {
    let kind = message
        .get_item(intern!(message.py(), "type"))?
        .ok_or_else(|| PyRuntimeError::new_err("an ASGI message has a `type`"))?;
    Ok(kind.cast_into::<PyString>()?)
}

/// The head of a response, before its first byte is out.
pub(super) struct Head {
    pub(super) parts: Parts,
    /// What the app says of the body's length.
    pub(super) length: Option<u64>,
    /// Whether trailers will follow.
    pub(super) trailers: bool,
}

impl Head {
    /// Of an `http.response.start`, or of what is like it. `room` is an empty map.
    pub(super) fn of(message: &Bound<'_, PyDict>, room: HeaderMap) -> PyResult<Self> {
        let py = message.py();
        let status = message
            .get_item(intern!(py, "status"))?
            .ok_or_else(|| PyRuntimeError::new_err("a response starts with a `status`"))?
            .extract::<u16>()?;
        let status = StatusCode::from_u16(status)
            .ok()
            .filter(|status| !status.is_informational())
            .ok_or_else(|| PyValueError::new_err(format!("{status} is no final status")))?;
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = status;
        if status.canonical_reason().is_none() {
            // hyper would make one up.
            parts.extensions.insert(ReasonPhrase::from_static(b""));
        }
        parts.headers = fields(message, room)?;
        if status == StatusCode::NO_CONTENT {
            // RFC 9110, section 8.6.
            parts.headers.remove(CONTENT_LENGTH);
        }
        let length = length_in(&mut parts.headers)?;
        Ok(Self {
            parts,
            length,
            trailers: flag(message, intern!(py, "trailers"))?,
        })
    }
}

/// The one `content-length`; of equal ones, one is left.
fn length_in(fields: &mut HeaderMap) -> PyResult<Option<u64>> {
    let mut given = fields.get_all(CONTENT_LENGTH).iter();
    let Some(first) = given.next() else {
        return Ok(None);
    };
    let again = given.next();
    if again.into_iter().chain(given).any(|length| length != first) {
        let error = "there are two values of content-length";
        return Err(PyValueError::new_err(error));
    }
    let number = first.to_str().ok().and_then(|text| text.parse().ok());
    if again.is_some() {
        let first = first.clone();
        fields.insert(CONTENT_LENGTH, first);
    }
    match number {
        Some(length) => Ok(Some(length)),
        None => Err(PyValueError::new_err("content-length is no number")),
    }
}

/// The `headers` of a message, behind those in a map whose room is used again. How the body is
/// framed is the server's to say: `transfer-encoding` is ignored, as the ASGI specification has it.
pub(super) fn fields(message: &Bound<'_, PyDict>, mut room: HeaderMap) -> PyResult<HeaderMap> {
    let Some(given) = message.get_item(intern!(message.py(), "headers"))? else {
        return Ok(room);
    };
    room.reserve(given.len().unwrap_or(8));
    if let Ok(list) = given.cast_exact::<PyList>() {
        list.iter().try_for_each(|field| add(&mut room, &field))?;
    } else {
        for field in given.try_iter()? {
            add(&mut room, &field?)?;
        }
    }
    Ok(room)
}

fn add(fields: &mut HeaderMap, field: &Bound<'_, PyAny>) -> PyResult<()> {
    let (name, value);
    match field.cast_exact::<PyTuple>().map(PyTupleMethods::as_slice) {
        Ok([first, second]) => (name, value) = (first.clone(), second.clone()),
        _ => (name, value) = (field.get_item(0)?, field.get_item(1)?),
    }
    let read = |name: &[u8]| with_bytes(&value, |value| fields::read(name, value));
    let (name, value) = with_bytes(&name, read)???;
    if name != TRANSFER_ENCODING {
        fields.append(name, value);
    }
    Ok(())
}

/// The fields of an `http.response.early_hint`.
pub(super) fn links(message: &Bound<'_, PyDict>) -> PyResult<HeaderMap> {
    let links = message
        .get_item(intern!(message.py(), "links"))?
        .ok_or_else(|| PyRuntimeError::new_err("an early hint has `links`"))?;
    let mut fields = HeaderMap::new();
    for link in links.try_iter()? {
        let value = with_bytes(&link?, HeaderValue::from_bytes)?
            .map_err(|_| PyValueError::new_err("the value of `link` is not valid"))?;
        let added = fields.try_append(LINK, value);
        added.map_err(|_| PyValueError::new_err("these are too many links"))?;
    }
    Ok(fields)
}

/// The fields of an `http.response.informational`, which is gunicorn's message for the same.
pub(super) fn informational(message: &Bound<'_, PyDict>) -> PyResult<HeaderMap> {
    let status = message.get_item(intern!(message.py(), "status"))?;
    let status = status.map(|status| status.extract::<u16>()).transpose()?;
    if status != Some(StatusCode::EARLY_HINTS.as_u16()) {
        let error = "an informational response has the `status` 103";
        return Err(PyValueError::new_err(error));
    }
    fields(message, HeaderMap::new())
}

/// The `body` of a message.
pub(super) fn body(message: &Bound<'_, PyDict>) -> PyResult<Bytes> {
    let Some(body) = message.get_item(intern!(message.py(), "body"))? else {
        return Ok(Bytes::new());
    };
    bytes(&body)
}

/// Bytes, which are copied only if that is cheap.
pub(super) fn bytes(given: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    match given.cast::<PyBytes>() {
        Ok(bytes) if bytes.as_bytes().len() > SMALL => {
            Ok(Bytes::from_owner(PyBackedBytes::from(bytes.clone())))
        }
        Ok(bytes) => Ok(Bytes::copy_from_slice(bytes.as_bytes())),
        Err(_) => with_bytes(given, Bytes::copy_from_slice),
    }
}

/// A flag of a message; false if it is not there.
pub(super) fn flag(message: &Bound<'_, PyDict>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    match message.get_item(name)? {
        Some(flag) => flag.is_truthy(),
        None => Ok(false),
    }
}

fn with_bytes<R>(given: &Bound<'_, PyAny>, doing: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    if let Ok(bytes) = given.cast::<PyBytes>() {
        return Ok(doing(bytes.as_bytes()));
    }
    if let Ok(bytes) = given.cast::<PyByteArray>() {
        return Ok(doing(&bytes.to_vec()));
    }
    // A memoryview, for example; not text, whose encoding nobody has named.
    if given.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("expected bytes, not str"));
    }
    let bytes: Vec<u8> = given
        .extract()
        .map_err(|_| PyTypeError::new_err(format!("expected bytes, not {}", given.get_type())))?;
    Ok(doing(&bytes))
}

/// A message that comes at the wrong time.
pub(super) fn unexpected(got: &str, expected: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "unexpected ASGI message '{got}': {expected} is expected"
    ))
}

/// What an app is told that goes on after its answer was whole.
pub(super) fn too_late(got: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "unexpected ASGI message '{got}': the response was complete already"
    ))
}
