//! How tokio watches a listener.
#![expect(unsafe_code, reason = "tokio wants to be sure of a descriptor")]

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use rustix::event::epoll::{self, CreateFlags};
use worker_api::Listener;

use crate::accept::{Seat, Watch};

/// What tokio was told to watch: a listener, or an epoll with a listener in it.
pub(super) struct Watched(AsyncFd<Fd>);

enum Fd {
    Listener(Arc<Listener>),
    Epoll(OwnedFd),
}

impl Watched {
    /// A seat in tokio's own epoll, where it has put the listener just now. tokio knows no
    /// exclusive waiters, and an epoll in its epoll cannot be one: the kernel takes a waiter that
    /// sleeps somewhere else for one that does not sleep, and wakes the next as well.
    ///
    /// `None` if tokio's epoll is not to be found.
    pub(super) fn in_tokios_epoll(listener: &Arc<Listener>) -> io::Result<Option<(Seat, Self)>> {
        let raw = listener.as_raw_fd();
        let watched = Self::new(Fd::Listener(Arc::clone(listener)))?;
        // The name that is used is tokio's, as the kernel has it. It is good for as long as tokio
        // watches the listener, which ends with `watched`; the acceptor gives up the seat before.
        let seat = match find_epoll_of(raw, listener)? {
            Some((epoll, data)) => Seat::in_epoll_of(epoll, data, listener)?,
            None => return Ok(None),
        };
        Ok(Some((seat, watched)))
    }

    /// A seat in an epoll of its own, which tokio watches.
    pub(super) fn in_own_epoll(listener: &Arc<Listener>) -> io::Result<(Seat, Self)> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let watched = Self::new(Fd::Epoll(epoll.try_clone()?))?;
        Ok((Seat::new(epoll, 0, listener), watched))
    }

    fn new(fd: Fd) -> io::Result<Self> {
        // SAFETY: `fd` owns its descriptor, whose number does not change, and is not given out.
        let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        watched.map(Self).map_err(|error| error.into_parts().1)
    }
}

impl Watch for Watched {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whether it is ready still does not matter: the seat tells of what is left.
        ready!(self.0.poll_read_ready(cx))?.clear_ready();
        Poll::Ready(Ok(()))
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Listener(listener) => listener.as_raw_fd(),
            Self::Epoll(epoll) => epoll.as_raw_fd(),
        }
    }
}

/// The epoll of this process that watches a listener, and the listener's name there. `None` if
/// there is none, or if it is not clear which.
fn find_epoll_of(raw: RawFd, listener: &impl AsFd) -> io::Result<Option<(RawFd, u64)>> {
    let inode = rustix::fs::fstat(listener)?.st_ino;
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
    Ok(found)
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
