//! What headers are called in an environ, and their values, made once where they come again.

use http::{HeaderName, header};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::text::latin1;

/// As many names as there are places; each has one, and a later name takes it over.
const PLACES: usize = 256;
/// A longer value is not kept.
const LONGEST: usize = 256;

/// Names that apps and frameworks ask for.
const KNOWN: [HeaderName; 26] = [
    header::ACCEPT,
    header::ACCEPT_CHARSET,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::FORWARDED,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::ORIGIN,
    header::PRAGMA,
    header::RANGE,
    header::REFERER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::USER_AGENT,
    header::VIA,
];

/// The names that a thread has met.
pub(super) struct Names {
    places: Box<[Option<Box<Name>>]>,
}

struct Name {
    name: HeaderName,
    /// `None`: the app does not get to see it.
    key: Option<Py<PyString>>,
    /// Its last value.
    bytes: Vec<u8>,
    value: Option<Py<PyString>>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            places: std::iter::repeat_with(|| None).take(PLACES).collect(),
        }
    }

    /// The key and the value for a field; `None` for one that the app does not get to see.
    pub(super) fn field<'a, 'py>(
        &'a mut self,
        py: Python<'py>,
        name: &HeaderName,
        value: &[u8],
    ) -> PyResult<Option<(&'a Bound<'py, PyString>, Bound<'py, PyString>)>> {
        let place = &mut self.places[place_of(name.as_str().as_bytes())];
        if place.as_ref().is_some_and(|known| known.name != *name) {
            *place = None;
        }
        let known = place.get_or_insert_with(|| Box::new(Name::new(py, name)));
        let Some(key) = &known.key else {
            return Ok(None);
        };
        let kept = known.value.as_ref().filter(|_| known.bytes == value);
        let text = match kept {
            Some(kept) => kept.bind(py).clone(),
            None => {
                let text = latin1(py, value)?;
                if value.len() <= LONGEST {
                    known.bytes.clear();
                    known.bytes.extend_from_slice(value);
                    known.value = Some(text.clone().unbind());
                }
                text
            }
        };
        Ok(Some((key.bind(py), text)))
    }
}

impl Name {
    fn new(py: Python<'_>, name: &HeaderName) -> Self {
        let key = key_of(name.as_str()).map(|key| key_object(py, name, &key).unbind());
        Self {
            name: name.clone(),
            key,
            bytes: Vec::new(),
            value: None,
        }
    }
}

/// Where Python's interned strings live for ever, as on 3.12, a client could fill the memory with
/// names of its own: only those that apps ask for are interned.
fn key_object<'py>(py: Python<'py>, name: &HeaderName, key: &str) -> Bound<'py, PyString> {
    if KNOWN.contains(name) {
        PyString::intern(py, key)
    } else {
        PyString::new(py, key)
    }
}

/// What the field is called in an environ. `X_A` would look like `X-A` there, so that anybody could
/// pretend to have sent the one where a proxy has the say on the other: the app gets none of it.
fn key_of(name: &str) -> Option<String> {
    if name.contains('_') {
        return None;
    }
    let key = name.to_ascii_uppercase().replace('-', "_");
    Some(match key.as_str() {
        "CONTENT_TYPE" | "CONTENT_LENGTH" => key,
        _ => format!("HTTP_{key}"),
    })
}

/// Where a name is kept: its ends and its length tell most names apart.
fn place_of(name: &[u8]) -> usize {
    let word = |bytes: &[u8]| {
        let bytes = bytes.iter().rev();
        bytes.fold(0_u64, |word, byte| word << 8 | u64::from(*byte))
    };
    let ends = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(first), Some(last)) => {
            u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(21)
        }
        _ => word(name),
    };
    let mixed = (ends ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 56).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_in_cgi_and_those_with_underscores_are_not_passed_on() {
        assert_eq!(
            key_of("accept-language").as_deref(),
            Some("HTTP_ACCEPT_LANGUAGE")
        );
        assert_eq!(key_of("content-type").as_deref(), Some("CONTENT_TYPE"));
        assert_eq!(key_of("content-length").as_deref(), Some("CONTENT_LENGTH"));
        assert_eq!(key_of("x_forwarded_for"), None);
    }

    #[test]
    fn the_names_that_browsers_send_have_places_of_their_own() {
        let names = [
            "host",
            "user-agent",
            "accept",
            "accept-language",
            "accept-encoding",
            "cookie",
        ];
        let places: std::collections::BTreeSet<_> =
            names.iter().map(|name| place_of(name.as_bytes())).collect();
        assert_eq!(places.len(), names.len());
    }
}
