//! From the thread of a call to a connection's task: the pieces of a response, with back-pressure.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;

use super::executor::Core;

/// So many bytes wait for the client at most before the call does.
const FULL: usize = 128 << 10;

pub(super) fn pipe() -> (Sender, Receiver) {
    let pipe = Arc::new(Pipe::default());
    (Sender(Arc::clone(&pipe)), Receiver(pipe))
}

#[derive(Default)]
struct Pipe {
    shared: Mutex<Shared>,
    room: Condvar,
}

#[derive(Default)]
struct Shared {
    chunks: VecDeque<Bytes>,
    len: usize,
    /// How the sender has ended.
    end: Option<io::Result<()>>,
    /// Nobody receives any more.
    closed: bool,
    receiver: Option<Waker>,
    /// Where the sender must not block.
    sender: Option<Waker>,
    trailers: Option<HeaderMap>,
    /// The receiver has taken a chunk since it last had to wait.
    unwritten: bool,
}

/// The call's end. Dropped without [`end`](Sender::end), the response is cut off.
pub(super) struct Sender(Arc<Pipe>);

/// The connection's end.
pub(super) struct Receiver(Arc<Pipe>);

/// Nobody receives any more.
pub(super) struct Closed;

impl Sender {
    /// Sends a piece; blocks while too much waits already.
    pub(super) fn send(&self, core: &Core, chunk: Bytes) -> Result<(), Closed> {
        let mut shared = self.0.lock();
        while shared.len >= FULL && !shared.closed {
            let room = core.block(|| self.0.room.wait(shared));
            shared = room.unwrap_or_else(PoisonError::into_inner);
        }
        if shared.closed {
            return Err(Closed);
        }
        shared.len += chunk.len();
        shared.chunks.push_back(chunk);
        let receiver = shared.receiver.take();
        drop(shared);
        receiver.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// The same without blocking: what is too much waits as well.
    pub(super) fn push(&self, chunk: Bytes) -> Result<(), Closed> {
        let mut shared = self.0.lock();
        if shared.closed {
            return Err(Closed);
        }
        shared.len += chunk.len();
        shared.chunks.push_back(chunk);
        let receiver = shared.receiver.take();
        drop(shared);
        receiver.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Ready when not too much waits.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<Result<(), Closed>> {
        let mut shared = self.0.lock();
        if shared.closed {
            return Poll::Ready(Err(Closed));
        }
        if shared.len < FULL {
            return Poll::Ready(Ok(()));
        }
        shared.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ends it well, perhaps with trailers.
    pub(super) fn finish(&self, trailers: Option<HeaderMap>) {
        self.0.lock().trailers = trailers;
        self.end(Ok(()));
    }

    /// Says how it ended.
    pub(super) fn end(&self, result: io::Result<()>) {
        let receiver = {
            let mut shared = self.0.lock();
            if shared.end.is_none() {
                shared.end = Some(result);
            }
            shared.receiver.take()
        };
        receiver.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end(Err(io::Error::other("the app ended its response early")));
    }
}

impl Receiver {
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut shared = self.0.lock();
        if let Some(chunk) = shared.chunks.pop_front() {
            shared.unwritten = true;
            let was_full = shared.len >= FULL;
            shared.len -= chunk.len();
            if was_full && shared.len < FULL {
                let sender = shared.sender.take();
                drop(shared);
                self.0.make_room(sender);
            }
            return Poll::Ready(Some(Ok(chunk)));
        }
        match shared.end.take() {
            Some(Err(error)) if shared.unwritten => {
                shared.end = Some(Err(error));
                shared.wait_for_the_writer(cx)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            Some(Ok(())) => {
                shared.end = Some(Ok(()));
                Poll::Ready(None)
            }
            None => {
                shared.unwritten = false;
                shared.receiver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// As for an end that is bad, for one that is bad where the receiver is: pending at first if a
    /// chunk may not be written yet.
    pub(super) fn poll_written(&self, cx: &Context<'_>) -> Poll<()> {
        let mut shared = self.0.lock();
        if shared.unwritten {
            return shared.wait_for_the_writer(cx);
        }
        Poll::Ready(())
    }

    /// What comes after the last chunk.
    pub(super) fn take_trailers(&self) -> Option<HeaderMap> {
        self.0.lock().trailers.take()
    }

    /// Whether nothing more will come.
    pub(super) fn is_at_end(&self) -> bool {
        let shared = self.0.lock();
        shared.chunks.is_empty() && shared.trailers.is_none() && matches!(shared.end, Some(Ok(())))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let (left, sender) = {
            let mut shared = self.0.lock();
            shared.closed = true;
            (std::mem::take(&mut shared.chunks), shared.sender.take())
        };
        drop(left);
        self.0.make_room(sender);
    }
}

impl Shared {
    /// Whoever writes an answer that ends badly drops what it has not written yet; it writes when it
    /// has to wait.
    fn wait_for_the_writer<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        self.unwritten = false;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Pipe {
    /// Wakes the sender, which waits in one way or the other.
    fn make_room(&self, sender: Option<Waker>) {
        self.room.notify_one();
        sender.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
