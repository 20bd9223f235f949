//! Accepting, as tasks of tokio.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use hyper_util::rt::TokioTimer;
use worker_api::{Drain, Listener, Stage};

use super::visit::Spawner;
use super::watched::Watched;
use crate::accept::Acceptor;
use crate::service::App;
use crate::setup::Setup;

/// Takes the connections of one listener.
pub(super) struct Door {
    acceptor: Acceptor<Watched, TokioTimer>,
}

impl Door {
    pub(super) fn new(setup: &Setup, listener: Listener) -> io::Result<Self> {
        let listener = Arc::new(listener);
        let (seat, watched) = match Watched::in_tokios_epoll(&listener)? {
            Some(both) => both,
            None => Watched::in_own_epoll(&listener)?,
        };
        let acceptor = Acceptor::new(setup, listener, seat, watched, TokioTimer::new())?;
        Ok(Self { acceptor })
    }

    /// Accepts until the worker takes no more connections.
    pub(super) async fn serve<S>(mut self, spawner: Spawner<S>, drain: Drain) -> Self
    where
        S: App<Answer: Send, Future: Send> + Clone + Send + 'static,
    {
        let mut told = pin!(drain.reached(Stage::Retiring));
        let mut welcome = move |socket| spawner.welcome(socket);
        poll_fn(|cx| {
            // For its waking; the acceptor asks for the stage itself.
            let _ = told.as_mut().poll(cx);
            self.acceptor.poll_serving(cx, &mut welcome)
        })
        .await;
        self
    }

    /// Takes what waits in the queue, and closes the listener.
    pub(super) async fn empty<S>(mut self, spawner: Spawner<S>)
    where
        S: App<Answer: Send, Future: Send> + Clone + Send + 'static,
    {
        let mut welcome = move |socket| spawner.welcome(socket);
        poll_fn(|cx| self.acceptor.poll_last_round(cx, &mut welcome)).await;
    }
}
