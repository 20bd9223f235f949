//! Where a worker's listeners, its connections and the scoreboard meet: keeps the stance up to
//! date and the listeners' seats as it says.
//!
//! Nothing polls. What opens, ends or begins here is told; what happens at the others is looked at
//! whenever a connection comes, which a worker that stands aside is told of as well.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use worker_api::{ConnectionGuard, Connections, InFlight, Worker};

use super::policy::{Load, Policy, Stance};
use super::seat::Seat;

/// One worker's gate.
pub(crate) struct Gate {
    worker: Worker,
    connections: Connections,
    in_flight: InFlight,
    /// App calls at once; `None` where a call never keeps others waiting.
    threads: Option<NonZeroUsize>,
    /// The app holds the event loop that is to run it.
    blocked: AtomicBool,
    /// That of `inner`, for a quick look.
    stance: AtomicU8,
    inner: Mutex<Inner>,
}

struct Inner {
    policy: Policy,
    /// By the numbers of their places; `None` once a listener is left for good.
    seats: Vec<Option<Placed>>,
}

struct Placed {
    seat: Seat,
    /// Its listener cannot accept for a while.
    paused: bool,
}

/// Numbers that change with each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Requests that this worker has finished.
    pub(crate) own: u64,
    /// Requests that others have taken up which may take a connection.
    pub(crate) others: u64,
}

/// Which seat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(usize);

/// One open connection of a worker. When it is dropped, the gate looks whether there is room
/// again.
pub(crate) struct Open {
    gate: Arc<Gate>,
    /// `None` only while it is dropped.
    guard: Option<ConnectionGuard>,
}

impl Gate {
    pub(crate) fn new(worker: &Worker, threads: Option<NonZeroUsize>) -> Arc<Self> {
        let max_connections = worker.settings().max_connections.get();
        Arc::new(Self {
            worker: worker.clone(),
            connections: worker.connections(),
            in_flight: worker.in_flight(),
            threads,
            blocked: AtomicBool::new(false),
            stance: AtomicU8::new(Stance::In as u8),
            inner: Mutex::new(Inner {
                policy: Policy::new(max_connections),
                seats: Vec::new(),
            }),
        })
    }

    /// Counts a connection.
    pub(crate) fn open(self: &Arc<Self>) -> Open {
        Open {
            guard: Some(self.connections.open()),
            gate: Arc::clone(self),
        }
    }

    /// Takes a seat up, and has it join as the stance says.
    pub(crate) fn enroll(&self, seat: Seat) -> io::Result<Place> {
        let mut inner = self.lock();
        place(&seat, self.stance())?;
        inner.seats.push(Some(Placed {
            seat,
            paused: false,
        }));
        Ok(Place(inner.seats.len() - 1))
    }

    /// The stance as it was decided last.
    pub(crate) fn stance(&self) -> Stance {
        match self.stance.load(Ordering::Acquire) {
            0 => Stance::In,
            1 => Stance::Aside,
            _ => Stance::Full,
        }
    }

    /// Decides the stance anew; the seats follow it.
    pub(crate) fn look(&self) -> Stance {
        let mut inner = self.lock();
        let own = Load {
            connections: self.connections.count() as u64,
            busy: self.is_held_up(),
        };
        let others = self.worker.others().map(|other| Load {
            connections: other.connections.into(),
            busy: self.is_busy(other.in_flight as usize),
        });
        let stance = inner.policy.look(own, others);
        if self.stance.swap(stance as u8, Ordering::AcqRel) != stance as u8 {
            tracing::trace!(?stance, "accepting");
            for placed in inner.seats.iter().flatten().filter(|it| !it.paused) {
                if let Err(error) = place(&placed.seat, stance) {
                    tracing::error!(%error, ?stance, "cannot change the watch over a listener");
                }
            }
        }
        stance
    }

    /// Whether the app keeps whoever comes now waiting.
    pub(crate) fn is_held_up(&self) -> bool {
        self.blocked.load(Ordering::Relaxed) || self.is_busy(self.in_flight.count())
    }

    /// How far everybody is.
    pub(crate) fn progress(&self) -> Progress {
        let most = self.worker.settings().max_connections.get() as u64;
        let open = self
            .worker
            .others()
            .filter(|other| u64::from(other.connections) < most);
        Progress {
            own: self.in_flight.served(),
            others: open.map(|other| other.requests).fold(0, u64::wrapping_add),
        }
    }

    /// The app holds its event loop, or does so no more.
    pub(crate) fn set_blocked(&self, blocked: bool) {
        if self.blocked.load(Ordering::Relaxed) != blocked {
            self.blocked.store(blocked, Ordering::Relaxed);
            self.look();
        }
    }

    /// A driver whose calls block is about to wait for the kernel: it steps aside before it is
    /// woken for a connection that it should leave to another.
    pub(crate) fn look_before_waiting(&self) {
        if self.stance() != Stance::In || self.is_busy(self.in_flight.count()) {
            self.look();
        }
    }

    /// The seat joins anew, as the stance says, behind all others, and is told of what waits.
    pub(crate) fn rejoin(&self, at: Place) -> io::Result<()> {
        let mut inner = self.lock();
        let Some(Some(placed)) = inner.seats.get_mut(at.0) else {
            return Ok(());
        };
        placed.paused = false;
        place(&placed.seat, self.stance())
    }

    /// The seat leaves until it [rejoins](Self::rejoin): connections wake others.
    pub(crate) fn pause(&self, at: Place) {
        if let Some(Some(placed)) = self.lock().seats.get_mut(at.0) {
            placed.paused = true;
            leave(&placed.seat);
        }
    }

    /// The seat leaves for good.
    pub(crate) fn close(&self, at: Place) {
        let placed = self.lock().seats.get_mut(at.0).and_then(Option::take);
        if let Some(Placed { seat, .. }) = placed {
            leave(&seat);
        }
    }

    fn is_busy(&self, in_flight: usize) -> bool {
        self.threads.is_some_and(|most| in_flight >= most.get())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("stance", &self.stance())
            .finish_non_exhaustive()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        drop(self.guard.take());
        // While it takes its turn, one connection less changes nothing.
        if self.gate.stance() != Stance::In {
            self.gate.look();
        }
    }
}

fn place(seat: &Seat, stance: Stance) -> io::Result<()> {
    match stance {
        Stance::In => seat.queue_up(),
        Stance::Aside => seat.look_on(),
        Stance::Full => seat.leave(),
    }
}

fn leave(seat: &Seat) {
    if let Err(error) = seat.leave() {
        tracing::debug!(%error, "cannot leave a listener");
    }
}
