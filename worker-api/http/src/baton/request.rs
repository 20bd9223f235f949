//! A request's body, for a handler that may block.

use std::fmt;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body::Body as _;
use hyper::body::Incoming;

use super::block::block_on;
use super::executor::Core;
use crate::checks::Client;
use crate::hints::EarlyHints;

/// The body of a request: a reader that blocks until there is more.
///
/// A small one has been received in whole before the handler is called, and reading it never
/// blocks. A large one is received as fast as it is read: what is not read stays in the kernel and
/// with the client. When the client goes away before the end, reading fails.
///
/// It also knows what comes with a request beside its head: who has [sent](Self::client) it, and the
/// way to [hints](Self::early_hints) ahead of its answer.
pub struct RequestBody {
    /// What is to be given out next.
    ready: Bytes,
    rest: Option<Rest>,
    len: Option<u64>,
    client: Client,
    hints: Option<EarlyHints>,
}

struct Rest {
    incoming: Incoming,
    core: Arc<Core>,
}

impl RequestBody {
    /// Of a request by `client` that has none.
    pub(super) fn empty(client: Client) -> Self {
        Self {
            ready: Bytes::new(),
            rest: None,
            len: Some(0),
            client,
            hints: None,
        }
    }

    /// It is here.
    pub(super) fn set_whole(&mut self, bytes: Bytes) {
        self.len = Some(bytes.len() as u64);
        self.ready = bytes;
    }

    /// It will come.
    pub(super) fn set_streamed(&mut self, core: &Arc<Core>, incoming: Incoming) {
        let core = Arc::clone(core);
        self.len = incoming.size_hint().exact();
        self.rest = Some(Rest { incoming, core });
    }

    pub(super) fn set_hints(&mut self, hints: Option<EarlyHints>) {
        self.hints = hints;
    }

    /// Who has sent the request.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The way to send hints ahead of the answer, if the client knows of such. It is here for a
    /// plain function; any other handler asks its [`Reply`](crate::Reply::early_hints).
    #[must_use]
    pub fn early_hints(&self) -> Option<&EarlyHints> {
        self.hints.as_ref()
    }

    /// The body, for who has a request by reference. What stays behind is empty, has no hints, and
    /// still knows its client.
    #[must_use]
    pub fn detach(&mut self) -> Self {
        let nothing = Self::empty(self.client);
        std::mem::replace(self, nothing)
    }

    /// How long the whole body is, in bytes, if the client has said so.
    #[must_use]
    pub fn len(&self) -> Option<u64> {
        self.len
    }

    /// Whether there is nothing to read, as far as is known without waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
            && self
                .rest
                .as_ref()
                .is_none_or(|rest| rest.incoming.is_end_stream())
    }

    /// Whether [`next_chunk`](Self::next_chunk) answers without waiting.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty() || self.rest.is_none()
    }

    /// The next piece as it came from the client, without a copy; `None` at the end.
    ///
    /// # Errors
    /// The client went away, or what it sent is no body.
    pub fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        while self.ready.is_empty() {
            let Some(Rest { incoming, core }) = &mut self.rest else {
                return Ok(None);
            };
            match block_on(core, |cx| Pin::new(&mut *incoming).poll_frame(cx)) {
                None => self.rest = None,
                Some(frame) => {
                    let frame = frame.map_err(io::Error::other)?;
                    self.ready = frame.into_data().unwrap_or_default();
                }
            }
        }
        Ok(Some(std::mem::take(&mut self.ready)))
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`next_chunk`](Self::next_chunk), or it is longer than `limit` bytes.
    pub fn into_bytes(mut self, limit: usize) -> io::Result<Bytes> {
        let first = self.next_chunk()?.unwrap_or_default();
        if self.rest.is_none() && first.len() <= limit {
            return Ok(first);
        }
        let mut all = first.to_vec();
        while all.len() <= limit {
            let Some(chunk) = self.next_chunk()? else {
                return Ok(all.into());
            };
            all.extend_from_slice(&chunk);
        }
        Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("the request's body is longer than {limit} bytes"),
        ))
    }
}

impl Read for RequestBody {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let Some(mut chunk) = self.next_chunk()? else {
            return Ok(0);
        };
        let len = chunk.len().min(buf.len());
        buf[..len].copy_from_slice(&chunk.split_to(len));
        self.ready = chunk;
        Ok(len)
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
