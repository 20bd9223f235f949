//! The baton driver: hyper on mio, for handlers that may block.
//!
//! A handler is called on the very thread that has read its request, so a fast one costs no thread
//! switch. While it runs, that thread has put down the *baton*, the right to poll the kernel and to
//! run connections; if the call lasts, another thread takes the baton and goes on with everything
//! else. `docs/architecture.md` of the project has the picture.
//!
//! Reading order: `handover` is the protocol, one word; `crew` the threads that wait to take over;
//! `queue` and `tasks` what there is to do; `relay` the loop that puts these together; `executor`
//! what is below it; `reactor` and `readiness` the kernel; `visit` a connection; `call` a call of the
//! handler.

mod accept;
mod around;
mod block;
mod call;
mod crew;
mod executor;
mod files;
mod handover;
mod hang;
pub mod hosted;
mod lead;
mod outgoing;
mod pipe;
mod queue;
mod reactor;
mod readiness;
mod receive;
mod relay;
mod reply;
mod request;
mod response;
mod shift;
mod socket;
mod sync;
mod tasks;
mod timers;
mod upgrade;
mod visit;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use mio::Interest;
use worker_api::{Drain, DrainEvents, Stage, Worker};

pub use self::around::Surroundings;
pub use self::executor::stack_size;
pub use self::hang::Patience;
pub use self::reply::{Gone, Reply, Streaming};
pub use self::request::RequestBody;
pub use self::response::Body;
pub use self::upgrade::Upgraded;

use self::accept::Accepting;
use self::call::Calls;
use self::executor::Core;
use self::reactor::{Side, Source};
use self::timers::Timers;
use self::visit::House;
use crate::error::ServeError;
use crate::setup::Setup;

/// A request as a handler gets it.
pub type Request = http::Request<RequestBody>;

/// A response as the driver takes it; a handler may give one with any body that becomes a [`Body`].
pub type Response = http::Response<Body>;

/// So long a forced end waits for calls that do not return: half of what the
/// master gives at most, so that it hears how many were aborted.
const FORCED_END: Duration = Duration::from_millis(500);

/// What answers requests: any `Fn(Request) -> http::Response<B>` where `B` becomes a [`Body`], or
/// what has more to say of how its answer is sent.
///
/// It may block, and it may be called on several threads at once, see
/// [`Settings::threads`](worker_api::Settings::threads). A panic is answered with 500.
pub trait Handler: Send + Sync + 'static {
    /// Answers a request.
    fn call(&self, request: Request, reply: Reply);
}

impl<F, B> Handler for F
where
    F: Fn(Request) -> http::Response<B> + Send + Sync + 'static,
    B: Into<Body>,
{
    fn call(&self, mut request: Request, mut reply: Reply) {
        request.body_mut().set_hints(reply.hints.take());
        reply.send(self(request).map(Into::into));
    }
}

/// Serves with a plain function that may block, as this worker until it has drained.
///
/// Says [`Worker::ready`] once it accepts, and [`Worker::drained`] before it returns: after that,
/// return from `main`. In between it follows the worker's [`Stage`] as
/// [`tokio::serve`](crate::tokio::serve) does, and waits for calls whose client has gone away too.
///
/// At most [`threads`](worker_api::Settings::threads) calls run at once; others wait, and while
/// they do so, their connections, the built-in health path and the drain are attended to.
///
/// ```no_run
/// use worker_http::{Request, Response};
///
/// let worker = worker_api::Worker::init()?;
/// worker_http::serve(worker, |request: Request| Response::new("hello".into()))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`ServeError`]. What happens to a single connection is no error here.
pub fn serve(worker: Worker, handler: impl Handler) -> Result<(), ServeError> {
    serve_within(worker, handler, ())
}

/// As [`serve`], with something around the calls.
///
/// # Errors
/// See [`ServeError`].
pub fn serve_within(
    worker: Worker,
    handler: impl Handler,
    around: impl Surroundings,
) -> Result<(), ServeError> {
    let threads = worker.settings().threads;
    let timers = Timers::new();
    let setup = Setup::of_baton(&worker, Some(threads), timers.hand());
    let core = Core::new(threads, timers, Arc::clone(&setup.gate), Box::new(around))
        .map_err(ServeError::Driver)?;
    let calls = Calls {
        core: Arc::clone(&core),
        handler,
    };
    let house = House::new(setup, Arc::new(calls));
    let listeners = worker.take_listeners();
    if listeners.is_empty() {
        return Err(ServeError::NoListener);
    }
    for listener in listeners {
        let name = listener.name().to_owned();
        let accepting = Accepting::new(&house, listener)
            .map_err(|source| ServeError::Register { name, source })?;
        core.spawn(accepting);
    }
    let herald = |core: &Core, stage| {
        if stage == Stage::Forced {
            core.force();
        }
    };
    Herald::send(&core, &worker.drain(), herald).map_err(ServeError::Driver)?;
    core.start().map_err(ServeError::Driver)?;
    worker.ready();
    if !core.wait_until_over(FORCED_END) {
        tracing::warn!("a call holds its thread; leaving without it");
    }
    worker.drained();
    Ok(())
}

/// Whoever has something to say ahead of the answer is busy for a while: if this thread makes a
/// call, another one is to attend to the connections. What a thread without a call says leaves when
/// the next one does so, in 2 ms at most.
pub(crate) fn lasts() {
    executor::on_this_thread(Core::hand_over);
}

/// Tells every task of each change of the stage.
struct Herald<F> {
    core: Weak<Core>,
    drain: Drain,
    events: DrainEvents,
    source: Arc<Source>,
    /// The last stage that was told.
    told: AtomicU8,
    /// What else is to be done.
    then: F,
}

impl<F: Fn(&Core, Stage) + Send + Sync + 'static> Herald<F> {
    fn send(core: &Arc<Core>, drain: &Drain, then: F) -> std::io::Result<()> {
        let events = drain.subscribe()?;
        let herald = Self {
            source: core.reactor.watch(&events, Interest::READABLE)?,
            core: Arc::downgrade(core),
            drain: drain.clone(),
            events,
            told: AtomicU8::new(Stage::Serving as u8),
            then,
        };
        Arc::new(herald).wake();
        Ok(())
    }
}

/// It is no task: it waits for the next change in the source itself.
impl<F: Fn(&Core, Stage) + Send + Sync + 'static> Wake for Herald<F> {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        while let Poll::Ready(seen) = self.source.poll(Side::Read, &Context::from_waker(&waker)) {
            self.events.clear();
            self.source.emptied(Side::Read, seen);
            if let Some(core) = self.core.upgrade() {
                core.wake_all();
                let stage = self.drain.stage();
                // Two changes may be seen as one, and then again as one.
                if self.told.fetch_max(stage as u8, Ordering::AcqRel) < stage as u8 {
                    (self.then)(&core, stage);
                }
            }
        }
    }
}
