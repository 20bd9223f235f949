//! Hosts: the fork servers of Python apps, one for each generation.
//!
//! A host is started with the first order of its generation. Orders wait here
//! until it is Ready; then each becomes a message with the worker's end of its
//! control channel, and the answer makes the worker a process like any other.
//! A host that dies fails what it has not answered; its workers stay.

mod answers;
mod hooks;
mod message;
mod orders;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::libc::SIGKILL;
use rustix::process::Pid;
use worker_api::scoreboard::Row;

use crate::fleet::{self, Generation, Moment, WorkerId};
use crate::ops::{Depth, HostView};
use crate::sys::channel::Channel;
use crate::sys::signals;
use crate::sys::spawn::Child;

use super::crew::{TOKENS_END, register};
use super::view::resident;
pub(super) use hooks::Gone;
use message::Order;

/// How long a host that is not needed any more may take to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which of a host's descriptors a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostSource {
    /// Its pidfd: it is dead.
    Life,
    /// Its channel.
    Channel,
}

/// A host is known by its number, which no other ever has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HostNumber(usize);

impl HostSource {
    fn token(self, host: HostNumber) -> Token {
        Token(TOKENS_END + host.0 * 2 + self as usize)
    }

    pub(super) fn of(token: Token) -> Option<(HostNumber, Self)> {
        let number = token.0.checked_sub(TOKENS_END)?;
        let source = if number % 2 == 0 {
            Self::Life
        } else {
            Self::Channel
        };
        Some((HostNumber(number / 2), source))
    }
}

/// All hosts that are not reaped yet.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    hosts: Vec<Host>,
    /// How many were started so far.
    started: usize,
    /// One of them has been Ready: what belongs to the start has been done.
    has_been_ready: bool,
}

/// One host.
#[derive(Debug)]
pub(super) struct Host {
    number: HostNumber,
    generation: Generation,
    state: State,
    started: Moment,
    ready_at: Option<Moment>,
    /// Workers that were ordered and are not there yet.
    asked: Vec<Asked>,
    child: Child,
    /// Closed to tell it that it may go.
    channel: Option<Channel>,
    /// What the channel had no room for yet.
    unsent: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    /// It was told that it may go.
    dismissed: bool,
    /// We killed it.
    killed: bool,
    /// Why it cannot go on, by its own word.
    fatal: Option<String>,
    greeted: bool,
    /// Frames that made no sense are told once.
    garbled: bool,
}

/// What is awaited of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// `READY=1`.
    Booting,
    /// Nothing: it takes orders.
    Ready,
    /// Its end, before `kill_at`.
    Leaving { kill_at: Moment },
    /// To be reaped.
    Killed,
}

/// A worker that was ordered.
#[derive(Debug)]
struct Asked {
    order: fleet::Order,
    /// The host was told; until then it has only been waited for.
    fork: Option<Fork>,
}

/// What a worker will have when it is there.
#[derive(Debug)]
struct Fork {
    channel: Channel,
    row: Option<Row>,
    /// Signals that came too early.
    signals: Vec<i32>,
}

impl Hosts {
    /// The host that takes orders for a generation.
    fn of(&mut self, generation: Generation) -> Option<&mut Host> {
        let mut hosts = self.hosts.iter_mut();
        hosts.find(|host| host.generation == generation && host.takes_orders())
    }

    fn get(&mut self, number: HostNumber) -> Option<&mut Host> {
        self.hosts.iter_mut().find(|host| host.number == number)
    }

    pub(super) fn by_pid(&self, pid: Pid) -> Option<HostNumber> {
        let host = self.hosts.iter().find(|host| host.child.pid == pid)?;
        Some(host.number)
    }

    /// The host that was asked for this worker, and has not answered.
    fn asked_for(&mut self, worker: WorkerId) -> Option<(&mut Host, usize)> {
        self.hosts.iter_mut().find_map(|host| {
            let mut asked = host.asked.iter();
            let at = asked.position(|asked| asked.order.worker == worker)?;
            Some((host, at))
        })
    }

    fn numbers(&self) -> Vec<HostNumber> {
        self.hosts.iter().map(|host| host.number).collect()
    }

