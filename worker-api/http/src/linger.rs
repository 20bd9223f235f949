//! The careful close: half-close, then read and throw away until the peer has closed too.
//!
//! A socket that is closed while bytes wait in it makes the kernel send a reset, and a reset
//! takes the answer with it that the peer has not read yet.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::checks::Refusal;
use crate::io::Socket;

/// So much is thrown away before a peer that does not stop sending is cut off. The deadline of
/// [`Limits`](crate::lifecycle::Limits) is the usual end; this bounds what a fast peer can cost.
const BUDGET: usize = 16 << 20;

/// So many reads in one go, then others have their turn.
const READS: usize = 16;

pub(crate) struct Linger<T> {
    socket: T,
    half_closed: bool,
    left: usize,
}

impl<T: Socket> Linger<T> {
    pub(crate) fn new(socket: T) -> Self {
        Self {
            socket,
            half_closed: false,
            left: BUDGET,
        }
    }

    /// Tells a peer why it gets no other answer. Best effort: its socket is empty, or it does not
    /// read either.
    pub(crate) fn refuse(&mut self, refusal: Refusal, cx: &mut Context<'_>) {
        let _ = Pin::new(&mut self.socket).poll_write(cx, &refusal.answer());
    }

    /// Done when the peer has closed, has failed, or has used up the budget.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.half_closed {
            match Pin::new(&mut self.socket).poll_shutdown(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => self.half_closed = true,
            }
        }
        let mut waste = [0; 8192];
        for _ in 0..READS {
            let came = ready!(self.socket.poll_recv(cx, &mut waste)).unwrap_or(0);
            self.left = self.left.saturating_sub(came);
            if came == 0 || self.left == 0 {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// How many bytes more would be thrown away.
    pub(crate) fn left(&self) -> usize {
        self.left
    }
}
