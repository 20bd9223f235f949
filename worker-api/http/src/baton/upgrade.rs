//! A connection that the app has taken over, for threads that may block.

use std::fmt;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::rt::{Read as _, ReadBuf, Write as _};

use super::block::block_on;
use super::executor::Core;

/// A connection whose protocol was switched: bytes both ways, blocking.
///
/// A clone is another handle on the same connection, so that one thread can read while another
/// one writes. The connection ends when the last handle is dropped.
///
/// The drain waits for it: end it when [`Drain`](worker_api::Drain) says so.
#[derive(Clone)]
pub struct Upgraded {
    /// Locked for a poll, never while somebody waits.
    io: Arc<Mutex<hyper::upgrade::Upgraded>>,
    core: Arc<Core>,
}

impl Upgraded {
    pub(super) fn new(core: &Arc<Core>, io: hyper::upgrade::Upgraded) -> Self {
        Self {
            io: Arc::new(Mutex::new(io)),
            core: Arc::clone(core),
        }
    }

    /// Says to the peer that nothing more will be written.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn shutdown(&self) -> io::Result<()> {
        block_on(&self.core, |cx| Pin::new(&mut *self.io()).poll_shutdown(cx))
    }

    fn io(&self) -> MutexGuard<'_, hyper::upgrade::Upgraded> {
        self.io.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for &Upgraded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        block_on(&self.core, |cx| {
            Pin::new(&mut *self.io()).poll_read(cx, buf.unfilled())
        })?;
        Ok(buf.filled().len())
    }
}

impl Write for &Upgraded {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        block_on(&self.core, |cx| {
            Pin::new(&mut *self.io()).poll_write(cx, buf)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        block_on(&self.core, |cx| Pin::new(&mut *self.io()).poll_flush(cx))
    }
}

impl Read for Upgraded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for Upgraded {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").finish_non_exhaustive()
    }
}
