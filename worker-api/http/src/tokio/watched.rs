//! How tokio watches a listener.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as Descriptor;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::tokio::io::Interest;
use ::tokio::net::UnixStream;
use rustix::event::epoll::{self, CreateFlags};
use worker_api::Listener;

use crate::accept::{Seat, Watch};

/// What tokio was told to watch: a listener, or an epoll with a listener in it.
///
/// tokio's own type for a descriptor of any kind takes an unsafe promise. Of its sockets, a stream
/// is one that tells of events and does nothing of itself; so that is what it takes this for.
pub(super) struct Watched(Arc<UnixStream>);

impl Watched {
    /// A seat in tokio's own epoll, where it has put the listener just now. tokio knows no
    /// exclusive waiters, and an epoll in its epoll cannot be one: the kernel takes a waiter that
    /// sleeps somewhere else for one that does not sleep, and wakes the next as well.
    ///
    /// `None` if tokio's epoll is not to be found.
    pub(super) fn in_tokios_epoll(listener: &Arc<Listener>) -> io::Result<Option<(Seat, Self)>> {
        let watched = Self::new(listener.as_fd().try_clone_to_owned()?)?;
        // The name that is used is tokio's, as the kernel has it. It is good for as long as tokio
        // watches the listener, which ends with `watched`; the acceptor gives up the seat before.
        let Some((epoll, data)) = find_epoll_of(&watched.0)? else {
            return Ok(None);
        };
        let seat = Seat::new(epoll, data, Arc::clone(&watched.0) as _);
        Ok(Some((seat, watched)))
    }

    /// A seat in an epoll of its own, which tokio watches.
    pub(super) fn in_own_epoll(listener: &Arc<Listener>) -> io::Result<(Seat, Self)> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let watched = Self::new(epoll.try_clone()?)?;
        Ok((Seat::new(epoll, 0, Arc::clone(listener) as _), watched))
    }

    fn new(fd: OwnedFd) -> io::Result<Self> {
        let descriptor = Descriptor::from(fd);
        // tokio insists on it, even where it makes no difference.
        descriptor.set_nonblocking(true)?;
        Ok(Self(Arc::new(UnixStream::from_std(descriptor)?)))
    }
}

impl Watch for Watched {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_read_ready(cx))?;
        // Whether it is ready still does not matter: the seat tells of what is left. So tokio is
        // told that it is not.
        let taken = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = self.0.try_io(Interest::READABLE, taken);
        Poll::Ready(Ok(()))
    }
}

/// The epoll of this process that watches a descriptor, and its name there. `None` if there is
/// none, or if it is not clear which.
fn find_epoll_of(watched: &UnixStream) -> io::Result<Option<(OwnedFd, u64)>> {
    let raw = watched.as_raw_fd();
    let inode = rustix::fs::fstat(watched)?.st_ino;
    // Without /proc nothing is found.
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Ok(None);
    };
    let mut found = None;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_epoll = fs::read_link(entry.path())
            .is_ok_and(|target| target.as_os_str() == "anon_inode:[eventpoll]");
        let number = name.to_str().and_then(|name| name.parse::<RawFd>().ok());
        let (true, Some(number)) = (is_epoll, number) else {
            continue;
        };
        let info = fs::read_to_string(Path::new("/proc/self/fdinfo").join(name));
        let Some(data) = info.ok().and_then(|info| name_in(&info, raw, inode)) else {
            continue;
        };
        match found {
            // A copy of the same descriptor: tokio has two.
            Some((_, known)) if known == data => {}
            Some(_) => return Ok(None),
            None => found = Some((number, data)),
        }
    }
    let Some((number, data)) = found else {
        return Ok(None);
    };
    Ok(Some((worker_api::duplicate(number)?, data)))
}

/// What an epoll calls a descriptor, by what the kernel tells of that epoll; see
/// proc_pid_fdinfo(5).
fn name_in(info: &str, raw: RawFd, inode: u64) -> Option<u64> {
    let field = |line: &str, name: &str| {
        let rest = line.split_once(name)?.1.trim_start();
        rest.split_whitespace().next().map(str::to_owned)
    };
    let line = info.lines().find(|line| {
        let number = field(line, "tfd:").and_then(|text| text.parse::<RawFd>().ok());
        let target = field(line, "ino:").and_then(|text| u64::from_str_radix(&text, 16).ok());
        number == Some(raw) && target == Some(inode)
    })?;
    u64::from_str_radix(&field(line, "data:")?, 16).ok()
}
