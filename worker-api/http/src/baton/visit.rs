//! A connection as a task: a silent one costs a socket and little else.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::rt::Timer;
use worker_api::Stage;

use super::executor::Core;
use super::files::Files;
use super::socket::Stream;
use super::timers::{Alarm, Timers};
use crate::accept::Open;
use crate::conn::Connection;
use crate::lifecycle::Lifecycle;
use crate::service::App;
use crate::setup::Setup;

/// What takes the requests of a house's connections.
pub(super) trait Reception: Send + Sync + 'static {
    /// The app, as one connection has it.
    type App: App<Answer: Send, Future: Send> + Send + 'static;

    /// Who runs the connections.
    fn core(&self) -> &Arc<Core>;

    /// The app for a connection whose responses promise `files`.
    fn app(self: &Arc<Self>, files: Files) -> Self::App;
}

/// What the connections of a worker have in common.
pub(super) struct House<R> {
    pub(super) setup: Arc<Setup>,
    reception: Arc<R>,
}

impl<R: Reception> House<R> {
    pub(super) fn new(setup: Arc<Setup>, reception: Arc<R>) -> Arc<Self> {
        Arc::new(Self { setup, reception })
    }

    /// Who runs the connections.
    pub(super) fn core(&self) -> &Arc<Core> {
        self.reception.core()
    }
}

/// The task.
pub(super) struct Visit<R: Reception> {
    phase: Phase<R>,
}

enum Phase<R: Reception> {
    /// It has not sent a byte.
    Silent(Silent<R>),
    Speaking(Pin<Box<Connection<Stream, R::App, Timers>>>),
    Over,
}

struct Silent<R> {
    house: Arc<House<R>>,
    stream: Stream,
    open: Open,
    accepted: Instant,
    alarm: Alarm,
    deadline: Option<Instant>,
}

impl<R: Reception> Visit<R> {
    pub(super) fn new(house: &Arc<House<R>>, stream: Stream) -> Self {
        let timers = &house.core().timers;
        let accepted = timers.now();
        Self {
            phase: Phase::Silent(Silent {
                house: Arc::clone(house),
                stream,
                open: house.setup.open(),
                accepted,
                alarm: timers.alarm(accepted),
                deadline: None,
            }),
        }
    }
}

impl<R: Reception> Future for Visit<R> {
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

impl<R: Reception> Silent<R> {
    /// Ready when it has spoken, or its time is over: how such a connection ends is the
    /// [`Connection`]'s to say.
    fn poll(&mut self, stage: Stage, cx: &mut Context<'_>) -> Poll<()> {
        if self.stream.poll_readable(cx).is_ready() {
            return Poll::Ready(());
        }
        let life = Lifecycle::new(Arc::clone(&self.house.setup.limits), self.accepted);
        let deadline = life.deadline(stage);
        if deadline != self.deadline
            && let Some(at) = deadline
        {
            self.deadline = deadline;
            self.alarm.set(at);
        }
        Pin::new(&mut self.alarm).poll(cx)
    }

    fn into_speaking(self) -> Phase<R> {
        let House {
            setup, reception, ..
        } = &*self.house;
        let app = reception.app(self.stream.files().clone());
        let timers = reception.core().timers.clone();
        let connection =
            Connection::late(setup, timers, self.stream, app, self.open, self.accepted);
        Phase::Speaking(Box::pin(connection))
    }
}
