//! What has come on a connection and hyper does not have yet.

use std::net::SocketAddr;

use hyper::rt::ReadBufCursor;

use crate::checks::proxy::{self, Beginning};
use crate::checks::{Oddity, Refusal, Rules, Wait, Watcher};

/// Stands between the socket and hyper: holds back what is not complete or not to be read yet.
#[derive(Debug)]
pub(crate) struct Intake {
    watcher: Watcher,
    /// Bytes that hyper does not have.
    held: Vec<u8>,
    /// So many of them it may have.
    passed: usize,
    /// A PROXY header may come first; whether the peer may send one.
    proxy: Option<bool>,
    source: Option<SocketAddr>,
    /// Why the beginning is refused.
    refusal: Option<Refusal>,
    /// What is wrong with a body has been told.
    told_fault: bool,
    /// The peer sends no more; and whether hyper is to know it while it works on an answer.
    ended: bool,
    given_up: bool,
}

/// Where hyper's next bytes come from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Supply {
    /// They are in its buffer.
    Given,
    /// The socket.
    Socket,
    /// From nowhere, until the answer is out that it is working on.
    Later,
    /// There are no more.
    End,
    /// There are no more, since the sender of what came instead is refused.
    Refused(Refusal),
    /// The body that it reads goes wrong.
    Broken(Refusal),
}

impl Intake {
    /// For a connection whose peer is believed or not. Where a PROXY header may come first, `proxy` says
    /// whether that is believed.
    pub(crate) fn new(rules: Rules, trusts: bool, proxy: Option<bool>) -> Self {
        Self {
            watcher: Watcher::new(rules, trusts),
            held: Vec::new(),
            passed: 0,
            proxy,
            source: None,
            refusal: None,
            told_fault: false,
            ended: false,
            given_up: false,
        }
    }

    /// Gives hyper what it may have. `is_busy` says whether an answer is on its way.
    pub(crate) fn supply(
        &mut self,
        buf: &mut ReadBufCursor<'_>,
        is_busy: impl Fn() -> bool,
    ) -> Supply {
        loop {
            if self.passed > 0 {
                self.give(self.passed, buf);
                return Supply::Given;
            }
            if self.given_up {
                return Supply::End;
            }
            let refusal = self.refusal.or(match self.watcher.fault() {
                Some(fault) if fault.body_of.is_some() => return Supply::Broken(fault.refusal),
                fault => fault.map(|fault| fault.refusal),
            });
            let wait = self.watcher.wait();
            if refusal.is_none() && wait.is_none() && !self.ended {
                return Supply::Socket;
            }
            // hyper would give up on a peer that sends no more; but that can still read.
            if is_busy() && !self.is_in_body() {
                // The socket only as long as it is silent, to hear of its end.
                let silent = refusal.is_none() && self.held.is_empty() && !self.ended;
                return match silent {
                    true => Supply::Socket,
                    false => Supply::Later,
                };
            }
            match (refusal, wait) {
                (Some(refusal), _) => return Supply::Refused(refusal),
                (None, Some(Wait::Over) | None) => return Supply::End,
                (None, Some(Wait::Verdict)) if self.ended && self.held.is_empty() => {
                    return Supply::End;
                }
                (None, Some(Wait::Verdict)) => {
                    self.watcher.declined();
                    self.pass_held();
                }
            }
        }
    }

    /// Takes what came from the socket: so many bytes of it hyper may have at once.
    #[inline]
    pub(crate) fn take(&mut self, came: &[u8]) -> usize {
        if came.is_empty() {
            self.end();
            return 0;
        }
        if self.held.is_empty() && self.proxy.is_none() {
            let passed = self.watcher.pass(came);
            let (front, rest) = came.split_at(passed);
            if let Some(edited) = self.watcher.edited(front) {
                self.passed = edited.len();
                self.held = edited;
            }
            self.held.extend_from_slice(rest);
            return if self.passed > 0 { 0 } else { passed };
        }
        self.held.extend_from_slice(came);
        if let Some(believed) = self.proxy {
            match proxy::read(&self.held, believed) {
                Ok(Beginning::Unclear) => return 0,
                Ok(Beginning::Other) => {}
                Ok(Beginning::Header { len, source }) => {
                    self.held.drain(..len);
                    self.source = source;
                }
                Err(refusal) => {
                    self.refusal = Some(refusal);
                    return 0;
                }
            }
            self.proxy = None;
        }
        self.pass_held();
        0
    }

