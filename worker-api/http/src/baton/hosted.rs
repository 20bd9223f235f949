//! The baton driver as the guest of a loop that is not ours: asyncio's, for one.
//!
//! The loop watches two descriptors, [`Driver::kernel`] and [`Driver::bell`], and calls
//! [`Driver::turn`] or [`Driver::answer_bell`] when one of them can be read. All app code runs on the loop's thread: the
//! handler is called there, and answers when it likes. A thread of the driver stands by: while the
//! app blocks the loop, it keeps connections, the built-in health path and the drain going.
//!
//! Reading order: `shift` is the protocol between the two threads; `below` what is below it;
//! `exchange` one request and its `answer`; `socket` a connection that the app has taken over.

mod answer;
mod below;
mod exchange;
mod socket;
mod vigil;

use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use hyper::rt::Timer as _;
use worker_api::{Drain, Stage, Worker};

pub use self::answer::{Answer, StreamBody};
pub(super) use self::below::{Below, Hosted};
pub use self::exchange::{Inquiry, Reply, RequestBody, Start};
pub use self::socket::{Switched, Switching};

use self::exchange::Caller;
use self::vigil::Vigil;
use super::accept::Accepting;
use super::executor::{Core, Job};
use super::files::Files;
use super::hang::Clocks;
use super::lead::Lead;
use super::timers::{Alarm, Timers};
use super::visit::{House, Reception};
use super::{FORCED_END, Herald};
use crate::error::ServeError;
use crate::setup::Setup;

/// What answers requests on a loop that is not ours. All but [`stalled`](Self::stalled) is called
/// on the loop's thread, within [`Driver::turn`], and may call the driver in its turn.
pub trait LoopHandler: Send + Sync + 'static {
    /// Takes a request; it is answered through what comes with it, now or later. `start` is dropped
    /// when the app has come to its first wait: see [`Start`].
    fn call(&self, inquiry: Inquiry, start: Start);

    /// The worker's stage has changed.
    fn stage_changed(&self, _stage: Stage) {}

    /// The loop has not turned for so long, though it was asked to and requests are in flight. On
    /// the thread that stands by, once for each time: it must not wait for the loop's thread.
    fn stalled(&self, _since: Duration) {}

    /// Nothing is left to do, or the end was forced: the loop stops watching the driver. Once.
    fn over(&self);
}

/// See the module. A clone is another handle on the same driver.
pub struct Driver<H> {
    desk: Arc<Desk<H>>,
}

/// What the connections of a hosted worker have in common.
pub(super) struct Desk<H> {
    core: Arc<Core>,
    worker: Worker,
    drain: Drain,
    handler: H,
    is_over: AtomicBool,
    /// How long a forced end waits for the app.
    patience: Mutex<Option<Alarm>>,
}

/// Takes the worker's listeners and begins to serve: says [`Worker::ready`]. What comes is served
/// as soon as the loop turns; otherwise as [`serve`](super::serve) does.
///
/// A loop that does not turn for `stall`, while requests are in flight, is told of.
///
/// # Errors
/// See [`ServeError`].
pub fn start<H: LoopHandler>(
    worker: Worker,
    handler: H,
    stall: Option<Duration>,
) -> Result<Driver<H>, ServeError> {
    let timers = Timers::new();
    let setup = Setup::of_baton(&worker, None, timers.hand());
    let gate = Arc::clone(&setup.gate);
    let hosted = |reactor: &_| Hosted::new(reactor, stall).map(Lead::Hosted);
    // The loop's own timers tell when it is blocked.
    let clocks = Clocks::new(None, 1);
    let core = Core::led_by(timers, gate, Box::new(()), clocks, hosted);
    let core = core.map_err(ServeError::Driver)?;
    let desk = Arc::new(Desk {
        core: Arc::clone(&core),
        drain: worker.drain(),
        handler,
        is_over: AtomicBool::new(false),
        patience: Mutex::new(None),
        worker,
    });
    let house = House::new(setup, Arc::clone(&desk));
    let listeners = desk.worker.take_listeners();
    if listeners.is_empty() {
        return Err(ServeError::NoListener);
    }
    for listener in listeners {
        let name = listener.name().to_owned();
        let accepting = Accepting::new(&house, listener)
            .map_err(|source| ServeError::Register { name, source })?;
        core.spawn(accepting);
    }
    let told = Arc::downgrade(&desk);
    let herald = move |core: &Core, stage: Stage| {
        if let Lead::Hosted(hosted) = &core.lead
            && !stage.accepts()
        {
            hosted.begin_to_leave();
        }
        if let Some(desk) = told.upgrade() {
            core.call(Arc::new(StageChanged { desk, stage }));
        }
    };
    Herald::send(&core, &desk.drain, herald).map_err(ServeError::Driver)?;
    let driver = Driver { desk };
    driver.start_standing_by().map_err(ServeError::Driver)?;
    driver.desk.worker.ready();
    Ok(driver)
}

