//! Fields that are lists of words.

use http::{HeaderMap, HeaderName};

/// The words of all fields of that name.
pub(crate) fn tokens<'a>(
    fields: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> {
    let values = fields.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// Whether one of them is that, in upper or lower case.
pub(crate) fn has_token(fields: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    tokens(fields, name).any(|token| token.eq_ignore_ascii_case(wanted))
}
