//! The kernel, the clock and the bell: what is below a driver that a foreign loop hosts.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::rt::Timer as _;
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::super::executor::{Core, Job, TURN, Task};
use super::super::reactor::Reactor;
use super::super::shift::{Floor, Shift};
use super::super::tasks::Run;

/// What a driver has where a foreign loop hosts it.
pub(in crate::baton) struct Hosted {
    pub(in crate::baton) shift: Shift<Task, Arc<dyn Job>>,
    /// The reactor's epoll.
    kernel: OwnedFd,
    /// For the loop.
    bell: OwnedFd,
    /// For the thread that stands by.
    pub(super) nudge: OwnedFd,
    /// In the epoll, so that a timer is an event like any other.
    clock: OwnedFd,
    /// When the clock rings. Hardly ever of others than the holder of the baton.
    rings: Mutex<Option<Instant>>,
    /// Requests that the app has not let go of.
    pub(super) open: AtomicUsize,
    /// The worker takes no more connections: whatever ends may be the last.
    leaves: AtomicBool,
    /// The loop was told that the last has ended.
    told: AtomicBool,
    /// The thread that stands by waits for the kernel.
    pub(super) dozes: AtomicBool,
    pub(super) ended: AtomicBool,
    /// A loop that does not turn for so long is told of.
    pub(super) stall: Option<Duration>,
}

/// All of it.
#[derive(Clone, Copy)]
pub(in crate::baton) struct Below<'a> {
    pub(in crate::baton) core: &'a Core,
    pub(in crate::baton) hosted: &'a Hosted,
    /// For the thread that stands by.
    stands_by: bool,
}

impl Hosted {
    pub(super) fn new(reactor: &Reactor, stall: Option<Duration>) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let clock = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        reactor.watch_clock(&clock)?;
        Ok(Self {
            shift: Shift::new(),
            kernel: reactor.epoll()?,
            bell: eventfd(0, flags)?,
            nudge: eventfd(0, flags)?,
            clock,
            rings: Mutex::new(None),
            open: AtomicUsize::new(0),
            leaves: AtomicBool::new(false),
            told: AtomicBool::new(false),
            dozes: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            stall,
        })
    }

    pub(super) fn kernel(&self) -> BorrowedFd<'_> {
        self.kernel.as_fd()
    }

    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// A request goes to the app.
    pub(super) fn enter(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    /// The app has let go of it.
    pub(super) fn leave(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 && self.leaves.load(Ordering::Acquire) {
            signal(&self.bell);
        }
    }

    /// Whether the app has let go of all requests.
    pub(super) fn is_quiet(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// From now on the loop is to turn when the last one has left.
    pub(super) fn begin_to_leave(&self) {
        self.leaves.store(true, Ordering::Release);
    }

    pub(super) fn answer_bell(&self) {
        clear(&self.bell);
    }

    /// Whoever stands by goes home.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        signal(&self.nudge);
    }

    /// The loop turns: whoever stands by is not to be woken by each of its events. Or it has put
    /// something off.
    pub(super) fn rouse(&self) {
        if self.dozes.load(Ordering::Acquire) && self.dozes.swap(false, Ordering::AcqRel) {
            signal(&self.nudge);
        }
    }
}

impl Floor for Below<'_> {
    type Task = Task;
    type Call = Arc<dyn Job>;

    fn run(&self, run: Run<Task>) -> Option<Task> {
        run.task.run()
    }

    fn call(&self, job: Arc<dyn Job>) {
        job.run();
        // However long it took: its request may end next.
        self.core.timers.tick();
    }

    fn poll_kernel(&self) {
        let timers = &self.core.timers;
        self.core.gate.set_blocked(self.stands_by);
        self.core.reactor.wait(Some(Duration::ZERO), || {
            timers.tick();
        });
        let mut rings = self.hosted.lock_rings();
        if rings.is_some_and(|at| at <= timers.now()) {
            *rings = None;
        }
        drop(rings);
        timers.ring();
    }

    /// Sets the clock; sees whether it is over, of which the loop is told once.
    fn settle(&self) {
        self.core.gate.set_blocked(self.stands_by);
        self.core.timers.begin_turn();
        let hosted = self.hosted;
        if hosted.leaves.load(Ordering::Acquire)
            && hosted.is_quiet()
            && !hosted.shift.has_tasks()
            && !hosted.told.swap(true, Ordering::Relaxed)
        {
            self.ring();
        }
        self.set_clock();
    }

    fn is_stale(&self) -> bool {
        self.core.timers.turn() > TURN
    }

    fn rouse(&self) {
        self.hosted.rouse();
    }

    fn wake_kernel(&self) {
        self.core.reactor.wake();
    }

    fn ring(&self) {
        signal(&self.hosted.bell);
    }
}

impl<'a> Below<'a> {
    pub(in crate::baton) fn new(core: &'a Core, hosted: &'a Hosted) -> Self {
        Self {
            core,
            hosted,
            stands_by: false,
        }
    }

    /// The same for the thread that stands by.
    pub(super) fn standing_by(self) -> Self {
        Self {
            stands_by: true,
            ..self
        }
    }

    /// Sets the clock, if something is due before it rings.
    pub(super) fn set_clock(&self) {
        let timers = &self.core.timers;
        let Some(left) = timers.left() else { return };
        let at = timers.now() + left;
        let mut rings = self.hosted.lock_rings();
        if rings.is_none_or(|rings| at < rings) {
            *rings = Some(at);
            self.hosted.set_clock(left);
        }
    }
}

impl Hosted {
    fn set_clock(&self, left: Duration) {
        // Zero would stop it.
        let left = left.max(Duration::from_nanos(1));
        let zero = Timespec::default();
        let set = Timespec::try_from(left).map(|it_value| {
            let time = Itimerspec {
                it_interval: zero,
                it_value,
            };
            timerfd_settime(&self.clock, TimerfdTimerFlags::empty(), &time)
        });
        if !matches!(set, Ok(Ok(_))) {
            tracing::error!(?left, "cannot set the clock");
        }
    }

    fn lock_rings(&self) -> MutexGuard<'_, Option<Instant>> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes an eventfd readable.
fn signal(fd: &OwnedFd) {
    if let Err(error) = rustix::io::write(fd, &1_u64.to_ne_bytes())
        && error != Errno::WOULDBLOCK
    {
        tracing::error!(%error, "cannot wake the other thread");
    }
}

/// Makes an eventfd unreadable.
pub(super) fn clear(fd: &OwnedFd) {
    let _ = rustix::io::read(fd, &mut [0_u8; 8]);
}
