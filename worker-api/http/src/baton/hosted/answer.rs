//! What the body of an answer is made of, for an app that must not block.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::super::files::Files;
use super::super::outgoing::Outgoing;
use super::super::pipe::{Receiver, Sender, pipe};

/// The body of an answer.
pub struct Answer(Kind);

enum Kind {
    Bytes(Bytes),
    Head,
    File { file: File, offset: u64, len: u64 },
    Stream(Receiver, Option<u64>),
}

impl Answer {
    /// All of it.
    #[must_use]
    pub fn bytes(bytes: Bytes) -> Self {
        Self(Kind::Bytes(bytes))
    }

    /// No body, of an answer whose app is not done with it: [`Reply::poll_over`] is ready when the
    /// client has the head.
    ///
    /// [`Reply::poll_over`]: super::Reply::poll_over
    #[must_use]
    pub fn head() -> Self {
        Self(Kind::Head)
    }

    /// `len` bytes of a file from `offset` on, sent by the kernel.
    #[must_use]
    pub fn file(file: File, offset: u64, len: u64) -> Self {
        Self(Kind::File { file, offset, len })
    }

    /// What is given to the other end, of which it says how long it is.
    #[must_use]
    pub fn stream(len: Option<u64>) -> (StreamBody, Self) {
        let (sender, receiver) = pipe();
        (StreamBody(sender), Self(Kind::Stream(receiver, len)))
    }

    /// As hyper takes it. What the app is not done with is told of when hyper lets go of it.
    pub(super) fn flow(self, files: &Files, told: impl FnOnce() -> Arc<dyn Told>) -> Outflow {
        let (outgoing, told) = match self.0 {
            Kind::Bytes(bytes) => (Outgoing::Bytes(bytes), None),
            Kind::Head => (Outgoing::Bytes(Bytes::new()), Some(told())),
            Kind::File { file, offset, len } => {
                let files = files.clone();
                let file = Outgoing::File {
                    file,
                    offset,
                    len,
                    files,
                };
                (file, None)
            }
            Kind::Stream(receiver, len) => (Outgoing::Pipe(receiver, len), Some(told())),
        };
        Outflow { outgoing, told }
    }
}

/// The app's end of a streamed answer. Dropped before its end, the answer is cut off.
pub struct StreamBody(Sender);

impl StreamBody {
    /// Adds a piece.
    ///
    /// # Errors
    /// The client has gone away.
    pub fn push(&self, chunk: Bytes) -> io::Result<()> {
        self.0.push(chunk).map_err(|_| gone())
    }

    /// Ready when the client has taken enough for another piece.
    ///
    /// # Errors
    /// The client has gone away.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_room(cx).map_err(|_| gone())
    }

    /// That was all.
    pub fn finish(&self, trailers: Option<HeaderMap>) {
        self.0.finish(trailers);
    }
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

/// Who wants to know when nothing more of an answer reaches the client.
pub(super) trait Told: Send + Sync {
    /// The client has all of it, or has gone away.
    fn has_ended(&self, is_whole: bool);
}

/// The body of an answer, as hyper takes it.
pub(in crate::baton) struct Outflow {
    outgoing: Outgoing,
    /// Who is told when hyper lets go of it.
    told: Option<Arc<dyn Told>>,
}

impl Drop for Outflow {
    fn drop(&mut self) {
        if let Some(told) = &self.told {
            told.has_ended(self.outgoing.is_end_stream());
        }
    }
}

impl Body for Outflow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.get_mut().outgoing).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.outgoing.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.outgoing.size_hint()
    }
}
