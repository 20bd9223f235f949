//! The fields behind the last chunk, up to the empty line.

use super::head::{Edit, check_begun, field, is_hidden, once};
use super::lines::Lines;
use super::refusal::Refusal;
use super::rules::Rules;

/// hyper gives up on a trailer section of so many bytes.
const TOO_LONG: usize = 16 << 10;

/// Fields that decide where a message ends, whom it is for, or who sent it (RFC 9110, 6.5.1).
const FORBIDDEN: [&str; 6] = [
    "host",
    "content-length",
    "transfer-encoding",
    "trailer",
    "authorization",
    "te",
];

/// A trailer section that is being read.
#[derive(Clone, Debug, Default)]
pub(super) struct Trailers {
    lines: Lines,
    fields: usize,
    content_type: bool,
    edits: Vec<Edit>,
}

impl Trailers {
    /// Goes on reading: once the section is complete, its length, and what hyper is to get in place
    /// of parts of it. Each call gets the same bytes as the last one, and what has come since.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        rules: &Rules,
    ) -> Result<Option<(usize, Vec<Edit>)>, Refusal> {
        while let Some(line) = self.lines.next(bytes)? {
            if self.lines.complete() >= TOO_LONG {
                return Err(Refusal::HeadTooLong);
            }
            if line.is_empty() {
                let edits = std::mem::take(&mut self.edits);
                return Ok(Some((self.lines.complete(), edits)));
            }
            let name = field(line, rules, self.fields)?.name;
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            if FORBIDDEN.into_iter().any(is) {
                return Err(Refusal::Trailer);
            }
            if is("content-type") {
                once(&mut self.content_type)?;
            }
            if is_hidden(name) {
                self.edits.push(self.lines.without_last(line.len() + 2));
            } else {
                self.fields += 1;
            }
        }
        check_begun(self.lines.begun(bytes), bytes.len(), TOO_LONG, rules)?;
        Ok(None)
    }
}
