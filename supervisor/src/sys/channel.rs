//! The control channel: a SOCK_SEQPACKET pair, one end for each process. A host's can carry
//! descriptors.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recv, send, sendmsg, socketpair,
};
use worker_api::message::{Command, MAX_MESSAGE};

/// The master's end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// What was waiting in a socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// One message, as it was sent.
    Frame(&'a [u8]),
    /// A message that is longer than any may be; what is left of it is gone.
    TooLong,
    /// Nothing, for now.
    Nothing,
    /// Nothing ever again: the other end is closed.
    End,
}

impl Channel {
    /// A channel, and the end to pass to the worker.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (master, worker) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok((Channel(master), worker))
    }

    /// Tell the worker.
    ///
    /// # Errors
    /// `WouldBlock` when the worker has not read what it was told before;
    /// `BrokenPipe` when it is gone.
    pub fn send(&self, command: &Command) -> io::Result<()> {
        send(&self.0, &command.encode(), SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Send a message, and a descriptor with it.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub fn pass(&self, frame: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let Some(descriptor) = descriptor else {
            send(&self.0, frame, SendFlags::NOSIGNAL)?;
            return Ok(());
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(
            &self.0,
            &[IoSlice::new(frame)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// Take the next message.
    pub fn receive<'a>(&self, buffer: &'a mut [u8; MAX_MESSAGE]) -> Received<'a> {
        match recv(&self.0, &mut buffer[..], RecvFlags::TRUNC) {
            Ok((_, length)) if length > MAX_MESSAGE => Received::TooLong,
            // An empty message reads like the end.
            Ok((0, _)) if !self.is_hung_up() => Received::Frame(&[]),
            Ok((0, _)) => Received::End,
            Ok((read, _)) => Received::Frame(&buffer[..read]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Received::Nothing,
            Err(_) => Received::End,
        }
    }

    fn is_hung_up(&self) -> bool {
        let mut channel = [PollFd::new(&self.0, PollFlags::empty())];
        let at_once = Timespec::default();
        poll(&mut channel, Some(&at_once)).is_err() || channel[0].revents().contains(PollFlags::HUP)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_keep_their_borders_and_an_end_is_told() {
        let (master, worker) = Channel::pair().unwrap();
        let mut buffer = [0; MAX_MESSAGE];
        assert_eq!(master.receive(&mut buffer), Received::Nothing);
        send(&worker, b"READY=1", SendFlags::empty()).unwrap();
        send(&worker, &[b'x'; MAX_MESSAGE + 1], SendFlags::empty()).unwrap();
        assert_eq!(master.receive(&mut buffer), Received::Frame(b"READY=1"));
        assert_eq!(master.receive(&mut buffer), Received::TooLong);
        send(&worker, b"", SendFlags::empty()).unwrap();
        assert_eq!(master.receive(&mut buffer), Received::Frame(b""));
        drop(worker);
        assert_eq!(master.receive(&mut buffer), Received::End);
        assert_eq!(
            master.send(&Command::Drain).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
