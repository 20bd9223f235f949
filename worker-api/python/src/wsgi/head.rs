//! The head of a response, as an app gives it to `start_response`.

use std::cell::RefCell;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::text::{bytes_of, latin1};

/// Hop-by-hop fields are the server's to send; gunicorn ignores them as well.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// So many fields are kept, by their str objects; each has its place.
const PLACES: usize = 64;
/// A longer one is not kept.
const LONGEST: usize = 256;

/// A response's head.
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// Only if it is not what everybody says.
    pub(super) reason: Option<Bytes>,
    /// Without `Content-Length`.
    pub(super) headers: HeaderMap,
    pub(super) len: Option<u64>,
}

impl Head {
    /// `room` is an empty map; its room is used again.
    pub(super) fn new(
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        room: HeaderMap,
    ) -> PyResult<Self> {
        let (status, reason) = read_status(status)?;
        let mut head = Self {
            status,
            reason,
            headers: room,
            len: None,
        };
        if let Ok(list) = headers.cast_exact::<PyList>() {
            head.headers.reserve(list.len());
            list.iter().try_for_each(|field| head.add(&field))?;
        } else {
            for field in headers.try_iter()? {
                head.add(&field?)?;
            }
        }
        Ok(head)
    }

    /// Whether a response with this status has no body, whatever the app says.
    pub(super) fn forbids_body(&self) -> bool {
        matches!(
            self.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        )
    }

    fn add(&mut self, field: &Bound<'_, PyAny>) -> PyResult<()> {
        let (name, value) = pair_of(field)?;
        let name = name
            .cast::<PyString>()
            .map_err(|_| not_str("the name", &name))?;
        let value = value
            .cast::<PyString>()
            .map_err(|_| not_str("the value", &value))?;
        match read_field(name, value)? {
            Field::Length(len) if self.len.is_none_or(|before| before == len) => {
                self.len = Some(len);
            }
            Field::Length(_) => return Err(bad_value(&header::CONTENT_LENGTH)),
            Field::Other(name, value) => {
                self.headers.append(name, value);
            }
            Field::Ignored => {}
        }
        Ok(())
    }
}

/// Name and value: a tuple as a rule, but two of anything will do, as under gunicorn.
fn pair_of<'py>(field: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    if let Ok([name, value]) = field.cast::<PyTuple>().map(PyTupleMethods::as_slice) {
        return Ok((name.clone(), value.clone()));
    }
    let pair: Vec<Bound<'py, PyAny>> = field.try_iter()?.collect::<PyResult<_>>()?;
    let [name, value] = <[Bound<'py, PyAny>; 2]>::try_from(pair)
        .map_err(|_| PyValueError::new_err("a header is a pair of name and value"))?;
    Ok((name, value))
}

/// The fields of early hints. As gunicorn does, they may be given as bytes too.
pub(super) fn fields_of_hints(given: &Bound<'_, PyAny>) -> PyResult<HeaderMap> {
    let mut fields = HeaderMap::new();
    for field in given.try_iter()? {
        let (name, value) = pair_of(&field?)?;
        let (name, value) = (text_of("the name", name)?, text_of("the value", value)?);
        if let Field::Other(name, value) = read_field(&name, &value)? {
            let added = fields.try_append(name, value);
            added.map_err(|_| PyValueError::new_err("these are too many headers"))?;
        }
    }
    Ok(fields)
}

fn text_of<'py>(what: &str, object: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    match object.cast::<PyBytes>() {
        Ok(bytes) => latin1(object.py(), bytes.as_bytes()),
        Err(_) => match object.cast_into::<PyString>() {
            Ok(text) => Ok(text),
            Err(error) => Err(not_str(what, &error.into_inner())),
        },
    }
}

/// A field, as it is understood.
#[derive(Clone)]
enum Field {
    Length(u64),
    Other(HeaderName, HeaderValue),
    /// It is not the app's to send.
    Ignored,
}

/// Many apps send the same objects again and again.
fn read_field(name: &Bound<'_, PyString>, value: &Bound<'_, PyString>) -> PyResult<Field> {
    /// Objects that are referred to have their addresses for themselves.
    struct Known {
        name: Py<PyString>,
        value: Py<PyString>,
        field: Field,
    }

    thread_local! {
        static KNOWN: RefCell<Vec<Option<Known>>> = const { RefCell::new(Vec::new()) };
    }

    KNOWN.with_borrow_mut(|known| {
        known.resize_with(PLACES, || None);
        let place = &mut known[value.as_ptr().addr() / 16 % PLACES];
        if let Some(known) = place
            && known.value.is(value)
            && known.name.is(name)
        {
            return Ok(known.field.clone());
        }
        let field = understand(name, value)?;
        if name.len()? + value.len()? <= LONGEST {
            *place = Some(Known {
                name: name.clone().unbind(),
                value: value.clone().unbind(),
                field: field.clone(),
            });
        }
        Ok(field)
    })
}

fn understand(name: &Bound<'_, PyString>, value: &Bound<'_, PyString>) -> PyResult<Field> {
    let spelled = name.to_str()?;
    let Ok(name) = HeaderName::from_bytes(spelled.as_bytes()) else {
        let error = format!("{spelled:?} cannot be the name of a header");
        return Err(PyValueError::new_err(error));
    };
    let bytes = bytes_of(value.to_str()?.trim_matches([' ', '\t']));
    let bytes = bytes.ok_or_else(|| bad_value(&name))?;
    if name == header::CONTENT_LENGTH {
        let len = read_length(&bytes).ok_or_else(|| bad_value(&name))?;
        return Ok(Field::Length(len));
    }
    let value = HeaderValue::from_bytes(&bytes).map_err(|_| bad_value(&name))?;
    let is_hop = HOP_BY_HOP.contains(&name) || name == "keep-alive" || name == "trailers";
    Ok(match is_hop {
        true => Field::Ignored,
        false => Field::Other(name, value),
    })
}

/// Digits, and nothing else.
fn read_length(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| digits)?;
    text.parse().ok()
}

fn read_status(status: &Bound<'_, PyAny>) -> PyResult<(StatusCode, Option<Bytes>)> {
    let text = status
        .cast::<PyString>()
        .map_err(|_| not_str("the status", status))?;
    let text = text.to_str()?;
    let refuse = || PyValueError::new_err(format!("{text:?} cannot be a status"));
    let (code, rest) = text.split_at_checked(3).ok_or_else(refuse)?;
    if !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refuse());
    }
    // What comes before the answer, 1xx, is not the app's to send.
    let code = StatusCode::from_bytes(code.as_bytes()).ok();
    let code = code
        .filter(|code| !code.is_informational())
        .ok_or_else(refuse)?;
    let reason = match rest.strip_prefix(' ') {
        Some(reason) => reason,
        None if rest.is_empty() => return Ok((code, None)),
        None => return Err(refuse()),
    };
    if code.canonical_reason() == Some(reason) {
        return Ok((code, None));
    }
    let reason = bytes_of(reason).ok_or_else(refuse)?;
    HeaderValue::from_bytes(&reason).map_err(|_| refuse())?;
    Ok((code, Some(Bytes::copy_from_slice(&reason))))
}

fn not_str(what: &str, object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("{what} must be a str, not {}", object.get_type()))
}

/// Without the value, which may be a secret.
fn bad_value(name: &HeaderName) -> PyErr {
    PyValueError::new_err(format!("the header {name} has a value that cannot be sent"))
}
