//! A connection as a task: a silent one costs a socket and little else.

use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use ::tokio::sync::watch;
use ::tokio::task;
use ::tokio::time::{self, Sleep};
use hyper_util::rt::TokioTimer;
use worker_api::{Changed, Drain, Stage};

use super::boxed::Boxed;
use super::socket::Stream;
use crate::accept::Open;
use crate::conn::Connection;
use crate::lifecycle::Lifecycle;
use crate::service::App;
use crate::setup::Setup;

/// Makes connections run, each in a task.
#[derive(Clone)]
pub(super) struct Spawner<S> {
    setup: Arc<Setup>,
    service: S,
    /// Each connection has a receiver, and so they are counted.
    guests: Arc<watch::Sender<()>>,
}

impl<S> Spawner<S> {
    pub(super) fn new(setup: Arc<Setup>, service: S, guests: Arc<watch::Sender<()>>) -> Self {
        Self {
            setup,
            service,
            guests,
        }
    }
}

impl<S> Spawner<S>
where
    S: App<Answer: Send, Future: Send> + Clone + Send + 'static,
{
    /// Takes an accepted, non-blocking socket.
    pub(super) fn welcome(&self, socket: OwnedFd) {
        let stream = match Stream::new(socket) {
            Ok(stream) => stream,
            Err(error) => return tracing::error!(%error, "cannot watch a connection"),
        };
        task::spawn(Visit {
            setup: Arc::clone(&self.setup),
            phase: Phase::Silent(Silent {
                service: self.service.clone(),
                stream,
                open: self.setup.open(),
                accepted: Instant::now(),
                alarm: None,
            }),
            call: Call::default(),
            _guest: self.guests.subscribe(),
        });
    }
}

/// The task.
struct Visit<S: App> {
    setup: Arc<Setup>,
    phase: Phase<S>,
    call: Call,
    _guest: watch::Receiver<()>,
}

enum Phase<S: App> {
    /// It has not sent a byte.
    Silent(Silent<S>),
    /// Boxed, or the silent ones would need its room as well.
    Speaking(Pin<Box<Connection<Stream, Boxed<S>, TokioTimer>>>),
    Over,
}

struct Silent<S> {
    service: S,
    stream: Stream,
    open: Open,
    accepted: Instant,
    /// Of those that speak, the connection has one.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// Has the task woken when the worker's stage changes. The task has the same waker all its life:
/// one that is left with the drain does for all polls until the next change.
#[derive(Default)]
struct Call(Option<(Stage, Changed)>);

impl Call {
    /// The stage now; `cx` is woken at the next.
    fn stage(&mut self, drain: &Drain, cx: &mut Context<'_>) -> Stage {
        loop {
            let now = drain.stage();
            if self.0.as_ref().is_some_and(|(stage, _)| *stage == now) {
                return now;
            }
            let mut changed = drain.changed(now);
            if Pin::new(&mut changed).poll(cx).is_pending() {
                self.0 = Some((now, changed));
            }
        }
    }
}

// Nothing in it is pinned in place.
impl<S: App> Unpin for Visit<S> {}

impl<S: App> Future for Visit<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self {
            setup, phase, call, ..
        } = self.get_mut();
        let stage = call.stage(&setup.drain, cx);
        if let Phase::Silent(silent) = phase {
            if stage < Stage::Forced {
                ready!(silent.poll(setup, stage, cx));
            }
            *phase = match std::mem::replace(phase, Phase::Over) {
                Phase::Silent(silent) if stage < Stage::Forced => silent.into_speaking(setup),
                _ => Phase::Over,
            };
        }
        match phase {
            Phase::Speaking(connection) => connection.as_mut().poll(cx),
            Phase::Silent(_) | Phase::Over => Poll::Ready(()),
        }
    }
}

impl<S: App> Silent<S> {
    /// Ready when it has spoken, or its time is over: how such a connection ends is the
    /// [`Connection`]'s to say.
    fn poll(&mut self, setup: &Setup, stage: Stage, cx: &mut Context<'_>) -> Poll<()> {
        if self.stream.poll_readable(cx).is_ready() {
            return Poll::Ready(());
        }
        let life = Lifecycle::new(Arc::clone(&setup.limits), self.accepted);
        let Some(at) = life.deadline(stage).map(time::Instant::from) else {
            return Poll::Pending;
        };
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(time::sleep_until(at)));
        if alarm.deadline() != at {
            alarm.as_mut().reset(at);
        }
        alarm.as_mut().poll(cx)
    }

    fn into_speaking(self, setup: &Arc<Setup>) -> Phase<S> {
        let service = Boxed(self.service);
        let timer = TokioTimer::new();
        let (stream, open) = (self.stream, self.open);
        let connection = Connection::late(setup, timer, stream, service, open, self.accepted);
        Phase::Speaking(Box::pin(connection))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;

    use http_body_util::Empty;
    use hyper::service::service_fn;

    use super::*;

    /// Of a connection's task before the first byte.
    fn size_of_visit<S: App>(_: &S) -> usize {
        size_of::<Visit<S>>()
    }

    #[test]
    fn a_silent_connection_has_no_room_for_what_comes_once_it_speaks() {
        let service = service_fn(|request| async move {
            let room = [0_u8; 4096];
            let answer = pending::<http::Response<Empty<bytes::Bytes>>>().await;
            drop((request, room));
            Ok::<_, Infallible>(answer)
        });
        assert!(
            size_of_visit(&service) <= 256,
            "{}",
            size_of_visit(&service)
        );
    }
}
