//! The access log: one line for each request, in gunicorn's formats or as JSON.
//!
//! [`Format`] is pure: it is parsed once, and makes a line of a [`Record`]. What comes from a
//! client is escaped so that it can forge nothing: no line, no quote, and no separator of the
//! format. [`AccessLog`] takes lines without ever waiting; a thread of its own writes them.

mod atom;
mod date;
mod escape;
mod format;
mod json;
mod output;
#[cfg(test)]
mod tests;
mod writer;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

pub use format::{Format, FormatError};
pub use writer::AccessLog;

/// gunicorn's default format.
pub const DEFAULT_FORMAT: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#;

/// A request that is over, as its driver saw it.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// When it was over.
    pub at: SystemTime,
    /// How long it was in flight.
    pub took: Duration,
    /// The other end of the connection; `None` on a Unix socket.
    pub remote: Option<SocketAddr>,
    /// The method.
    pub method: &'a str,
    /// The target of the request line, as the client wrote it.
    pub target: &'a str,
    /// The path of the target, still percent-encoded.
    pub path: &'a str,
    /// What follows its `?`; empty without one.
    pub query: &'a str,
    /// For example `HTTP/1.1`.
    pub protocol: &'a str,
    /// The answer's status; `None` when the request was cut off before there was one.
    pub status: Option<u16>,
    /// Bytes of the answer's body that were handed to the connection.
    pub body_bytes: u64,
    /// The header fields that the format asks for.
    pub fields: &'a dyn Fields,
}

/// Header fields of a request and its answer, for the names that [`Format::request_fields`] and
/// [`Format::response_fields`] list.
pub trait Fields {
    /// The value of the request field with this place in the list.
    fn request(&self, index: usize) -> Option<&[u8]>;

    /// The value of the response field with this place in the list.
    fn response(&self, index: usize) -> Option<&[u8]>;
}
