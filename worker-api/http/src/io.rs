//! The socket as HTTP sees it: it reports what comes and what is out, is never shut down by HTTP,
//! and goes home to the connection when HTTP (or the app that took it over) is done with it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::net::{AddressFamily, RecvFlags};

use crate::checks::Peer;
use crate::intake::{Intake, Supply};
use crate::lifecycle::{Absence, Input};
use crate::link::{Link, Side};
use crate::scratch::{self, poll_through};

/// So much of what comes while an answer is on its way is kept.
const AHEAD: usize = 8192;

/// What a driver's non-blocking stream socket has to offer.
///
/// `poll_shutdown` must shut down the writing half and nothing else.
pub trait Socket: Write + AsFd + Unpin + Send + 'static {
    /// Receives into the beginning of `buf`, as recv(2). Ready with how many bytes came, 0 at the
    /// end; else `cx` is woken when there is something to receive.
    ///
    /// # Errors
    /// What the kernel answers, but that it would block or was interrupted.
    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;
}

/// Asks the kernel whether a byte waits in the socket. A runtime's idea of readiness is of its
/// last poll; this is of now.
pub(crate) fn has_bytes(socket: &impl AsFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(
        rustix::net::recv(socket, &mut [0_u8; 1][..], flags),
        Ok((_, 1..))
    )
}

/// Asks the kernel who is at the other end.
pub(crate) fn peer_of(socket: &impl AsFd) -> Peer {
    match rustix::net::getpeername(socket) {
        Ok(Some(address)) if address.address_family() != AddressFamily::UNIX => {
            address.try_into().map_or(Peer::Unknown, Peer::Address)
        }
        Ok(_) => Peer::Local,
        // What it has sent can be read all the same: it must not pass for somebody local.
        Err(_) => Peer::Unknown,
    }
}

/// Asks the kernel which address the other end has connected to.
pub(crate) fn local_of(socket: &impl AsFd) -> Option<SocketAddr> {
    rustix::net::getsockname(socket).ok()?.try_into().ok()
}

pub(crate) struct Io<T> {
    /// `None` only while it is dropped.
    socket: Option<T>,
    /// As the socket.
    intake: Option<Box<Intake>>,
    /// Bytes that another HTTP machine has read before and that belong to the next request.
    before: Bytes,
    /// HTTP has begun to write, and has not said that all of it is out.
    writing: bool,
    link: Arc<Link<T>>,
}

impl<T> Io<T> {
    pub(crate) fn new(socket: T, before: Bytes, link: Arc<Link<T>>) -> Self {
        let intake = link.take_intake();
        Self {
            socket: Some(socket),
            intake,
            before,
            writing: false,
            link,
        }
    }
}

impl<T> Drop for Io<T> {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            self.link.keep_intake(self.intake.take());
            self.link.bring_home(socket);
        }
    }
}

