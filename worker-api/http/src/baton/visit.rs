//! A connection as a task: a silent one costs a socket and little else.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::rt::Timer;
use worker_api::Stage;

use super::Handler;
use super::call::{Caller, Calls};
use super::socket::Stream;
use super::timers::{Alarm, Timers};
use crate::accept::Open;
use crate::conn::Connection;
use crate::lifecycle::Lifecycle;
use crate::setup::Setup;

/// What the connections of a worker have in common.
pub(super) struct House<H> {
    pub(super) setup: Arc<Setup>,
    pub(super) calls: Arc<Calls<H>>,
    guests: AtomicUsize,
}

/// Counts a connection's task while it lives.
struct Guest<H>(Arc<House<H>>);

impl<H> House<H> {
    pub(super) fn new(setup: Arc<Setup>, calls: Calls<H>) -> Arc<Self> {
        Arc::new(Self {
            setup,
            calls: Arc::new(calls),
            guests: AtomicUsize::new(0),
        })
    }

    /// Whether there is no connection. When the last one of a worker that is on its way out has
    /// gone, all tasks are woken.
    pub(super) fn is_empty(&self) -> bool {
        self.guests.load(Ordering::Acquire) == 0
    }
}

impl<H> Drop for Guest<H> {
    fn drop(&mut self) {
        let House {
            setup,
            calls,
            guests,
        } = &*self.0;
        if guests.fetch_sub(1, Ordering::AcqRel) == 1 && !setup.drain.stage().accepts() {
            calls.core.wake_all();
        }
    }
}

/// The task.
pub(super) struct Visit<H: Handler> {
    phase: Phase<H>,
    _guest: Guest<H>,
}

enum Phase<H: Handler> {
    /// It has not sent a byte.
    Silent(Silent<H>),
    Speaking(Pin<Box<Connection<Stream, Caller<H>, Timers>>>),
    Over,
}

struct Silent<H> {
    house: Arc<House<H>>,
    stream: Stream,
    open: Open,
    accepted: Instant,
    alarm: Alarm,
    deadline: Option<Instant>,
}

impl<H: Handler> Visit<H> {
    pub(super) fn new(house: &Arc<House<H>>, stream: Stream) -> Self {
        let timers = &house.calls.core.timers;
        let accepted = timers.now();
        house.guests.fetch_add(1, Ordering::AcqRel);
        Self {
            phase: Phase::Silent(Silent {
                house: Arc::clone(house),
                stream,
                open: house.setup.open(),
                accepted,
                alarm: timers.alarm(accepted),
                deadline: None,
            }),
            _guest: Guest(Arc::clone(house)),
        }
    }
}

impl<H: Handler> Future for Visit<H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let phase = &mut self.get_mut().phase;
        if let Phase::Silent(silent) = phase {
            let stage = silent.house.setup.drain.stage();
            if stage < Stage::Forced {
                ready!(silent.poll(stage, cx));
            }
            *phase = match std::mem::replace(phase, Phase::Over) {
                Phase::Silent(silent) if stage < Stage::Forced => silent.into_speaking(),
                _ => Phase::Over,
            };
        }
        match phase {
            Phase::Speaking(connection) => connection.as_mut().poll(cx),
            Phase::Silent(_) | Phase::Over => Poll::Ready(()),
        }
    }
}

impl<H: Handler> Silent<H> {
    /// Ready when it has spoken, or its time is over: how such a connection ends is the
    /// [`Connection`]'s to say.
    fn poll(&mut self, stage: Stage, cx: &mut Context<'_>) -> Poll<()> {
        if self.stream.poll_readable(cx).is_ready() {
            return Poll::Ready(());
        }
        let life = Lifecycle::new(self.house.setup.limits, self.accepted);
        let deadline = life.deadline(stage);
        if deadline != self.deadline
            && let Some(at) = deadline
        {
            self.deadline = deadline;
            self.alarm.set(at);
        }
        Pin::new(&mut self.alarm).poll(cx)
    }

    fn into_speaking(self) -> Phase<H> {
        let House { setup, calls, .. } = &*self.house;
        let caller = Caller::new(calls, self.stream.files().clone());
        let timers = calls.core.timers.clone();
        let connection =
            Connection::late(setup, timers, self.stream, caller, self.open, self.accepted);
        Phase::Speaking(Box::pin(connection))
    }
}
