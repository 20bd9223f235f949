//! Header fields that come with every request or answer, made once for each side: as Python's bytes,
//! and as HTTP has them.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use http::{HeaderName, HeaderValue};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

/// As many fields as there are places; each has one, by its name, and a later one takes it over.
const PLACES: usize = 256;
/// A longer name or value is not kept.
const LONGEST: usize = 256;

/// The fields of requests that came last.
pub(super) struct Fields {
    places: Mutex<Vec<Option<Pair>>>,
}

struct Pair {
    name: HeaderName,
    value: Py<PyBytes>,
    /// What the app gets: both as bytes.
    pair: Py<PyTuple>,
}

impl Fields {
    pub(super) fn new() -> Self {
        let places = std::iter::repeat_with(|| None).take(PLACES).collect();
        Self {
            places: Mutex::new(places),
        }
    }

    /// Makes pairs of each field that is asked for.
    pub(super) fn with<R>(&self, doing: impl FnOnce(&mut Cache<'_>) -> R) -> R {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        doing(&mut Cache(&mut places))
    }
}

/// The fields, for as long as nobody else uses them.
pub(super) struct Cache<'a>(&'a mut Vec<Option<Pair>>);

impl Cache<'_> {
    /// A field as `(name, value)`.
    pub(super) fn pair<'py>(
        &mut self,
        py: Python<'py>,
        name: &HeaderName,
        value: &[u8],
    ) -> PyResult<Bound<'py, PyTuple>> {
        let place = &mut self.0[place_of(name.as_str().as_bytes())];
        let known = place.as_ref().filter(|known| known.name == *name);
        if let Some(known) = known
            && known.value.as_bytes(py) == value
        {
            return Ok(known.pair.bind(py).clone());
        }
        let spelled = match known {
            Some(known) => known.pair.bind(py).get_item(0)?,
            None => PyBytes::new(py, name.as_str().as_bytes()).into_any(),
        };
        let bytes = PyBytes::new(py, value);
        let pair = PyTuple::new(py, [spelled, bytes.clone().into_any()])?;
        if name.as_str().len().max(value.len()) <= LONGEST {
            *place = Some(Pair {
                name: name.clone(),
                value: bytes.unbind(),
                pair: pair.clone().unbind(),
            });
        }
        Ok(pair)
    }
}

/// Reads a field that the app says. What is no name or no value could end the head, and begin
/// another.
pub(super) fn read(name: &[u8], value: &[u8]) -> PyResult<(HeaderName, HeaderValue)> {
    /// As it was spelled, and as it was understood.
    struct Known {
        spelled: Vec<u8>,
        name: HeaderName,
        value: HeaderValue,
    }

    thread_local! {
        static KNOWN: RefCell<Vec<Option<Known>>> = const { RefCell::new(Vec::new()) };
    }

    KNOWN.with_borrow_mut(|known| {
        known.resize_with(PLACES, || None);
        let place = &mut known[place_of(name)];
        if let Some(known) = place
            && known.spelled == name
        {
            if known.value.as_bytes() != value {
                known.value = read_value(&known.name, value)?;
            }
            return Ok((known.name.clone(), known.value.clone()));
        }
        let understood = HeaderName::from_bytes(name)
            .map_err(|_| PyValueError::new_err("a header field has no valid name"))?;
        let read = read_value(&understood, value)?;
        if name.len().max(value.len()) <= LONGEST {
            *place = Some(Known {
                spelled: name.to_vec(),
                name: understood.clone(),
                value: read.clone(),
            });
        }
        Ok((understood, read))
    })
}

fn read_value(name: &HeaderName, value: &[u8]) -> PyResult<HeaderValue> {
    HeaderValue::from_bytes(value)
        .map_err(|_| PyValueError::new_err(format!("the value of `{name}` is not valid")))
}

/// Names differ in their length, and at their beginning and end.
fn place_of(name: &[u8]) -> usize {
    let at = |index: usize| usize::from(name.get(index).copied().unwrap_or(0));
    let mixed =
        name.len() * 7 + at(0) * 31 + at(name.len() / 2) * 5 + at(name.len().wrapping_sub(1)) * 17;
    mixed % PLACES
}
