//! A response's body, as hyper takes it.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::files::{Files, hole};
use super::pipe::Receiver;

pub(super) enum Outgoing {
    Bytes(Bytes),
    /// From the thread of a call; so many bytes more, if that is known.
    Pipe(Receiver, Option<u64>),
    /// A file, before its first byte.
    File {
        file: File,
        offset: u64,
        len: u64,
        files: Files,
    },
    /// So many bytes of a hole.
    Hole(u64),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if matches!(this, Self::File { .. }) {
            this.promise();
        }
        let data = match this {
            Self::Bytes(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Bytes(bytes) => std::mem::take(bytes),
            Self::Pipe(receiver, left) => match ready!(receiver.poll(cx)) {
                None if left.is_some_and(|left| left > 0) => {
                    ready!(receiver.poll_written(cx));
                    let error = "the app's response is shorter than it said";
                    return Poll::Ready(Some(Err(io::Error::other(error))));
                }
                None => {
                    let trailers = receiver.take_trailers();
                    return Poll::Ready(trailers.map(Frame::trailers).map(Ok));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(chunk)) => {
                    *left = left.map(|left| left.saturating_sub(chunk.len() as u64));
                    chunk
                }
            },
            Self::Hole(0) | Self::File { .. } => return Poll::Ready(None),
            Self::Hole(left) => {
                let data = hole(*left);
                *left -= data.len() as u64;
                data
            }
        };
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Pipe(_, Some(left)) => *left == 0,
            Self::Pipe(receiver, None) => receiver.is_at_end(),
            Self::File { len, .. } => *len == 0,
            Self::Hole(left) => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Pipe(_, None) => SizeHint::default(),
            Self::File { len: left, .. } | Self::Hole(left) | Self::Pipe(_, Some(left)) => {
                SizeHint::with_exact(*left)
            }
        }
    }
}

impl Outgoing {
    /// The file's turn has come.
    fn promise(&mut self) {
        let before = std::mem::replace(self, Self::Hole(0));
        if let Self::File {
            file,
            offset,
            len,
            files,
        } = before
        {
            files.promise(file, offset, len);
            *self = Self::Hole(len);
        }
    }
}