    /// Whether a child may have been forked that is not known yet.
    fn owe_an_answer(&self) -> bool {
        let mut asked = self.hosts.iter().flat_map(|host| &host.asked);
        asked.any(|asked| asked.fork.is_some())
    }

    /// Whether all are reaped.
    pub(super) fn are_gone(&self) -> bool {
        self.hosts.is_empty()
    }

    /// When the next one is to be killed.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let deadlines = self.hosts.iter().filter_map(|host| match host.state {
            State::Leaving { kill_at } => Some(kill_at),
            _ => None,
        });
        deadlines.min()
    }

    /// What `/status` shows.
    pub(super) fn views(&self, depth: Depth, now: Moment) -> Vec<HostView> {
        let views = self.hosts.iter().map(|host| HostView {
            pid: Pid::as_raw(Some(host.child.pid)).unsigned_abs(),
            generation: host.generation.0,
            state: host.state_name(),
            age: now - host.started,
            rss_bytes: resident(host.child.pid, depth),
        });
        views.collect()
    }
}

impl Host {
    fn takes_orders(&self) -> bool {
        matches!(self.state, State::Booting | State::Ready)
    }

    fn state_name(&self) -> &'static str {
        match self.state {
            State::Booting => "booting",
            State::Ready => "ready",
            State::Leaving { .. } => "leaving",
            State::Killed => "killed",
        }
    }

    /// Tell the host; what does not fit now is sent when it has read.
    fn tell(&mut self, order: Order) {
        self.unsent.push_back((order.encode(), None));
        self.flush();
    }

    /// Send what is waiting.
    fn flush(&mut self) {
        let Some(channel) = &self.channel else {
            return self.unsent.clear();
        };
        // Before it is Ready nobody reads.
        if self.state == State::Booting {
            return;
        }
        while let Some((frame, descriptor)) = self.unsent.front() {
            let descriptor = descriptor.as_ref().map(AsFd::as_fd);
            match channel.pass(frame, descriptor) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A host that closed its end is dead, or soon will be.
                Ok(()) | Err(_) => self.unsent.pop_front(),
            };
        }
    }

    /// Nobody is to be forked by it any more. One that is Ready gets `last` to
    /// do, or only the end of its channel; one that is not has nothing to end.
    fn dismiss(&mut self, last: Option<Order>, patience: Duration, now: Moment) {
        self.dismissed = true;
        match self.state {
            State::Booting => self.kill(),
            State::Ready => {
                if let Some(last) = last {
                    self.tell(last);
                }
                self.state = State::Leaving {
                    kill_at: now + patience,
                };
                if last.is_none() {
                    self.close_when_answered();
                }
            }
            State::Leaving { .. } | State::Killed => {}
        }
    }

    /// The end of the channel ends the host; but first it may say whom it has forked.
    fn close_when_answered(&mut self) {
        if matches!(self.state, State::Leaving { .. }) && self.asked.is_empty() {
            self.channel = None;
        }
    }

    /// Kill it, and what it has started; its workers lead groups of their own.
    fn kill(&mut self) {
        self.killed = true;
        self.state = State::Killed;
        let killed = signals::send(&self.child.pidfd, SIGKILL)
            .and_then(|()| signals::kill_group(self.child.pid));
        if let Err(error) = killed {
            let pid = Pid::as_raw(Some(self.child.pid));
            tracing::warn!(pid, "a host could not be killed: {error}");
        }
    }

    fn register(&self, registry: &Registry) -> io::Result<()> {
        let life = HostSource::Life.token(self.number);
        register(&self.child.pidfd, life, Interest::READABLE, registry)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        let token = HostSource::Channel.token(self.number);
        match &self.channel {
            Some(channel) => register(channel, token, both, registry),
            None => Ok(()),
        }
    }

    fn deregister(&self, registry: &Registry) {
        let channel = self
            .channel
            .as_ref()
            .map(|channel| channel.as_fd().as_raw_fd());
        for fd in channel.into_iter().chain([self.child.pidfd.as_raw_fd()]) {
            let _ = registry.deregister(&mut SourceFd(&fd));
        }
    }
}
