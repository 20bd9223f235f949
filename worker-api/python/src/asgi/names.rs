//! Bytes that come with every request, made once: the names of header fields.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyBytesMethods};

/// A power of two.
const PLACES: usize = 256;

/// The names that came last, each in the only place where it may be.
pub(super) struct Names {
    places: Mutex<Vec<Option<Py<PyBytes>>>>,
}

impl Names {
    pub(super) fn new() -> Self {
        let places = std::iter::repeat_with(|| None).take(PLACES).collect();
        Self {
            places: Mutex::new(places),
        }
    }

    /// Makes bytes of each name that `each` asks for.
    pub(super) fn with<R>(&self, doing: impl FnOnce(&mut Cache<'_>) -> R) -> R {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        doing(&mut Cache(&mut places))
    }
}

/// The names, for as long as nobody else uses them.
pub(super) struct Cache<'a>(&'a mut Vec<Option<Py<PyBytes>>>);

impl Cache<'_> {
    pub(super) fn bytes<'py>(&mut self, py: Python<'py>, name: &str) -> Bound<'py, PyBytes> {
        let place = &mut self.0[place_of(name.as_bytes())];
        if let Some(known) = place {
            let known = known.bind(py);
            if known.as_bytes() == name.as_bytes() {
                return known.clone();
            }
        }
        let bytes = PyBytes::new(py, name.as_bytes());
        *place = Some(bytes.clone().unbind());
        bytes
    }
}

/// Names differ in their length, and at their beginning and end.
fn place_of(name: &[u8]) -> usize {
    let at = |index: usize| usize::from(name.get(index).copied().unwrap_or(0));
    let mixed =
        name.len() * 7 + at(0) * 31 + at(name.len() / 2) * 5 + at(name.len().wrapping_sub(1)) * 17;
    mixed % PLACES
}
