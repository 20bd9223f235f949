//! Tasks and calls, the kernel and the clock: what is below the threads that pass the baton.

use std::cell::OnceCell;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::around::Surroundings;
use super::hang::{self, Clocks};
use super::lead::Lead;
use super::reactor::Reactor;
use super::relay::{Ground, Relay, Took};
use super::tasks::Run;
use super::timers::Timers;
use crate::accept::Gate;

/// So long work goes on before the kernel is asked again what else there is, in nanoseconds.
pub(super) const TURN: u64 = 1_000_000;
/// A call that lasted no longer, with the work around it, leaves the caches as they were.
/// In nanoseconds.
const MOMENT: u64 = 20_000;
/// A call that lasted so long is not the last of its kind: its thread takes the next one at once.
/// In nanoseconds.
const LONG: u64 = 1_000_000;

/// Everything that the threads of a worker share.
pub(super) struct Core {
    pub(super) lead: Lead,
    me: Weak<Self>,
    pub(super) reactor: Reactor,
    pub(super) timers: Timers,
    pub(super) gate: Arc<Gate>,
    around: Box<dyn Surroundings>,
    clocks: Clocks,
    end: Mutex<End>,
    end_changed: Condvar,
}

#[derive(Default)]
struct End {
    over: bool,
    forced: bool,
}

/// A call of the app. It may block; it does not panic.
pub(super) trait Job: Send + Sync {
    fn run(self: Arc<Self>);
}

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A future on its way to its end.
pub(super) struct Task {
    future: BoxFuture,
    waker: Waker,
}

/// Wakes a task.
struct Alert {
    core: Arc<Core>,
    key: usize,
}

thread_local! {
    /// Whose calls this thread makes.
    static HERE: OnceCell<Weak<Core>> = const { OnceCell::new() };
}

/// Does something with whose calls this thread makes, if it does make any.
pub(super) fn on_this_thread(then: impl FnOnce(&Core)) {
    if let Some(core) = HERE.with(|here| here.get().and_then(Weak::upgrade)) {
        then(&core);
    }
}

impl Core {
    pub(super) fn new(
        threads: NonZeroUsize,
        timers: Timers,
        gate: Arc<Gate>,
        around: Box<dyn Surroundings>,
    ) -> io::Result<Arc<Self>> {
        let own = |_: &_| Ok(Lead::Own(Relay::new(threads.get())));
        let clocks = Clocks::new(around.hang_timeout(), threads.get());
        Self::led_by(timers, gate, around, clocks, own)
    }

    pub(super) fn led_by(
        timers: Timers,
        gate: Arc<Gate>,
        around: Box<dyn Surroundings>,
        clocks: Clocks,
        lead: impl FnOnce(&Reactor) -> io::Result<Lead>,
    ) -> io::Result<Arc<Self>> {
        let reactor = Reactor::new()?;
        let lead = lead(&reactor)?;
        Ok(Arc::new_cyclic(|me| Self {
            lead,
            me: me.clone(),
            reactor,
            timers,
            gate,
            clocks,
            around,
            end: Mutex::default(),
            end_changed: Condvar::new(),
        }))
    }

    /// Starts the first thread, which holds the baton, and one that watches it.
    pub(super) fn start(&self) -> io::Result<()> {
        self.start_with(false)?;
        self.start_with(true)
    }

