//! What a process is asked: it has so long to answer, and a signal may end the asking.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::process::Pid;

use crate::sys::inquiry::{Answer, Inquiry};
use crate::sys::signals::{self, Signals};

/// A process that is being asked.
#[derive(Debug)]
pub struct Question<M> {
    inquiry: Inquiry,
    deadline: Instant,
    is_late: bool,
    meaning: M,
}

/// What is made of an answer.
pub trait Meaning {
    /// What comes of the question.
    type Outcome;
    /// Of the process that has ended; `is_late`: it was killed since it took too long.
    fn conclude(&self, answer: &Answer, is_late: bool) -> Self::Outcome;
}

impl<M: Meaning> Question<M> {
    /// What was just asked, to be answered within so long.
    pub fn new(inquiry: Inquiry, limit: Duration, meaning: M) -> Self {
        Self {
            inquiry,
            deadline: Instant::now() + limit,
            is_late: false,
            meaning,
        }
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.inquiry.pid()
    }

    /// What becomes readable when there is something to [`advance`](Self::advance).
    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.inquiry.sources()
    }

    /// When to [`advance`](Self::advance) at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        (!self.is_late).then_some(self.deadline)
    }

    /// Goes on; the outcome, once it is there.
    pub fn advance(&mut self) -> Option<M::Outcome> {
        if !self.is_late && self.deadline <= Instant::now() {
            self.is_late = true;
            self.inquiry.kill();
        }
        let answer = self.inquiry.advance()?;
        Some(self.meaning.conclude(&answer, self.is_late))
    }

    /// Gives it up, and leaves nothing behind.
    pub fn stop(self) {
        self.inquiry.end();
    }

    /// Waits for the outcome; `None` when a signal ends the program meanwhile.
    ///
    /// # Errors
    /// The system has no descriptor for it.
    pub fn wait(mut self, signals: &mut Signals) -> io::Result<Option<M::Outcome>> {
        let mut poll = Poll::new()?;
        poll.registry()
            .register(signals, Token(0), Interest::READABLE)?;
        for source in self.sources() {
            let mut source = SourceFd(&source.as_raw_fd());
            poll.registry()
                .register(&mut source, Token(1), Interest::READABLE)?;
        }
        let mut events = Events::with_capacity(8);
        let outcome = loop {
            if let Some(outcome) = self.advance() {
                break Some(outcome);
            }
            let due = self.deadline();
            let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
            match poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                polled => polled?,
            }
            if signals::is_told_to_stop(signals) {
                self.stop();
                break None;
            }
        };
        poll.registry().deregister(signals)?;
        Ok(outcome)
    }
}
