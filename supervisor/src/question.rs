//! Waits for what a process is asked, and for a signal that ends the asking.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::sys::signals::{self, Signals};

/// What a process is being asked.
pub trait Question {
    /// What comes of it.
    type Outcome;
    /// What becomes readable when there is something to [`advance`](Self::advance).
    fn sources(&self) -> Vec<BorrowedFd<'_>>;
    /// When to [`advance`](Self::advance) at the latest.
    fn deadline(&self) -> Option<Instant>;
    /// Goes on; the outcome, once it is there.
    fn advance(&mut self) -> Option<Self::Outcome>;
    /// Gives it up, and leaves nothing behind.
    fn stop(self);
}

/// Waits for the outcome; `None` when a signal ends the program meanwhile.
///
/// # Errors
/// The system has no descriptor for it.
pub fn wait<Q: Question>(mut question: Q, signals: &mut Signals) -> io::Result<Option<Q::Outcome>> {
    let mut poll = Poll::new()?;
    poll.registry()
        .register(signals, Token(0), Interest::READABLE)?;
    for source in question.sources() {
        let mut source = SourceFd(&source.as_raw_fd());
        poll.registry()
            .register(&mut source, Token(1), Interest::READABLE)?;
    }
    let mut events = Events::with_capacity(8);
    let outcome = loop {
        if let Some(outcome) = question.advance() {
            break Some(outcome);
        }
        let due = question.deadline();
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            polled => polled?,
        }
        if signals::is_told_to_stop(signals) {
            question.stop();
            break None;
        }
    };
    poll.registry().deregister(signals)?;
    Ok(outcome)
}
