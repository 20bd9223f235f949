//! One call of the app: asked for in a connection's task, made on a thread that may block, its
//! answer waited for in the task again.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
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
use crate::hints::{EarlyHints, Hinted};
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
pub(super) struct Caller<H> {
    calls: Arc<Calls<H>>,
    files: Files,
}

impl<H> Caller<H> {
    fn new(calls: &Arc<Calls<H>>, files: Files) -> Self {
        Self {
            calls: Arc::clone(calls),
            files,
        }
    }
}

impl<H: Handler> Service<http::Request<Incoming>> for Caller<H> {
    type Response = http::Response<Outgoing>;
    type Error = io::Error;
    type Future = Answering<H>;

    fn call(&self, mut request: http::Request<Incoming>) -> Answering<H> {
        let upgrade = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let asked = Asked {
            handed: handed(),
            calls: Arc::clone(&self.calls),
            files: self.files.clone(),
            head,
            upgrade,
        };
        if body.is_end_stream() {
            return Answering::Called(asked.call(RequestBody::whole(Bytes::new())));
        }
        if body.size_hint().exact().is_some_and(|len| len <= SMALL) {
            return Answering::Receiving(Some(Box::new((asked, body, BytesMut::new()))));
        }
        let body = RequestBody::streamed(&self.calls.core, body);
        Answering::Called(asked.call(body))
    }
}

/// A request without its body.
pub(super) struct Asked<H> {
    handed: Handed,
    calls: Arc<Calls<H>>,
    files: Files,
    head: http::request::Parts,
    upgrade: OnUpgrade,
}

impl<H: Handler> Asked<H> {
    fn call(self, body: RequestBody) -> Called<H> {
        let wanted = Wanted {
            request: Request::from_parts(self.head, body),
            files: self.files,
            upgrade: self.upgrade,
        };
        let call = Arc::new(Call {
            calls: Arc::clone(&self.calls),
            handed: self.handed,
            state: Mutex::new(State {
                step: Step::Wanted(wanted),
                waiter: None,
            }),
        });
        self.calls.core.call(Arc::clone(&call) as Arc<dyn Job>);
        Called(call)
    }
}

/// A request on its way to a response.
pub(super) enum Answering<H> {
    /// Its small body is being received; `None` only for a moment.
    Receiving(Option<Box<(Asked<H>, Incoming, BytesMut)>>),
    Called(Called<H>),
}

impl<H: Handler> Future for Answering<H> {
    type Output = io::Result<http::Response<Outgoing>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match this {
                Self::Called(called) => return called.poll(cx).map(Ok),
                Self::Receiving(receiving) => {
                    if let Some(parts) = receiving {
                        let (_, body, whole) = &mut **parts;
                        while let Some(frame) = ready!(Pin::new(&mut *body).poll_frame(cx)) {
                            let frame = frame.map_err(io::Error::other)?;
                            if let Ok(data) = frame.into_data() {
                                whole.extend_from_slice(&data);
                            }
                        }
                    }
                    let Some(parts) = receiving.take() else {
                        return Poll::Pending;
                    };
                    let (asked, _, whole) = *parts;
                    *this = Self::Called(asked.call(RequestBody::whole(whole.freeze())));
                }
            }
        }
    }
}

/// One call; it is both the job and the place of its answer.
struct Call<H> {
    calls: Arc<Calls<H>>,
    handed: Handed,
    state: Mutex<State>,
}

struct State {
    step: Step,
    /// The connection's task.
    waiter: Option<Waker>,
}

enum Step {
    Wanted(Wanted),
    Running,
    Answered(http::Response<Outgoing>),
    /// Nobody waits for it any more.
    Gone,
}

struct Wanted {
    request: Request,
    files: Files,
    upgrade: OnUpgrade,
}

/// Waits for a call's answer. Dropped, it takes back a call that has not begun.
pub(super) struct Called<H>(Arc<Call<H>>);

impl<H> Called<H> {
    fn poll(&self, cx: &Context<'_>) -> Poll<http::Response<Outgoing>> {
        let mut state = self.0.lock();
        if matches!(state.step, Step::Answered(_))
            && let Step::Answered(response) = std::mem::replace(&mut state.step, Step::Gone)
        {
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
        let before = std::mem::replace(&mut self.0.lock().step, Step::Gone);
        drop(before);
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
        let Wanted {
            request,
            files,
            upgrade,
        } = wanted;
        let handler = &self.calls.handler;
        let reply = Reply {
            client: self.handed.client,
            place: Arc::clone(&self) as Arc<dyn Place>,
            files,
            upgrade,
        };
        if catch_unwind(AssertUnwindSafe(|| handler.call(request, reply))).is_err() {
            tracing::error!("the app panicked");
        }
        if matches!(self.lock().step, Step::Running) {
            self.answer(no_answer());
        }
    }
}

impl<H: Handler> Hinted for Call<H> {
    fn hint(&self, request: u64, head: Bytes) {
        if let Some(hints) = &self.handed.hints {
            hints.pass(request, head);
            // Whoever has something to say ahead of the answer is busy for a while.
            self.calls.core.hand_over();
        }
    }
}

impl<H: Handler> Place for Call<H> {
    fn core(&self) -> &Arc<Core> {
        &self.calls.core
    }

    fn hints(&self) -> Option<&EarlyHints> {
        self.handed.hints.as_ref()
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

fn no_answer() -> http::Response<Outgoing> {
    let body = Bytes::from_static(b"Internal Server Error\n");
    let mut response = http::Response::new(Outgoing::Bytes(body));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
