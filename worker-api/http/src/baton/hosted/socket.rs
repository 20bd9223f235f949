//! A connection that the app has taken over, polled on the loop's thread.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read as _, ReadBuf, Write as _};
use hyper::upgrade::OnUpgrade;

/// A connection that changes its protocol once the head of the answer is out.
pub struct Switching(pub(super) OnUpgrade);

impl Switching {
    /// The connection; an error if the answer was none that switches.
    ///
    /// # Errors
    /// The client asked for no other protocol, did not get it, or has gone away.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Switched>> {
        let polled = Pin::new(&mut self.0).poll(cx);
        polled.map(|upgraded| upgraded.map(Switched).map_err(io::Error::other))
    }
}

impl fmt::Debug for Switching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Switching")
    }
}

/// A connection whose protocol was switched: bytes both ways. The drain waits for it: end it when
/// [`LoopHandler::stage_changed`](super::LoopHandler::stage_changed) says so.
pub struct Switched(hyper::upgrade::Upgraded);

impl Switched {
    /// Reads what there is; 0 bytes at the end.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(Pin::new(&mut self.0).poll_read(cx, buf.unfilled()))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Writes what the kernel takes.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    /// Says to the peer that nothing more will be written.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl fmt::Debug for Switched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Switched")
    }
}
