//! A connection that the app has taken over, for threads that may block.

use std::fmt;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use hyper::rt::{Read as _, ReadBuf, Write as _};

use super::block::block_on;
use super::executor::Core;
use crate::waiter::remember;

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
    reading: Arc<Mutex<Reading>>,
}

/// What those who read have in common.
#[derive(Default)]
struct Reading {
    has_ended: bool,
    /// Who waits for bytes.
    waiter: Option<Waker>,
}

impl Upgraded {
    pub(super) fn new(core: &Arc<Core>, io: hyper::upgrade::Upgraded) -> Self {
        Self {
            io: Arc::new(Mutex::new(io)),
            core: Arc::clone(core),
            reading: Arc::default(),
        }
    }

    /// Nothing more is read, whatever still comes: the thread that waits for it finds the end, and so
    /// does every later reader.
    pub fn stop_reading(&self) {
        let waiter = {
            let mut reading = self.reading();
            reading.has_ended = true;
            reading.waiter.take()
        };
        waiter.into_iter().for_each(Waker::wake);
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

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for &Upgraded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        block_on(&self.core, |cx| {
            let mut reading = self.reading();
            if reading.has_ended {
                return Poll::Ready(Ok(()));
            }
            remember(&mut reading.waiter, cx);
            drop(reading);
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
