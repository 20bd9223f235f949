//! One call of the app: asked for in a connection's task, made on a thread that may block, its
//! answer waited for in the task again.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::executor::{Core, Job};
use super::files::Files;
use super::outgoing::Outgoing;
use super::receive::{Receiving, is_small};
use super::reply::{Place, Reply};
use super::request::RequestBody;
use super::visit::Reception;
use super::{Handler, Request};
use crate::hints::EarlyHints;
use crate::introduce::Introduction;
use crate::service::App;
use crate::waiter::remember;

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

/// The handler, for one connection.
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

impl<H> Clone for Caller<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<H: Handler> App for Caller<H> {
    type Answer = Outgoing;
    type Error = io::Error;
    type Future = Answering<H>;

    fn answer(
        &self,
        mut request: http::Request<Incoming>,
        introduction: Introduction,
    ) -> Answering<H> {
        let upgrade = hyper::upgrade::on(&mut request);
        let (head, incoming) = request.into_parts();
        let Introduction { client, hints } = introduction;
        let mut body = RequestBody::empty(client);
        let stage = if incoming.is_end_stream() {
            Stage::Complete
        } else if is_small(&incoming) {
            Stage::Receiving(Box::new(Receiving::new(incoming)))
        } else {
            body.set_streamed(&self.0.calls.core, incoming);
            Stage::Complete
        };
        let wanted = Wanted {
            request: Request::from_parts(head, body),
            hints,
            upgrade,
        };
        let call = Arc::new(Call {
            shared: Arc::clone(&self.0),
            state: Mutex::new(State {
                step: Step::Wanted(wanted),
                waiter: None,
            }),
        });
        Answering { call, stage }
    }
}

/// A request on its way to a response. Dropped, it takes back a call that has not begun.
pub(super) struct Answering<H> {
    call: Arc<Call<H>>,
    stage: Stage,
}

enum Stage {
    /// A small body.
    Receiving(Box<Receiving>),
    /// The request is as the handler gets it.
    Complete,
    /// The call is asked for.
    Asked,
    /// The answer was taken.
    Over,
}

impl<H: Handler> Future for Answering<H> {
    type Output = io::Result<http::Response<Outgoing>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { call, stage } = self.get_mut();
        if let Stage::Receiving(receiving) = stage {
            call.set_whole(ready!(receiving.poll(cx))?);
            *stage = Stage::Complete;
        }
        let mut state = call.lock();
        if matches!(state.step, Step::Answered(_))
            && let Step::Answered(response) = std::mem::replace(&mut state.step, Step::Gone)
        {
            *stage = Stage::Over;
            return Poll::Ready(Ok(response));
        }
        remember(&mut state.waiter, cx);
        drop(state);
        if matches!(stage, Stage::Complete) {
            *stage = Stage::Asked;
            call.shared.calls.core.call(Arc::clone(call) as _);
        }
        Poll::Pending
    }
}

impl<H> Drop for Answering<H> {
    fn drop(&mut self) {
        if !matches!(self.stage, Stage::Over) {
            let before = std::mem::replace(&mut self.call.lock().step, Step::Gone);
            drop(before);
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

#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each request in flight, in a box of its own"
)]
enum Step {
    Wanted(Wanted),
    Running,
    Answered(http::Response<Outgoing>),
    /// Nobody waits for it any more.
    Gone,
}

struct Wanted {
    request: Request,
    hints: Option<EarlyHints>,
    upgrade: OnUpgrade,
}

impl<H> Call<H> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request's body is here.
    fn set_whole(&self, body: Bytes) {
        if let Step::Wanted(wanted) = &mut self.lock().step {
            wanted.request.body_mut().set_whole(body);
        }
    }
}

impl<H: Handler> Call<H> {
    /// Calls the handler, unless the call was taken back.
    fn make(self: Arc<Self>) {
        let before = {
            let mut state = self.lock();
            match state.step {
                Step::Wanted(_) => std::mem::replace(&mut state.step, Step::Running),
                _ => return,
            }
        };
        if let Step::Wanted(wanted) = before {
            let shared = Arc::clone(&self.shared);
            let reply = Reply::new(self, wanted.hints, wanted.upgrade);
            shared.calls.handler.call(wanted.request, reply);
        }
    }
}

impl<H: Handler> Job for Call<H> {
    fn run(self: Arc<Self>) {
        // What is large is moved there, and not into a closure first.
        if catch_unwind(AssertUnwindSafe(|| self.make())).is_err() {
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
