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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use http::{Request, StatusCode};
    use worker_api::Worker;

    use super::*;
    use crate::checks::{Client, Peer};
    use crate::setup::Setup;

    /// Whoever tells a hint asks first whether the request is answered; the answer may come in
    /// between, and its head be on the way.
    #[test]
    fn a_hint_that_was_told_late_does_not_come_between_a_head_and_its_body() {
        let worker = Worker::builder().standalone_bind("127.0.0.1:0");
        let setup = Setup::new(&worker.init().unwrap());
        let intake = setup.intake(Peer::Local);
        let (client, open) = (Client::direct(None), setup.open());
        let link = Arc::new(Link::<()>::new(setup, client, intake, open, Instant::now()));
        let tell_late = || {
            let hints = &mut link.lock().hints;
            hints.get_or_insert_default().push(Bytes::from("hint"));
            link.hinted.store(true, Ordering::Relaxed);
        };

        let beginning = link.begin(&Request::new(()));
        assert_eq!(beginning.hinted, Some(1));
        link.flushed();
        tell_late();
        let hint = link.hint_before_write(false).unwrap();
        link.wrote_hint(&Poll::Ready(Ok(hint.len())));

        link.answered(StatusCode::OK, false);
        link.flushed();
        tell_late();
        assert_eq!(link.hint_before_write(false), None);
        assert!(!link.has_hints());
    }
}
