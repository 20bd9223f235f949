//! A request's small body, received before the app is called: a slow client holds a connection, and
//! no call.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;

/// A body is small that says that it is at most so long, in bytes.
const SMALL: u64 = 64 << 10;

/// A small body on its way in.
pub(super) struct Receiving {
    incoming: Incoming,
    whole: BytesMut,
}

/// Whether a body is to be received before the call.
pub(super) fn is_small(incoming: &Incoming) -> bool {
    let len = incoming.size_hint().exact();
    len.is_some_and(|len| len <= SMALL)
}

impl Receiving {
    pub(super) fn new(incoming: Incoming) -> Self {
        let whole = BytesMut::new();
        Self { incoming, whole }
    }

    /// Ready once, with all of it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        while let Some(frame) = ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            let frame = frame.map_err(io::Error::other)?;
            if let Ok(data) = frame.into_data() {
                self.whole.extend_from_slice(&data);
            }
        }
        Poll::Ready(Ok(std::mem::take(&mut self.whole).freeze()))
    }
}
