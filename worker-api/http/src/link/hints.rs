//! Early hints of the request that runs: taken from anywhere, written by the connection's task.

use std::io;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;

use super::Link;
use crate::hints::{Hinted, Moment};

impl<T> Link<T> {
    /// Whether there may be hints to write.
    pub(crate) fn has_hints(&self) -> bool {
        self.hinted.load(Ordering::Relaxed)
    }

    /// What is to be written before anything of HTTP's; `begun` says whether HTTP is about to write
    /// the rest of something.
    pub(crate) fn hint_before_write(&self, begun: bool) -> Option<Bytes> {
        // The last answer may be in HTTP's hands still, to its first byte.
        let owes = begun || self.owes.load(Ordering::Relaxed);
        self.next_hint(if owes {
            Moment::Within
        } else {
            Moment::Between
        })
    }

    /// What is to be written now that all is out that HTTP had.
    pub(crate) fn hint_after_flush(&self) -> Option<Bytes> {
        self.next_hint(Moment::After)
    }

    fn next_hint(&self, moment: Moment) -> Option<Bytes> {
        let mut shared = self.lock();
        let is_answered = shared.request.is_none() || self.has_answer();
        let Some(hints) = &mut shared.hints else {
            self.hinted.store(false, Ordering::Relaxed);
            return None;
        };
        let next = hints.next(moment, is_answered);
        self.hinted.store(!hints.is_empty(), Ordering::Relaxed);
        next
    }

    /// So much of the hint was written, if it was.
    pub(crate) fn wrote_hint(&self, polled: &Poll<io::Result<usize>>) {
        self.wrote(polled);
        if let Poll::Ready(Ok(len)) = polled
            && let Some(hints) = &mut self.lock().hints
        {
            hints.wrote(*len);
        }
    }
}

impl<T: Send> Hinted for Link<T> {
    fn hint(&self, request: u64, head: Bytes) {
        let task = {
            let mut shared = self.lock();
            let runs = shared.dispatched == request && shared.request.is_some();
            if !runs || self.has_answer() {
                return;
            }
            shared.hints.get_or_insert_default().push(head);
            self.hinted.store(true, Ordering::Relaxed);
            shared.task.clone()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}
