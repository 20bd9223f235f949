//! SIGTERM and SIGINT, with handlers that do no work and call what was there before them.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::channel::wait;

/// Under a master both signals mean nothing: the command on the channel does. They must only not
/// kill the worker, which is their default. A handler that the app installed runs as before, and
/// one that it installs later takes this one's place, which loses nothing.
pub(crate) fn survive() -> io::Result<()> {
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}

/// Without a master the signals are the commands; each comes through a pipe of its own.
pub(crate) struct Signals {
    terminate: UnixStream,
    interrupt: UnixStream,
}

impl Signals {
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: piped(SIGTERM)?,
            interrupt: piped(SIGINT)?,
        })
    }

    /// Waits for signals; tells whether SIGTERM and whether SIGINT came.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> (bool, bool) {
        let mut fds = [
            PollFd::new(&self.terminate, PollFlags::IN),
            PollFd::new(&self.interrupt, PollFlags::IN),
        ];
        wait(&mut fds, timeout);
        (came(&self.terminate), came(&self.interrupt))
    }
}

fn piped(signal: i32) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal, write)?;
    Ok(read)
}

fn came(mut pipe: &UnixStream) -> bool {
    pipe.read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0)
}
