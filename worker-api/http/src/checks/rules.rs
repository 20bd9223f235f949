//! The limits that requests are held against.

use std::num::NonZeroU64;

use worker_api::Settings;

/// The longest first line whose target hyper can hold.
const LONGEST_LINE: usize = 65_534;

/// More fields than these hyper's map of fields cannot hold safely.
const MOST_FIELDS: usize = 16_384;

/// What a size of 0 stands for.
const FIELD_SIZE: usize = 8190;

/// The longest head altogether; hyper's buffer is a little larger.
const LONGEST_HEAD: usize = 400 << 10;

/// The longest body that hyper can count.
const LONGEST_BODY: u64 = u64::MAX - 2;

/// The limits that requests are held against, made valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Bytes of the first line, without its end.
    pub(super) line: usize,
    /// Fields of a head or a trailer section.
    pub(super) fields: usize,
    /// Bytes of a field's line, with its end.
    pub(super) field: usize,
    /// Bytes of a head.
    pub(super) head: usize,
    /// Bytes of a body.
    pub(super) body: u64,
}

impl Rules {
    /// The limits of a worker. As in gunicorn, 0 fields or a line of 0 bytes means as many as can
    /// be, and a field size of 0 the default.
    pub fn new(settings: &Settings) -> Self {
        let unless_zero = |number, other| if number == 0 { other } else { number };
        let fields = unless_zero(settings.limit_request_fields, MOST_FIELDS).min(MOST_FIELDS);
        let field = unless_zero(settings.limit_request_field_size, FIELD_SIZE);
        let line = unless_zero(settings.limit_request_line, LONGEST_LINE).min(LONGEST_LINE);
        let together = field.saturating_add(2).saturating_mul(fields);
        let body = settings.max_body.map_or(LONGEST_BODY, NonZeroU64::get);
        Self {
            line,
            fields,
            field,
            head: together.saturating_add(line + 6).min(LONGEST_HEAD),
            body: body.min(LONGEST_BODY),
        }
    }

    /// The most fields of a head.
    pub fn fields(&self) -> usize {
        self.fields
    }
}

/// The limits of the default settings.
impl Default for Rules {
    fn default() -> Self {
        Self::new(&Settings::default())
    }
}
