//! tokio's sockets as one type that the connection takes.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use ::tokio::io::{AsyncRead, ReadBuf};
use ::tokio::net::{TcpStream, UnixStream};
use hyper::rt::Write;
use hyper_util::rt::TokioIo;
use rustix::net::{AddressFamily, sockopt};

use crate::io::Socket;

/// An accepted socket.
pub(super) enum Stream {
    Tcp(TokioIo<TcpStream>),
    Unix(TokioIo<UnixStream>),
}

impl Stream {
    /// Takes a non-blocking socket.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let stream = match sockopt::socket_domain(&socket)? {
            AddressFamily::UNIX => {
                let stream = UnixStream::from_std(socket.into())?;
                Self::Unix(TokioIo::new(stream))
            }
            _ => {
                let stream = TcpStream::from_std(socket.into())?;
                Self::Tcp(TokioIo::new(stream))
            }
        };
        Ok(stream)
    }

    /// Ready when there is something to read, or the end.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.inner().poll_read_ready(cx),
            Self::Unix(stream) => stream.inner().poll_read_ready(cx),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.inner().as_fd(),
            Self::Unix(stream) => stream.inner().as_fd(),
        }
    }
}

impl Socket for Stream {
    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        let read = match self {
            Self::Tcp(stream) => Pin::new(stream.inner_mut()).poll_read(cx, &mut buf),
            Self::Unix(stream) => Pin::new(stream.inner_mut()).poll_read(cx, &mut buf),
        };
        read.map_ok(|()| buf.filled().len())
    }
}

impl Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
