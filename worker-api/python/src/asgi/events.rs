//! The messages of a WebSocket, to the app and from it.

use http::HeaderValue;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use tungstenite::Message;

use super::answer::bytes;
use super::frames::Close;

/// A `websocket.connect`.
pub(super) fn connecting(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "websocket.connect"))?;
    Ok(message.into_any())
}

/// A `websocket.receive`.
pub(super) fn received(py: Python<'_>, came: Message) -> PyResult<Bound<'_, PyAny>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "websocket.receive"))?;
    match came {
        Message::Text(text) => {
            message.set_item(intern!(py, "text"), PyString::new(py, text.as_str()))?;
        }
        other => {
            let data = PyBytes::new(py, &other.into_data());
            message.set_item(intern!(py, "bytes"), data)?;
        }
    }
    Ok(message.into_any())
}

/// A `websocket.disconnect`.
pub(super) fn disconnected<'py>(py: Python<'py>, close: &Close) -> PyResult<Bound<'py, PyAny>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "websocket.disconnect"))?;
    message.set_item(intern!(py, "code"), close.code)?;
    message.set_item(intern!(py, "reason"), close.reason.as_str())?;
    Ok(message.into_any())
}

/// Of a `websocket.send`.
pub(super) fn message_of(message: &Bound<'_, PyDict>) -> PyResult<Message> {
    let py = message.py();
    let given = |name| Ok::<_, PyErr>(message.get_item(name)?.filter(|given| !given.is_none()));
    if let Some(data) = given(intern!(py, "bytes"))? {
        return Ok(Message::Binary(bytes(&data)?));
    }
    let text = given(intern!(py, "text"))?
        .ok_or_else(|| PyRuntimeError::new_err("a 'websocket.send' has `bytes` or `text`"))?;
    Ok(Message::text(text.cast::<PyString>()?.to_str()?))
}

/// Of a `websocket.close`.
pub(super) fn close_of(message: &Bound<'_, PyDict>) -> PyResult<Close> {
    let py = message.py();
    let given = |name| Ok::<_, PyErr>(message.get_item(name)?.filter(|given| !given.is_none()));
    let code = given(intern!(py, "code"))?.map(|code| code.extract::<u16>());
    let reason = given(intern!(py, "reason"))?.map(|reason| reason.extract::<String>());
    let reason = reason.transpose()?.unwrap_or_default();
    // What a frame of control can carry.
    if reason.len() > 123 {
        return Err(PyValueError::new_err("the reason is longer than 123 bytes"));
    }
    let code = code.transpose()?.unwrap_or(1000);
    // RFC 6455, section 7.4. Those from 1005 on that no frame has are what an app is told when none
    // came, and may pass on.
    if !matches!(code, 1000..=1003 | 1005..=1015 | 3000..=4999) {
        let error =
            "the code is none that a close may have: 1000 to 1003, 1007 to 1014, 3000 to 4999";
        return Err(PyValueError::new_err(error));
    }
    Ok(Close::new(code, &reason))
}

/// The `subprotocol` of a `websocket.accept`.
pub(super) fn protocol_of(message: &Bound<'_, PyDict>) -> PyResult<Option<HeaderValue>> {
    let given = message.get_item(intern!(message.py(), "subprotocol"))?;
    let Some(given) = given.filter(|given| !given.is_none()) else {
        return Ok(None);
    };
    let given = given.cast::<PyString>()?;
    HeaderValue::try_from(given.to_str()?)
        .map(Some)
        .map_err(|_| PyValueError::new_err("the subprotocol is not valid"))
}
