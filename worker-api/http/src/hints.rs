//! 103 Early Hints: what a client can begin with while its response is being made.
//!
//! hyper's server sends no informational response but `100 Continue`. It need not: from the moment
//! that a request has gone to the service until its response has a head, hyper writes nothing else,
//! and the socket below it is ours. [`Outbox`] keeps the rules of when; `link` and `io` follow them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Weak;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderName};
use http::{HeaderMap, Version};

const STATUS_LINE: &[u8] = b"HTTP/1.1 103 Early Hints\r\n";

/// A longer head is none that a client would take.
const LONGEST: usize = 16 << 10;

/// So much waits for a client that does not read.
const WAITING: usize = 64 << 10;

/// They are about the connection, or about a body.
const UNFIT: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Sends hints (status 103) ahead of the response to one request: `Link` fields most often, from
/// which a browser knows what it will need.
///
/// Only requests of HTTP/1.1 can have any. For a hyper service it is an extension of theirs; any
/// other [`App`](crate::App) has it with each request. On the baton driver a plain function asks
/// the request's [body](crate::RequestBody::early_hints), what answers in another way its
/// [`Reply`](crate::Reply::early_hints) or [`hosted::Reply`](crate::hosted::Reply::early_hints).
///
/// ```no_run
/// use http::{HeaderMap, HeaderValue, header};
/// use worker_http::{EarlyHints, Request, Response};
///
/// let worker = worker_api::Worker::init()?;
/// worker_http::serve(worker, |request: Request| {
///     if let Some(hints) = request.body().early_hints() {
///         let style = HeaderValue::from_static("</style.css>; rel=preload; as=style");
///         let _ = hints.send(&HeaderMap::from_iter([(header::LINK, style)]));
///     }
///     Response::new("what takes a while to be made".into())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct EarlyHints {
    /// Whoever keeps this does not keep the connection.
    desk: Weak<dyn Hinted>,
    request: u64,
}

/// Hints that are too long to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("early hints of {0} bytes are too long: {LONGEST} may be sent")]
pub struct HintsTooLong(usize);

/// What takes hints for the requests of a connection.
pub(crate) trait Hinted: Send + Sync {
    /// Takes a head for a request, named by its number.
    fn hint(&self, request: u64, head: Bytes);
}

impl EarlyHints {
    pub(crate) fn new(desk: Weak<dyn Hinted>, request: u64) -> Self {
        Self { desk, request }
    }

    /// Sends one response of status 103 with these fields, from any thread and without waiting; it
    /// may be done several times. Fields about the connection or a body are left out, and without
    /// any field nothing is sent.
    ///
    /// Hints are help and no promise: those that come too late, once the request is answered or its
    /// client has gone, are dropped, and so are those for a client that does not read.
    ///
    /// # Errors
    /// They are longer than 16 KiB.
    pub fn send(&self, fields: &HeaderMap) -> Result<(), HintsTooLong> {
        if let Some(head) = head_of(fields)?
            && let Some(desk) = self.desk.upgrade()
        {
            desk.hint(self.request, head);
            crate::baton::lasts();
        }
        Ok(())
    }
}

impl fmt::Debug for EarlyHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EarlyHints")
    }
}

/// Whether who speaks this version knows of informational responses.
pub(crate) fn is_understood(version: Version) -> bool {
    version == Version::HTTP_11
}

/// The bytes of the response. The types have seen to it that no name and no value ends its line.
fn head_of(fields: &HeaderMap) -> Result<Option<Bytes>, HintsTooLong> {
    let fit = || fields.iter().filter(|(name, _)| !UNFIT.contains(name));
    let lines = fit().map(|(name, value)| name.as_str().len() + value.len() + b": \r\n".len());
    let len = STATUS_LINE.len() + lines.sum::<usize>() + b"\r\n".len();
    if len > LONGEST {
        return Err(HintsTooLong(len));
    }
    if fit().next().is_none() {
        return Ok(None);
    }
    let mut head = BytesMut::with_capacity(len);
    head.extend_from_slice(STATUS_LINE);
    for (name, value) in fit() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    Ok(Some(head.freeze()))
}

/// Where HTTP is with its own bytes when hints might be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// It is about to write, and all that it has begun to write is out.
    Between,
    /// It is about to write the rest of something.
    Within,
    /// All that it had is out.
    After,
}

/// Hints on their way to the socket: whole heads, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    heads: VecDeque<Bytes>,
    /// Of the first one, a part is out.
    begun: bool,
}

impl Outbox {
    /// Takes a head, unless too much waits.
    pub(crate) fn push(&mut self, head: Bytes) {
        let waiting: usize = self.heads.iter().map(Bytes::len).sum();
        if waiting + head.len() <= WAITING {
            self.heads.push_back(head);
        }
    }

    /// What is to be written now, before anything else. `answered`: the response has a head, which
    /// is then the next that HTTP writes; after that hints come too late.
    pub(crate) fn next(&mut self, moment: Moment, answered: bool) -> Option<Bytes> {
        if !self.begun && moment != Moment::Between {
            if answered {
                self.heads.clear();
            } else if moment == Moment::Within {
                return None;
            }
        }
        self.heads.front().cloned()
    }

    /// So many bytes of the next one are out.
    pub(crate) fn wrote(&mut self, len: usize) {
        let Some(head) = self.heads.front_mut() else {
            return;
        };
        head.advance(len.min(head.len()));
        self.begun = !head.is_empty();
        if head.is_empty() {
            self.heads.pop_front();
        }
    }

    /// Another request's turn: only what is begun is finished.
    pub(crate) fn expire(&mut self) {
        self.heads.truncate(usize::from(self.begun));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }
}

#[cfg(test)]
mod tests;
