//! A listener's place in an epoll, among all the workers that wait for the same connections.
//!
//! The kernel keeps a queue of waiters for each listener. An exclusive waiter that sleeps is woken
//! alone, the first in the queue first; one that leaves and joins anew is the last. So each takes
//! its turn, and a worker that is at work, and does not sleep in its epoll, is passed over.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

/// See the module. Every event says the same: have a look.
pub(crate) struct Seat {
    epoll: OwnedFd,
    data: u64,
    listener: Arc<dyn AsFd + Send + Sync>,
}

impl Seat {
    /// A seat in `epoll`, where `data` names the listener. If somebody else has put it there, it
    /// is to be the same descriptor, and the same name.
    pub(crate) fn new(epoll: OwnedFd, data: u64, listener: Arc<dyn AsFd + Send + Sync>) -> Self {
        Self {
            epoll,
            data,
            listener,
        }
    }

    /// Becomes the last in the queue of those of whom one is woken for each connection.
    /// Connections that wait already are told of, too.
    pub(crate) fn queue_up(&self) -> io::Result<()> {
        self.join(EventFlags::IN | EventFlags::ET | EventFlags::EXCLUSIVE)
    }

    /// Is told of the next connection, or of one that waits already, and of none after that. This
    /// takes no turn of another's away.
    pub(crate) fn look_on(&self) -> io::Result<()> {
        self.join(EventFlags::IN | EventFlags::ET | EventFlags::ONESHOT)
    }

    /// Is told of nothing.
    pub(crate) fn leave(&self) -> io::Result<()> {
        match epoll::delete(&self.epoll, self.listener.as_fd()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn join(&self, flags: EventFlags) -> io::Result<()> {
        // Not a change of what is there: that keeps the place in the queue, and the kernel allows
        // none where `EXCLUSIVE` is concerned.
        self.leave()?;
        let data = EventData::new_u64(self.data);
        Ok(epoll::add(&self.epoll, self.listener.as_fd(), data, flags)?)
    }
}