impl<T: Socket> Io<T> {
    /// The socket, unless it was cut off from the app that has it.
    fn usable(&mut self) -> io::Result<Pin<&mut T>> {
        match &mut self.socket {
            Some(socket) if !self.link.is_cut() => Ok(Pin::new(socket)),
            _ => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// For hyper: what the watcher lets pass.
    fn poll_watched(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            socket: Some(socket),
            intake: Some(intake),
            link,
            ..
        } = self
        else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        if link.take_given_up() {
            intake.give_up();
        }
        loop {
            let supply = intake.supply(buf, || link.is_running());
            // A message that waited for the app's word is read only here.
            if let Some(news) = intake.news() {
                link.tell(news);
            }
            match supply {
                Supply::Given | Supply::End => return Poll::Ready(Ok(())),
                Supply::Later => {
                    if intake.has_ended() {
                        link.absent(Absence::Left);
                    }
                    return Poll::Pending;
                }
                Supply::Refused(refusal) => {
                    link.refuse(refusal);
                    return Poll::Ready(Ok(()));
                }
                Supply::Broken(refusal) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, refusal);
                    return Poll::Ready(Err(error));
                }
                Supply::Socket if link.is_cut() => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                Supply::Socket => {}
            }
            let mut given = 0;
            let recv = |free: &mut [u8]| socket.poll_recv(cx, free);
            let read = poll_through(buf, recv, |came| {
                given = intake.take(came);
                given
            });
            if read.is_pending() && intake.is_in_body() {
                link.absent(Absence::Still);
            }
            let came = ready!(read)?;
            link.came(came);
            if let Some(news) = intake.news() {
                link.tell(news);
            }
            if given > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// For an app that has taken the connection over: everything, as it comes.
    fn poll_raw(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(intake) = &mut self.intake
            && intake.give_raw(buf)
        {
            return Poll::Ready(Ok(()));
        }
        let socket = self.usable()?.get_mut();
        let recv = |free: &mut [u8]| socket.poll_recv(cx, free);
        let came = ready!(poll_through(buf, recv, <[u8]>::len))?;
        self.link.came(came);
        Poll::Ready(Ok(()))
    }

    /// While an answer is on its way hyper does not read: it needs no buffer then. Whether the peer
    /// is still there is seen to here, and what it sends meanwhile is kept.
    fn attend(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Self {
            socket: Some(socket),
            intake: Some(intake),
            before,
            link,
            ..
        } = self
        else {
            return Ok(());
        };
        if link.take_given_up() {
            intake.give_up();
        }
        if intake.is_given_up() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        while before.is_empty() && intake.is_empty() {
            let recv = |free: &mut [u8]| socket.poll_recv(cx, free);
            let keep = |came: &[u8]| intake.keep(came);
            let Poll::Ready(came) = scratch::poll_look(AHEAD, recv, keep) else {
                return Ok(());
            };
            link.came(came?);
            if let Some(news) = intake.news() {
                link.tell(news);
            }
            if intake.has_ended() {
                link.absent(Absence::Left);
            }
        }
        Ok(())
    }

    /// Before HTTP writes: early hints that precede it.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.link.has_hints() {
            let begun = self.writing;
            ready!(self.poll_hints(cx, |link| link.hint_before_write(begun)))?;
        }
        self.writing = true;
        Poll::Ready(Ok(()))
    }

    fn poll_hints(
        &mut self,
        cx: &mut Context<'_>,
        next: impl Fn(&Link<T>) -> Option<Bytes>,
    ) -> Poll<io::Result<()>> {
        while let Some(hint) = next(&self.link) {
            let polled = self.usable()?.poll_write(cx, &hint);
            self.link.wrote_hint(&polled);
            if ready!(polled)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(
        &mut self,
        polled: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.link.wrote(&polled);
        if polled.is_pending() && !self.link.is_switched() {
            self.attend(cx)?;
        }
        self.note(Side::Write, polled, cx)
    }

    fn note<R>(&self, side: Side, polled: Poll<R>, cx: &Context<'_>) -> Poll<R> {
        if polled.is_pending() && self.link.is_switched() {
            self.link.wait_as_guest(side, cx);
        }
        polled
    }
}

impl<T: Socket> Read for Io<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.before.is_empty() {
            let len = self.before.len().min(buf.remaining());
            buf.put_slice(&self.before.split_to(len));
            return Poll::Ready(Ok(()));
        }
        self.link.count_read();
        let polled = if self.link.is_switched() {
            self.poll_raw(cx, &mut buf)
        } else {
            self.poll_watched(cx, &mut buf)
        };
        self.note(Side::Read, polled, cx)
    }
}

impl<T: Socket> Write for Io<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = match self.poll_begin(cx)? {
            Poll::Ready(()) => self.usable()?.poll_write(cx, buf),
            Poll::Pending => Poll::Pending,
        };
        self.wrote(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match self.poll_begin(cx)? {
            Poll::Ready(()) => self.usable()?.poll_write_vectored(cx, bufs),
            Poll::Pending => Poll::Pending,
        };
        self.wrote(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.as_ref().is_some_and(Write::is_write_vectored)
    }

    /// hyper flushes when its own buffers are empty: what was handed over is out then.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.usable()?.poll_flush(cx))?;
        let ended = self.link.flushed();
        self.writing = false;
        if self.link.is_switched() {
            return Poll::Ready(Ok(()));
        }
        if self.link.has_hints() {
            // That they wait for the client must not keep the end of its request from being seen.
            let _ = self.poll_hints(cx, Link::hint_after_flush)?;
        }
        if self.link.is_running() {
            self.attend(cx)?;
            return Poll::Ready(Ok(()));
        }
        if ended && let Some(intake) = &self.intake {
            if intake.has_bytes() {
                // The next request has begun while this one was answered.
                self.link.input(Input::BytesCame);
            }
            if intake.waits_for_answer() {
                // This was it, and hyper does not try to read again on its own.
                cx.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// HTTP's end is not the socket's: the connection closes it, with care. An app that took the
    /// socket over closes as it likes.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.link.is_switched() {
            self.usable()?.poll_shutdown(cx)
        } else {
            self.poll_flush(cx)
        }
    }
}