    /// Takes what came, or the end, while hyper is not to have it.
    pub(crate) fn keep(&mut self, came: &[u8]) {
        if came.is_empty() {
            self.end();
        } else {
            self.held.extend_from_slice(came);
            self.pass_held();
        }
    }

    /// Whether the socket may be read while an answer is on its way: nothing of what comes next is
    /// here, and more of its request is not waited for.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty() && !self.goes_no_further() && !self.is_in_body()
    }

    /// For an app that has taken the connection over: what came before it did.
    pub(crate) fn give_raw(&mut self, buf: &mut ReadBufCursor<'_>) -> bool {
        let there = !self.held.is_empty();
        self.give(self.held.len(), buf);
        there
    }

    /// Whether bytes of a message are held here.
    pub(crate) fn has_bytes(&self) -> bool {
        self.passed > 0 || !self.watcher.is_blank(&self.held)
    }

    /// Whether what comes next is a part of a request's body.
    #[inline]
    pub(crate) fn is_in_body(&self) -> bool {
        self.watcher.is_in_body()
    }

    /// Whether the peer sends no more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the peer has left after a whole request, and is not waited for any longer.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up && !self.is_in_body() && self.watcher.fault().is_none()
    }

    /// Nothing more is waited for: neither the rest of a body, nor somebody who has left.
    pub(crate) fn give_up(&mut self) {
        self.given_up = self.ended;
        self.watcher.give_up();
    }

    /// Whether hyper waits here for the end of an answer.
    pub(crate) fn waits_for_answer(&self) -> bool {
        self.goes_no_further() || self.watcher.wait().is_some()
    }

    /// Whether nothing comes, or nothing that counts.
    fn goes_no_further(&self) -> bool {
        self.ended || self.refusal.is_some() || self.watcher.fault().is_some()
    }

    /// What there is to tell the service since this was asked last.
    #[inline]
    pub(crate) fn news(&mut self) -> Option<News> {
        let fault = self.watcher.fault();
        let fault = fault.filter(|fault| fault.body_of.is_some() && !self.told_fault);
        if !self.watcher.is_odd() && self.source.is_none() && fault.is_none() {
            return None;
        }
        self.told_fault |= fault.is_some();
        Some(News {
            oddities: self.watcher.take_oddities(),
            source: self.source.take(),
            broken: fault.and_then(|fault| Some((fault.body_of?, fault.refusal))),
        })
    }

    fn end(&mut self) {
        self.ended = true;
        self.watcher.end();
    }

    fn pass_held(&mut self) {
        self.passed = self.watcher.pass(&self.held);
        let (front, rest) = self.held.split_at(self.passed);
        if let Some(mut edited) = self.watcher.edited(front) {
            self.passed = edited.len();
            edited.extend_from_slice(rest);
            self.held = edited;
        }
    }

    fn give(&mut self, most: usize, buf: &mut ReadBufCursor<'_>) {
        let len = most.min(buf.remaining());
        buf.put_slice(&self.held[..len]);
        self.passed = self.passed.saturating_sub(len);
        self.held.drain(..len);
        if self.held.is_empty() {
            // It is seldom needed, and an idle connection shall be small.
            self.held = Vec::new();
        }
    }
}

/// What the service has to know of what came.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) oddities: Vec<Oddity>,
    /// Whom the PROXY header names.
    pub(crate) source: Option<SocketAddr>,
    /// The message whose body goes wrong, counted from 1, and why.
    pub(crate) broken: Option<(u64, Refusal)>,
}
