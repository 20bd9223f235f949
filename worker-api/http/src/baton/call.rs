//! One call of the app: asked for in a connection's task, made on a thread that may block, its
//! answer waited for in the task again.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::upgrade::OnUpgrade;

use super::executor::{Core, Job};
use super::files::Files;
use super::outgoing::Outgoing;
use super::reply::{Place, Reply};
use super::request::RequestBody;
use super::visit::Reception;
use super::{Handler, Request};
use crate::hints::EarlyHints;
use crate::introduce::{Handed, handed};

/// A body that says that it is at most so long, in bytes, is received before the call.
const SMALL: u64 = 64 << 10;

/// What the calls of a worker have in common.
pub(super) struct Calls<H> {
    pub(super) core: Arc<Core>,
    pub(super) handler: H,
}

impl<H: Handler> Reception for Calls<H> {
    type App = Caller<H>;

    fn core(&self) -> &Arc<Core> {
        &self.core
    }

    fn app(self: &Arc<Self>, files: Files) -> Caller<H> {
        Caller::new(self, files)
    }
}

/// The handler as a hyper service, for one connection.
pub(super) struct Caller<H>(Arc<Shared<H>>);

/// What the calls of a connection have in common.
pub(super) struct Shared<H> {
    calls: Arc<Calls<H>>,
    files: Files,
}

impl<H> Caller<H> {
    fn new(calls: &Arc<Calls<H>>, files: Files) -> Self {
        let calls = Arc::clone(calls);
        Self(Arc::new(Shared { calls, files }))
    }
}

impl<H: Handler> Service<http::Request<Incoming>> for Caller<H> {
    type Response = http::Response<Outgoing>;
    type Error = io::Error;
    type Future = Answering<H>;

    fn call(&self, mut request: http::Request<Incoming>) -> Answering<H> {
        let upgrade = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let Handed { client, hints } = handed();
        let mut wanted = Box::new(Wanted {
            request: Request::from_parts(head, RequestBody::empty(client)),
            hints,
            upgrade,
        });
        if body.is_end_stream() {
            return Answering::Wanted(Some((Arc::clone(&self.0), wanted)));
        }
        if body.size_hint().exact().is_some_and(|len| len <= SMALL) {
            return Answering::Receiving(Some(Box::new(Receiving {
                shared: Arc::clone(&self.0),
                wanted,
                body,
                whole: BytesMut::new(),
            })));
        }
        let core = &self.0.calls.core;
        wanted.request.body_mut().set_streamed(core, body);
        Answering::Wanted(Some((Arc::clone(&self.0), wanted)))
    }
}

impl<H: Handler> Shared<H> {
    /// Asks for a call, and waits for its answer.
    fn call(self: Arc<Self>, wanted: Box<Wanted>, cx: &Context<'_>) -> Called<H> {
        let call = Arc::new(Call {
            shared: self,
            state: Mutex::new(State {
                step: Step::Wanted(wanted),
                waiter: Some(cx.waker().clone()),
            }),
        });
        let core = &call.shared.calls.core;
        core.call(Arc::clone(&call) as Arc<dyn Job>);
        Called {
            call,
            is_over: false,
        }
    }
}

/// A request whose small body is being received.
pub(super) struct Receiving<H> {
    shared: Arc<Shared<H>>,
    wanted: Box<Wanted>,
    body: Incoming,
    whole: BytesMut,
}

/// A request on its way to a response.
pub(super) enum Answering<H> {
    /// `None` only for a moment, as below.
    Wanted(Option<(Arc<Shared<H>>, Box<Wanted>)>),
    Receiving(Option<Box<Receiving<H>>>),
    Called(Called<H>),
}

impl<H: Handler> Future for Answering<H> {
    type Output = io::Result<http::Response<Outgoing>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match this {
                Self::Called(called) => return called.poll(cx).map(Ok),
                Self::Wanted(wanted) => {
                    if let Some((shared, wanted)) = wanted.take() {
                        *this = Self::Called(shared.call(wanted, cx));
                    }
                    return Poll::Pending;
                }
                Self::Receiving(receiving) => {
                    if let Some(it) = receiving {
                        while let Some(frame) = ready!(Pin::new(&mut it.body).poll_frame(cx)) {
                            let frame = frame.map_err(io::Error::other)?;
                            if let Ok(data) = frame.into_data() {
                                it.whole.extend_from_slice(&data);
                            }
                        }
                    }
                    let Some(mut it) = receiving.take() else {
                        return Poll::Pending;
                    };
                    let whole = it.whole.freeze();
                    it.wanted.request.body_mut().set_whole(whole);
                    *this = Self::Wanted(Some((it.shared, it.wanted)));
                }
            }
        }
    }
}

/// One call; it is both the job and the place of its answer.
struct Call<H> {
    shared: Arc<Shared<H>>,
    state: Mutex<State>,
}

struct State {
    step: Step,
    /// The connection's task.
    waiter: Option<Waker>,
}

enum Step {
    /// Its only move is by its box: a request is large.
    Wanted(Box<Wanted>),
    Running,
    Answered(http::Response<Outgoing>),
    /// Nobody waits for it any more.
    Gone,
}

pub(super) struct Wanted {
    request: Request,
    hints: Option<EarlyHints>,
    upgrade: OnUpgrade,
}

/// Waits for a call's answer. Dropped, it takes back a call that has not begun.
pub(super) struct Called<H> {
    call: Arc<Call<H>>,
    /// The answer was taken.
    is_over: bool,
}

impl<H> Called<H> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<http::Response<Outgoing>> {
        let mut state = self.call.lock();
        if matches!(state.step, Step::Answered(_))
            && let Step::Answered(response) = std::mem::replace(&mut state.step, Step::Gone)
        {
            self.is_over = true;
            return Poll::Ready(response);
        }
        match &mut state.waiter {
            Some(waiter) => waiter.clone_from(cx.waker()),
            None => state.waiter = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl<H> Drop for Called<H> {
    fn drop(&mut self) {
        if !self.is_over {
            let before = std::mem::replace(&mut self.call.lock().step, Step::Gone);
            drop(before);
        }
    }
}

impl<H> Call<H> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: Handler> Job for Call<H> {
    fn run(self: Arc<Self>) {
        let before = {
            let mut state = self.lock();
            match state.step {
                Step::Wanted(_) => std::mem::replace(&mut state.step, Step::Running),
                _ => return,
            }
        };
        let Step::Wanted(wanted) = before else { return };
        let shared = Arc::clone(&self.shared);
        let called = catch_unwind(AssertUnwindSafe(|| {
            let Wanted {
                request,
                hints,
                upgrade,
            } = *wanted;
            let reply = Reply::new(self, hints, upgrade);
            shared.calls.handler.call(request, reply);
        }));
        if called.is_err() {
            tracing::error!("the app panicked");
        }
    }
}

impl<H: Handler> Place for Call<H> {
    fn core(&self) -> &Arc<Core> {
        &self.shared.calls.core
    }

    fn files(&self) -> &Files {
        &self.shared.files
    }

    fn answer(&self, response: http::Response<Outgoing>) -> bool {
        let waiter = {
            let mut state = self.lock();
            if !matches!(state.step, Step::Running) {
                return false;
            }
            state.step = Step::Answered(response);
            state.waiter.take()
        };
        waiter.into_iter().for_each(Waker::wake);
        true
    }
}
