//! A request in flight: from its head, which goes to the service, to the last byte of its answer.

use std::sync::atomic::Ordering;
use std::task::Waker;

use http::{HeaderMap, Method, Request, StatusCode, Uri};
use worker_api::{InFlightGuard, RequestInfo};

use super::{Beginning, Link, Shared};
use crate::access::{Observed, Outcome};
use crate::hints::is_understood;
use crate::lifecycle::Input;

/// A request in flight.
pub(super) struct Exchange {
    method: Method,
    target: Uri,
    status: Option<StatusCode>,
    guard: InFlightGuard,
    /// For the access log.
    observed: Option<Box<Observed>>,
}

impl<T> Link<T> {
    /// A request's head goes to the service.
    pub(crate) fn begin<B>(&self, request: &Request<B>) -> Beginning {
        let (method, target) = (request.method(), request.uri());
        let access = self.setup.access.as_ref();
        let mut exchange = Exchange {
            method: method.clone(),
            target: target.clone(),
            status: None,
            guard: self.setup.in_flight.enter_request_at(
                method.as_str(),
                target.path(),
                self.setup.clock.now(),
            ),
            observed: access.map(|it| it.observe(request.version(), request.headers())),
        };
        exchange.tell_hook(|info| {
            let worker = &self.setup.worker;
            worker.hooks().pre_request(worker.info(), info);
        });
        if self.handed_over.load(Ordering::Relaxed) {
            self.handed_over.store(false, Ordering::Relaxed);
            self.owes.store(true, Ordering::Relaxed);
        }
        self.given_up.store(false, Ordering::Relaxed);
        let knows_hints = is_understood(request.version());
        let (before, beginning) = {
            let mut shared = self.lock_life();
            shared.life.input(Input::HeadDispatched);
            self.moved(&shared);
            if let Some(hints) = &mut shared.hints {
                hints.expire();
                shared.hints.take_if(|hints| hints.is_empty());
            }
            if let Some(observed) = &mut exchange.observed {
                observed.remote = shared.peer.peer;
            }
            let before = self.take_request(&mut shared);
            shared.request = Some(exchange);
            (before, shared.beginning(knows_hints))
        };
        // A pipelined request can come in before the answer to the last one is flushed.
        self.finish(before);
        beginning
    }

    /// The service has answered; `switches` says whether the app takes the socket with this answer.
    pub(crate) fn answered(&self, status: StatusCode, switches: bool) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
        self.switches.store(switches, Ordering::Relaxed);
    }

    /// Whether it has.
    pub(super) fn has_answer(&self) -> bool {
        self.status.load(Ordering::Relaxed) != 0
    }

    /// The head of the response is as the app and the worker want it.
    pub(crate) fn observe_answer(&self, headers: &HeaderMap) {
        let Some(access) = self.setup.access.as_ref().filter(|it| it.wants_answer()) else {
            return;
        };
        if let Some(request) = &mut self.lock().request
            && let Some(observed) = &mut request.observed
        {
            access.observe_answer(observed, headers);
        }
    }

    /// All that HTTP had is written to the socket. Whether that was the end of a response.
    pub(crate) fn flushed(&self) -> bool {
        if !self.handed_over.load(Ordering::Relaxed) {
            // Once a head is out, no hint may come between it and the rest, however late it is told.
            self.owes.store(self.has_answer(), Ordering::Relaxed);
            return false;
        }
        self.owes.store(false, Ordering::Relaxed);
        self.handed_over.store(false, Ordering::Relaxed);
        let request = {
            let mut shared = self.lock_life();
            if shared.request.is_some() && self.switches.load(Ordering::Relaxed) {
                // Before hyper hands the socket out, so that its new user is heard at once.
                self.switch();
            } else {
                shared.life.input(Input::ResponseFinished);
                self.moved(&shared);
            }
            self.take_request(&mut shared)
        };
        self.finish(request);
        true
    }

    /// HTTP is over and the socket is not an app's: what was answered so far is the answer.
    pub(crate) fn end_request(&self) {
        let request = self.take_request(&mut self.lock());
        self.finish(request);
    }

    /// Cuts off the request that is running, and whoever has the socket.
    pub(crate) fn abort_request(&self) {
        self.cut.store(true, Ordering::Release);
        let (request, guest) = {
            let mut shared = self.lock();
            (self.take_request(&mut shared), shared.guest.take())
        };
        if let Some(request) = request {
            self.log(&request);
            let Exchange {
                method,
                target,
                guard,
                ..
            } = request;
            let age = guard.age();
            tracing::warn!(%method, target = target.path(), ?age, "request aborted");
            guard.abort();
        } else if self.is_switched() {
            // Not in flight all the time it was open: it may be silent for as long as it likes.
            tracing::warn!("upgraded connection cut off");
            self.setup.in_flight.enter().abort();
        }
        let guest = guest.into_iter().flat_map(|guest| *guest);
        guest.flatten().for_each(Waker::wake);
    }

    fn finish(&self, request: Option<Exchange>) {
        let Some(ended) = &request else { return };
        self.log(ended);
        let Some(status) = ended.status.map(|status| status.as_u16()) else {
            return;
        };
        ended.tell_hook(|info| {
            let worker = &self.setup.worker;
            worker.hooks().post_request(worker.info(), info, status);
        });
        if let Some(Exchange { guard, .. }) = request {
            guard.finish_at(status, self.setup.clock.now());
        }
    }

    /// Writes the request's line of the access log.
    fn log(&self, request: &Exchange) {
        if let (Some(access), Some(observed)) = (&self.setup.access, &request.observed) {
            // Counted anew for the next one.
            let body_bytes = self.body.swap(0, Ordering::Relaxed);
            let outcome = Outcome {
                method: &request.method,
                target: &request.target,
                status: request.status,
                body_bytes,
                took: request.guard.age(),
            };
            access.log(observed, &outcome);
        }
    }

    /// The request that runs, or has just run, with what is known of its answer.
    fn take_request(&self, shared: &mut Shared<T>) -> Option<Exchange> {
        if let Some(request) = &mut shared.request {
            let status = self.status.load(Ordering::Relaxed);
            request.status = StatusCode::from_u16(status).ok();
        }
        self.status.store(0, Ordering::Relaxed);
        self.switches.store(false, Ordering::Relaxed);
        shared.request.take()
    }
}

impl Exchange {
    fn tell_hook(&self, hook: impl FnOnce(&RequestInfo<'_>)) {
        let target = match self.target.path_and_query() {
            Some(path) => path.as_str(),
            None => self.target.authority().map_or("", |name| name.as_str()),
        };
        hook(&RequestInfo {
            method: self.method.as_str(),
            target,
        });
    }
}
