//! What changes for those who come from uvicorn's worker classes.

use super::load::Layers;
use super::origin::{Origin, Text};
use super::python::Interface;
use super::raw::Item;
use super::settings;

/// uvicorn has no such limits: nearly as much as can be.
const LIMITS: [(&str, &str); 3] = [
    ("http.limit_request_line", "65534"),
    ("http.limit_request_fields", "1000"),
    ("http.limit_request_field_size", "65535"),
];

/// Limits of a request's head that nobody has set let through what uvicorn would.
pub(super) fn settle(layers: &mut Layers) {
    if layers.draft.python.interface != Interface::Uvicorn {
        return;
    }
    for (path, most) in LIMITS {
        let place = layers.origins.get(path);
        if place.is_some_and(|place| place.origin != Origin::Default) {
            continue;
        }
        if let Some(setting) = settings::find(path) {
            layers.assign(setting, &Item::word(most), Text::Default);
            layers.note(path, "as uvicorn has it");
        }
    }
}