    /// Blocks until there is no task and no call left, or the end is forced and had its time.
    /// Tells whether nothing is left.
    pub(super) fn wait_until_over(&self, forced_end: Duration) -> bool {
        let mut end = self.end();
        while !end.over && !end.forced {
            end = self
                .end_changed
                .wait(end)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let waiting = self
            .end_changed
            .wait_timeout_while(end, forced_end, |end| !end.over);
        waiting.unwrap_or_else(PoisonError::into_inner).0.over
    }

    /// The end is forced: whoever waits for it does not do so for long.
    pub(super) fn force(&self) {
        self.end().forced = true;
        self.end_changed.notify_all();
    }

    /// Makes a future run to its end.
    pub(super) fn spawn(self: &Arc<Self>, future: impl Future<Output = ()> + Send + 'static) {
        let future: BoxFuture = Box::pin(future);
        self.lead.spawn(self, |key| {
            let core = Arc::clone(self);
            let waker = Waker::from(Arc::new(Alert { core, key }));
            Task { future, waker }
        });
    }

    /// Makes a call, as soon as there is a permit.
    pub(super) fn call(&self, job: Arc<dyn Job>) {
        self.lead.push_call(self, job);
    }

    /// Waits, on the thread of a call, for something that only the holder of the baton can bring.
    pub(super) fn block<R>(&self, wait: impl FnOnce() -> R) -> R {
        self.lead.about_to_block();
        self.around.rest();
        hang::waits();
        let result = wait();
        self.move_on();
        result
    }

    /// The call of this thread lasts, and has something for a connection's task to do: another
    /// thread is to hold the baton.
    pub(super) fn hand_over(&self) {
        self.lead.about_to_block();
        self.move_on();
    }

    /// The call of this thread has come a step further.
    pub(super) fn move_on(&self) {
        self.timers.tick();
        hang::moves(self.timers.nanos());
    }

    /// Wakes every task: something that concerns all has changed.
    pub(super) fn wake_all(&self) {
        self.lead.wake_all(self);
    }

    fn start_with(&self, baton: bool) -> io::Result<()> {
        let core = self.me.upgrade().ok_or(io::ErrorKind::NotFound)?;
        let thread = thread::Builder::new().name("gracefork-app".to_owned());
        thread.stack_size(stack_size()).spawn(move || {
            if let Lead::Own(relay) = &core.lead {
                core.clocks.join();
                // The first time is the only one.
                HERE.with(|here| drop(here.set(core.me.clone())));
                core.around.live(&mut || relay.live(&*core, baton));
            }
        })?;
        Ok(())
    }

    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of stack for a thread that runs an app's code: what it would have on the main thread, and from
/// `pthread_create(3)`. Rust's own default is a quarter of that, which deep recursion in an interpreter
/// overruns.
#[must_use]
pub fn stack_size() -> usize {
    const USUAL: u64 = 8 << 20;
    const LEAST: u64 = 2 << 20;
    let limit = getrlimit(Resource::Stack).current.unwrap_or(USUAL);
    usize::try_from(limit.max(LEAST)).unwrap_or(8 << 20)
}

impl Ground for Core {
    type Task = Task;
    type Call = Arc<dyn Job>;

    fn run(&self, run: Run<Task>) -> Option<Task> {
        run.task.run()
    }

    fn begin_call(&self) {
        hang::moves(self.timers.nanos());
    }

    fn call(&self, job: Arc<dyn Job>) -> Took {
        let begun = self.timers.nanos();
        job.run();
        let ended = self.timers.tick();
        // The next call may follow at once.
        hang::moves(ended);
        match ended.saturating_sub(begun) {
            time if time < MOMENT => Took::AMoment,
            time if time < LONG => Took::Short,
            _ => Took::Long,
        }
    }

    fn poll_kernel(&self, wait: bool, back: impl FnOnce()) {
        self.rest();
        let timeout = if wait {
            self.gate.look_before_waiting();
            let hang = self.clocks.left(self.timers.nanos());
            self.timers.left().into_iter().chain(hang).min()
        } else {
            Some(Duration::ZERO)
        };
        self.reactor.wait(timeout, || {
            back();
            self.timers.tick();
            self.timers.begin_turn();
        });
        self.timers.ring();
        let hung = self.clocks.hung(self.timers.nanos());
        (0..hung.new).for_each(|_| self.around.hung(hung.all));
    }

    /// Since the clock was last looked at: at the end of the call before, or back from the kernel.
    fn call_age(&self) -> Duration {
        self.timers.unseen()
    }

    fn rest(&self) {
        hang::ends();
        self.around.rest();
    }

    fn wake_kernel(&self) {
        self.reactor.wake();
    }

    fn is_stale(&self) -> bool {
        self.timers.turn() > TURN
    }

    fn start_thread(&self) -> bool {
        let started = self.start_with(false);
        if let Err(error) = &started {
            tracing::error!(%error, "cannot start a thread; a long call blocks the others");
        }
        started.is_ok()
    }

    fn over(&self) {
        self.end().over = true;
        self.end_changed.notify_all();
    }
}

impl Task {
    /// Polls it; nothing is left if it is over.
    pub(super) fn run(mut self) -> Option<Self> {
        let mut cx = Context::from_waker(&self.waker);
        let polled = catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(&mut cx)));
        match polled {
            Ok(Poll::Pending) => return Some(self),
            Ok(Poll::Ready(())) => {}
            Err(_) => tracing::error!("a connection panicked; it is closed"),
        }
        // What it leaves behind may panic as well.
        if catch_unwind(AssertUnwindSafe(|| drop(self))).is_err() {
            tracing::error!("a connection panicked as it ended");
        }
        None
    }
}

impl Wake for Alert {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.core.lead.wake(&self.core, self.key);
    }
}
