//! Accepting, as a task: while the worker takes connections, and the last round before the
//! listener closes.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use worker_api::{Listener, Stage};

use super::reactor::{Side, Source};
use super::socket::Stream;
use super::timers::Timers;
use super::visit::{House, Reception, Visit};
use crate::accept::{Acceptor, Watch};

pub(super) struct Accepting<R> {
    acceptor: Acceptor<Arc<Source>, Timers>,
    source: Arc<Source>,
    house: Arc<House<R>>,
    serves: bool,
}

impl<R: Reception> Accepting<R> {
    pub(super) fn new(house: &Arc<House<R>>, listener: Listener) -> io::Result<Self> {
        let core = house.core();
        let listener = Arc::new(listener);
        let (source, seat) = core.reactor.seat(&listener)?;
        let (watch, timers) = (Arc::clone(&source), core.timers.clone());
        Ok(Self {
            acceptor: Acceptor::new(&house.setup, listener, seat, watch, timers)?,
            source,
            house: Arc::clone(house),
            serves: true,
        })
    }
}

impl<R: Reception> Future for Accepting<R> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self {
            acceptor,
            source,
            house,
            serves,
        } = self.get_mut();
        let mut welcome = |socket| welcome(house, socket);
        if *serves {
            ready!(acceptor.poll_serving(cx, &mut welcome));
            *serves = false;
            house.core().reactor.forget(source);
        }
        // If a reload has removed the address, what waits in the queue is served here or nowhere.
        match house.setup.drain.stage() {
            Stage::Forced => Poll::Ready(()),
            _ => acceptor.poll_last_round(cx, &mut welcome),
        }
    }
}

impl Watch for Arc<Source> {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let seen = ready!(self.poll(Side::Read, cx));
        self.emptied(Side::Read, seen);
        Poll::Ready(Ok(()))
    }
}

fn welcome<R: Reception>(house: &Arc<House<R>>, socket: OwnedFd) {
    let core = house.core();
    match Stream::new(core, socket) {
        Ok(stream) => core.spawn(Visit::new(house, stream)),
        Err(error) => tracing::error!(%error, "cannot watch a connection"),
    }
}
