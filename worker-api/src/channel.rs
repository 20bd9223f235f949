//! The worker's end of the control channel, a SOCK_SEQPACKET pair: a frame is a packet.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::message::{Command, MAX_MESSAGE, MessageError, Report};

/// How long a report may wait for a master that does not read.
const PATIENCE: Duration = Duration::from_secs(5);

/// The descriptor of the channel.
pub(crate) struct Channel {
    fd: OwnedFd,
}

/// What a look into the channel has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Commands(Vec<Command>),
    Garbage(MessageError),
    /// Nothing, or not yet.
    Nothing,
    /// The master is gone.
    Closed,
}

impl Channel {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Sends a report, waiting a bounded time for room. It is never lost without a word in the
    /// log; that the master is gone is the control thread's to find out.
    pub(crate) fn report(&self, report: &Report) {
        match self.send(report) {
            Ok(()) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => {
                tracing::debug!(?report, "the master is gone, a report has no reader");
            }
            Err(errno) => {
                let error = io::Error::from(errno);
                tracing::error!(?report, %error, "a report to the master is lost");
            }
        }
    }

    pub(crate) fn receive(&self) -> Incoming {
        // One byte more than allowed, so that a longer frame shows.
        let mut frame = [0; MAX_MESSAGE + 1];
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        match rustix::net::recv(&self.fd, &mut frame, flags) {
            // An empty packet and the end look alike; only the end hangs up.
            Ok((0, _)) if self.hung_up() => Incoming::Closed,
            Ok((length, _)) => match Command::decode(&frame[..length]) {
                Ok(commands) => Incoming::Commands(commands),
                Err(error) => Incoming::Garbage(error),
            },
            Err(Errno::AGAIN | Errno::INTR) => Incoming::Nothing,
            Err(errno) => {
                let error = io::Error::from(errno);
                tracing::debug!(%error, "the control channel broke");
                Incoming::Closed
            }
        }
    }

    fn send(&self, report: &Report) -> Result<(), Errno> {
        let frame = report.encode();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&self.fd, &frame, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Errno::TIMEDOUT);
                    }
                    wait(&mut [PollFd::new(&self.fd, PollFlags::OUT)], Some(left));
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    fn hung_up(&self) -> bool {
        let mut ask = [PollFd::new(&self.fd, PollFlags::RDHUP)];
        wait(&mut ask, Some(Duration::ZERO));
        ask[0]
            .revents()
            .intersects(PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Blocks until one of the descriptors has something, or the time is over. An interruption counts
/// as nothing: callers look again anyway.
pub(crate) fn wait(fds: &mut [PollFd<'_>], timeout: Option<Duration>) {
    let timeout = timeout.map(|left| Timespec::try_from(left).unwrap_or(LONG));
    // The one error besides EINTR that a correct call can meet is ENOMEM: looking again is right.
    let _ = rustix::event::poll(fds, timeout.as_ref());
}

/// What a time-out beyond the kernel's range becomes; about 30 years.
const LONG: Timespec = Timespec {
    tv_sec: 1_000_000_000,
    tv_nsec: 0,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::channel;

    #[test]
    fn a_report_waits_for_a_master_that_reads_late() {
        let (master, worker) = channel();
        let worker = Channel::new(worker);
        let report = Report::Status("x".repeat(500));
        let frame = report.encode();
        // Fill it until the kernel has no room.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let mut sent = 1;
        while rustix::net::send(&worker.fd, &frame, flags).is_ok() {
            sent += 1;
        }
        std::thread::scope(|scope| {
            let reporter = scope.spawn(|| worker.send(&report));
            for _ in 0..sent {
                let mut buffer = [0; MAX_MESSAGE];
                let read = rustix::net::recv(&master, &mut buffer, RecvFlags::empty());
                assert_eq!(read.unwrap().0, frame.len());
            }
            assert_eq!(reporter.join().unwrap(), Ok(()));
        });
    }

    #[test]
    fn the_end_is_told_from_an_empty_frame() {
        let (master, worker) = channel();
        let worker = Channel::new(worker);
        assert_eq!(worker.receive(), Incoming::Nothing);
        rustix::net::send(&master, b"", SendFlags::empty()).unwrap();
        assert_eq!(worker.receive(), Incoming::Commands(vec![]));
        rustix::net::send(&master, &Command::Drain.encode(), SendFlags::empty()).unwrap();
        drop(master);
        assert_eq!(worker.receive(), Incoming::Commands(vec![Command::Drain]));
        assert_eq!(worker.receive(), Incoming::Closed);
        assert_eq!(worker.receive(), Incoming::Closed);
        worker.report(&Report::Ready);
    }

    #[test]
    fn a_frame_too_long_is_told_as_such() {
        let (master, worker) = channel();
        let worker = Channel::new(worker);
        rustix::net::send(&master, &[b'x'; 9_000], SendFlags::empty()).unwrap();
        let too_long = MessageError::TooLong(MAX_MESSAGE + 1);
        assert_eq!(worker.receive(), Incoming::Garbage(too_long));
        assert_eq!(worker.receive(), Incoming::Nothing, "its rest is gone");
    }
}