impl<H: LoopHandler> Driver<H> {
    /// Can be read while there is something to do.
    #[must_use]
    pub fn kernel(&self) -> BorrowedFd<'_> {
        self.hosted().kernel()
    }

    /// Can be read when another thread has something for the loop.
    #[must_use]
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.hosted().bell()
    }

    /// Does what there is to do. For the loop's thread, when the [kernel](Self::kernel) can be
    /// read.
    pub fn turn(&self) {
        self.hosted().rouse();
        self.hosted().shift.turn(&self.below());
        self.end_if_done();
    }

    /// The same for the [bell](Self::bell).
    pub fn answer_bell(&self) {
        self.hosted().answer_bell();
        self.turn();
    }

    /// Does something that lets connections go on, a request for more of a body for example, and has
    /// them do so before it returns. For the loop's thread.
    pub fn with_connections<R>(&self, doing: impl FnOnce() -> R) -> R {
        let doing = || self.then_look_at_the_clock(doing);
        self.hosted().shift.with_tasks(&self.below(), doing)
    }

    /// The same for an answer: it may be written soon after, together with others, if calls of other
    /// requests are about to [start](Start).
    pub fn with_connections_soon<R>(&self, doing: impl FnOnce() -> R) -> R {
        let doing = || self.then_look_at_the_clock(doing);
        self.hosted().shift.with_tasks_soon(&self.below(), doing)
    }

    /// Who comes from elsewhere may have been there for long.
    fn then_look_at_the_clock<R>(&self, doing: impl FnOnce() -> R) -> R {
        let result = doing();
        self.desk.core.timers.tick();
        result
    }

    /// A waker for use with the driver's polls: whoever wakes it, `job` runs on the loop's thread.
    pub fn waker(&self, job: impl Fn() + Send + Sync + 'static) -> Waker {
        let core = Arc::clone(&self.desk.core);
        Waker::from(Arc::new(Woken { core, job }))
    }

    /// Reports that the worker has drained. For after [`LoopHandler::over`].
    pub fn drained(&self) {
        self.desk.worker.drained();
    }

    /// The worker.
    #[must_use]
    pub fn worker(&self) -> &Worker {
        &self.desk.worker
    }

    /// What answers.
    #[must_use]
    pub fn handler(&self) -> &H {
        &self.desk.handler
    }

    fn start_standing_by(&self) -> std::io::Result<()> {
        let desk = Arc::clone(&self.desk);
        let thread = std::thread::Builder::new().name("gracefork-standby".to_owned());
        thread.spawn(move || {
            let driver = Self { desk };
            let stalled = |since| driver.desk.handler.stalled(since);
            let below = driver.below().standing_by();
            let mut vigil = Vigil::new(below, stalled);
            driver.hosted().shift.stand_by(&below, &mut vigil);
        })?;
        Ok(())
    }

    fn end_if_done(&self) {
        let desk = &*self.desk;
        if desk.drain.stage().accepts() || desk.is_over.load(Ordering::Relaxed) {
            return;
        }
        let is_quiet = self.hosted().is_quiet() && !self.hosted().shift.has_tasks();
        if is_quiet || self.is_out_of_patience() {
            if !is_quiet {
                tracing::warn!("leaving without what requests still do");
            }
            desk.is_over.store(true, Ordering::Relaxed);
            self.hosted().end();
            desk.handler.over();
        } else {
            // The end of patience may be the next that is due.
            self.below().set_clock();
        }
    }

    /// Whether the end is forced and its time is over.
    fn is_out_of_patience(&self) -> bool {
        let Desk {
            core,
            drain,
            patience,
            ..
        } = &*self.desk;
        if drain.stage() < Stage::Forced {
            return false;
        }
        let mut patience = patience.lock().unwrap_or_else(PoisonError::into_inner);
        let alarm =
            patience.get_or_insert_with(|| core.timers.alarm(core.timers.now() + FORCED_END));
        // It makes the loop turn, and that is all it takes.
        let waker = self.waker(|| ());
        Pin::new(alarm)
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
    }

    fn below(&self) -> Below<'_> {
        Below::new(&self.desk.core, self.hosted())
    }

    #[expect(clippy::unreachable, reason = "`start` makes it so")]
    fn hosted(&self) -> &Hosted {
        match &self.desk.core.lead {
            Lead::Hosted(hosted) => hosted,
            Lead::Own(_) => unreachable!("a hosted driver's core"),
        }
    }
}

impl<H> Clone for Driver<H> {
    fn clone(&self) -> Self {
        Self {
            desk: Arc::clone(&self.desk),
        }
    }
}

impl<H> std::fmt::Debug for Driver<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl<H: LoopHandler> Reception for Desk<H> {
    type App = Caller<H>;

    fn core(&self) -> &Arc<Core> {
        &self.core
    }

    fn app(self: &Arc<Self>, files: Files) -> Caller<H> {
        Caller::new(self, files)
    }
}

struct StageChanged<H> {
    desk: Arc<Desk<H>>,
    stage: Stage,
}

impl<H: LoopHandler> Job for StageChanged<H> {
    fn run(self: Arc<Self>) {
        self.desk.handler.stage_changed(self.stage);
    }
}

struct Woken<F> {
    core: Arc<Core>,
    job: F,
}

impl<F: Fn() + Send + Sync + 'static> Wake for Woken<F> {
    fn wake(self: Arc<Self>) {
        let core = Arc::clone(&self.core);
        core.call(self);
    }
}

impl<F: Fn() + Send + Sync + 'static> Job for Woken<F> {
    fn run(self: Arc<Self>) {
        (self.job)();
    }
}

#[cfg(test)]
mod tests;
