//! Accepting, as a task: while the worker takes connections, and the last round before the
//! listener closes.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use worker_api::{Listener, Stage};

use super::Handler;
use super::reactor::{Side, Source};
use super::socket::Stream;
use super::timers::Timers;
use super::visit::{House, Visit};
use crate::accept::{Acceptor, Watch};

pub(super) struct Accepting<H> {
    acceptor: Acceptor<Arc<Source>, Timers>,
    source: Arc<Source>,
    house: Arc<House<H>>,
    serves: bool,
}

impl<H: Handler> Accepting<H> {
    pub(super) fn new(house: &Arc<House<H>>, listener: Listener) -> io::Result<Self> {
        let core = &house.calls.core;
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

impl<H: Handler> Future for Accepting<H> {
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
            house.calls.core.reactor.forget(source);
        }
        match house.setup.drain.stage() {
            Stage::Draining => acceptor.poll_last_round(cx, &mut welcome),
            Stage::Forced => Poll::Ready(()),
            _ if house.is_empty() => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

impl Watch for Arc<Source> {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let seen = ready!(self.poll(Side::Read, cx));
        self.would_block(Side::Read, seen);
        Poll::Ready(Ok(()))
    }
}

fn welcome<H: Handler>(house: &Arc<House<H>>, socket: OwnedFd) {
    let core = &house.calls.core;
    match Stream::new(core, socket) {
        Ok(stream) => core.spawn(Visit::new(house, stream)),
        Err(error) => tracing::error!(%error, "cannot watch a connection"),
    }
}
