//! An accepted socket, as hyper reads and writes it.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::rt::Write;
use mio::Interest;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

use super::executor::Core;
use super::files::{Files, find_hole};
use super::reactor::{Side, Source};
use super::readiness::Waiting;
use crate::io::Socket;
use crate::scratch::with_joined;

/// So much is copied into one piece to be sent: that costs less than to have the kernel gather it.
const SMALL: usize = 1024;

/// A stream socket in the reactor: TCP or Unix.
pub(super) struct Stream {
    fd: OwnedFd,
    source: Arc<Source>,
    reader: Waiting,
    writer: Waiting,
    files: Files,
    core: Arc<Core>,
}

impl Stream {
    /// Takes a non-blocking socket.
    pub(super) fn new(core: &Arc<Core>, fd: OwnedFd) -> io::Result<Self> {
        let source = core
            .reactor
            .watch(&fd, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            fd,
            source,
            reader: Waiting::default(),
            writer: Waiting::default(),
            files: Files::default(),
            core: Arc::clone(core),
        })
    }

    /// Where its responses promise files.
    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// Ready when there is something to read, or the end.
    pub(super) fn poll_readable(&mut self, cx: &Context<'_>) -> Poll<()> {
        let readable = self.source.poll_again(Side::Read, &mut self.reader, cx);
        readable.map(drop)
    }

    /// Sends; where less than `len` bytes went, the socket has no room for more.
    fn poll_send(
        &mut self,
        cx: &Context<'_>,
        len: usize,
        send: impl Fn(&OwnedFd, &Files) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let Self {
            fd, source, files, ..
        } = self;
        source.poll_io(Side::Write, &mut self.writer, cx, |seen| {
            let sent = send(fd, files)?;
            if sent < len {
                // The rest would block: no need to ask.
                source.emptied(Side::Write, seen);
            }
            Ok(sent)
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.core.reactor.unwatch(&self.source, &self.fd);
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket for Stream {
    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { fd, source, .. } = self;
        source.poll_io(Side::Read, &mut self.reader, cx, |seen| {
            let (came, _) = rustix::net::recv(&*fd, &mut *buf, RecvFlags::empty())?;
            if came < buf.len() {
                // Nothing is left; what comes next is an event.
                source.emptied(Side::Read, seen);
            }
            Ok(came)
        })
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bufs = [IoSlice::new(buf)];
        if find_hole(&bufs).is_some() {
            return self.poll_write_vectored(cx, &bufs);
        }
        self.poll_send(cx, buf.len(), |fd, _| {
            rustix::net::send(fd, buf, SendFlags::NOSIGNAL)
        })
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (bufs, flags) = match find_hole(bufs) {
            None => (bufs, SendFlags::NOSIGNAL),
            Some(0) => {
                // What is short may be the file, and not the socket's room: the kernel is asked again.
                let (len, enough) = (bufs[0].len(), 1);
                return self.poll_send(cx, enough, |fd, files| files.send(fd, len));
            }
            // What comes before a file leaves in one packet with its beginning.
            Some(before) => (&bufs[..before], SendFlags::NOSIGNAL | SendFlags::MORE),
        };
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        if len <= SMALL {
            return with_joined(bufs, |piece| {
                self.poll_send(cx, piece.len(), |fd, _| rustix::net::send(fd, piece, flags))
            });
        }
        self.poll_send(cx, len, |fd, _| {
            let mut control = SendAncillaryBuffer::default();
            rustix::net::sendmsg(fd, bufs, &mut control, flags)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match rustix::net::shutdown(&self.fd, Shutdown::Write) {
            // The peer was first.
            Ok(()) | Err(Errno::NOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        })
    }
}
