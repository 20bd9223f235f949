//! Lines in bytes that come in pieces.

use memchr::memchr;

use super::head::Edit;
use super::refusal::Refusal;

/// Finds one line after the other. Each call gets the same bytes as the last one, and what has
/// come since; no byte is looked at twice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    /// Where the line begins that is not complete yet.
    start: usize,
    /// No line ends before here.
    searched: usize,
}

impl Lines {
    /// The next line, without the CRLF at its end; `None` while it is not complete.
    #[inline]
    pub(super) fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Refusal> {
        let rest = bytes.get(self.searched..).unwrap_or_default();
        let Some(offset) = memchr(b'\n', rest) else {
            self.searched = bytes.len();
            return Ok(None);
        };
        let end = self.searched + offset;
        let line = &bytes[self.start..end];
        self.start = end + 1;
        self.searched = self.start;
        match line {
            [line @ .., b'\r'] => Ok(Some(line)),
            _ => Err(Refusal::BareLf),
        }
    }

    /// Takes away the last line, of so many bytes with its end.
    pub(super) fn without_last(&self, len: usize) -> Edit {
        Edit {
            range: self.start.saturating_sub(len)..self.start,
            with: Vec::new(),
        }
    }

    /// Whether nothing of the next line was looked at.
    #[inline]
    pub(super) fn is_fresh(&self) -> bool {
        self.searched == self.start
    }

    /// The next line, known to be complete, has so many bytes with its end.
    #[inline]
    pub(super) fn skip(&mut self, len: usize) {
        self.start += len;
        self.searched = self.start;
    }

    /// Where the line begins that comes next: so many bytes are complete lines.
    pub(super) fn complete(&self) -> usize {
        self.start
    }

    /// How much of the next line is there.
    pub(super) fn begun(&self, bytes: &[u8]) -> usize {
        bytes.len().saturating_sub(self.start)
    }
}
