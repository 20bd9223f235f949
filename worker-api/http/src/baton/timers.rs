//! One queue for all timers, and hyper's clock on it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use crate::clock::Hand;

/// The timers of a worker; a clone is another handle on the same ones.
#[derive(Clone)]
pub(super) struct Timers {
    shared: Arc<Shared>,
}

struct Shared {
    start: Instant,
    /// The same on the hand below.
    start_nanos: u64,
    /// One look at the kernel's clock serves a turn of the loop.
    hand: Hand,
    /// When the turn began that lasts; likewise.
    turn: AtomicU64,
    alarms: Mutex<Alarms>,
}

#[derive(Default)]
struct Alarms {
    next: u64,
    due: BTreeMap<Key, Waker>,
}

type Key = (Instant, u64);

/// Rings once, at a time; it is in the queue only while somebody waits for it.
pub(super) struct Alarm {
    timers: Timers,
    at: Instant,
    /// Its place in the queue, and whom it wakes.
    place: Option<(Key, Waker)>,
}

impl Timers {
    pub(super) fn new() -> Self {
        let hand = Hand::new();
        let shared = Shared {
            start: Instant::now(),
            start_nanos: hand.nanos(),
            turn: AtomicU64::new(hand.nanos()),
            hand,
            alarms: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Looks at the kernel's clock. What it says counts as [`nanos`](Self::nanos).
    pub(super) fn tick(&self) -> u64 {
        self.shared.hand.set()
    }

    /// When somebody last looked at the clock, in nanoseconds.
    pub(super) fn nanos(&self) -> u64 {
        self.shared.hand.nanos()
    }

    /// How long ago that was.
    pub(super) fn unseen(&self) -> Duration {
        self.shared.hand.age()
    }

    /// What shows that.
    pub(super) fn hand(&self) -> &Hand {
        &self.shared.hand
    }

    /// A turn begins: whoever holds the baton is back from the kernel, or, where a foreign loop hosts
    /// the driver, has put it down.
    pub(super) fn begin_turn(&self) {
        self.shared.turn.store(self.nanos(), Ordering::Relaxed);
    }

    /// How long the turn has lasted when somebody last looked at the clock, in nanoseconds.
    pub(super) fn turn(&self) -> u64 {
        let began = self.shared.turn.load(Ordering::Relaxed);
        self.nanos().saturating_sub(began)
    }

    pub(super) fn alarm(&self, at: Instant) -> Alarm {
        Alarm {
            timers: self.clone(),
            at,
            place: None,
        }
    }

    /// How long the loop may sleep; `None` if nothing is due ever.
    pub(super) fn left(&self) -> Option<Duration> {
        let (at, _) = *self.lock().due.first_key_value()?.0;
        Some(at.saturating_duration_since(self.now()))
    }

    /// Wakes whoever waits for what is due.
    pub(super) fn ring(&self) {
        let now = self.now();
        loop {
            let waker = {
                let mut alarms = self.lock();
                match alarms.due.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    _ => return,
                }
            };
            waker.wake();
        }
    }

    fn enter(&self, at: Instant, waker: Waker) -> Key {
        let mut alarms = self.lock();
        alarms.next += 1;
        let key = (at, alarms.next);
        alarms.due.insert(key, waker);
        key
    }

    fn lock(&self) -> MutexGuard<'_, Alarms> {
        let alarms = self.shared.alarms.lock();
        alarms.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timer for Timers {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(self.alarm(deadline))
    }

    fn now(&self) -> Instant {
        let since = self.nanos().saturating_sub(self.shared.start_nanos);
        self.shared.start + Duration::from_nanos(since)
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Alarm>() {
            Some(alarm) => alarm.get_mut().set(new_deadline),
            None => *sleep = self.sleep_until(new_deadline),
        }
    }
}

impl Alarm {
    /// Sets it to another time.
    pub(super) fn set(&mut self, at: Instant) {
        self.leave();
        self.at = at;
    }

    fn leave(&mut self) {
        if let Some((key, _)) = self.place.take() {
            self.timers.lock().due.remove(&key);
        }
    }
}

impl Sleep for Alarm {}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.at <= self.timers.now() {
            self.leave();
            return Poll::Ready(());
        }
        // In the queue until its time has come: the same waker has nothing to do there.
        let waker = cx.waker();
        let waits = self.place.as_ref();
        if !waits.is_some_and(|(_, waiting)| waiting.will_wake(waker)) {
            self.leave();
            let key = self.timers.enter(self.at, waker.clone());
            self.place = Some((key, waker.clone()));
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(alarm: &mut Alarm) -> Poll<()> {
        Pin::new(alarm).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn nothing_is_due_when_nobody_waits() {
        let timers = Timers::new();
        let mut alarm = timers.alarm(timers.now() + Duration::from_secs(60));
        assert_eq!(timers.left(), None, "made, and not waited for");
        assert!(poll(&mut alarm).is_pending());
        assert!(
            timers
                .left()
                .is_some_and(|left| left <= Duration::from_secs(60))
        );
        drop(alarm);
        assert_eq!(timers.left(), None);
    }

    #[test]
    fn an_alarm_rings_at_the_time_it_was_last_set_to() {
        let timers = Timers::new();
        let mut alarm = timers.alarm(timers.now() + Duration::from_secs(60));
        assert!(poll(&mut alarm).is_pending());
        alarm.set(timers.now() + Duration::from_nanos(1));
        assert!(poll(&mut alarm).is_pending());
        while timers.left() != Some(Duration::ZERO) {
            timers.tick();
        }
        timers.ring();
        assert_eq!(timers.left(), None);
        assert!(poll(&mut alarm).is_ready());
    }

    #[test]
    fn the_clock_of_a_turn_stands_still_until_somebody_looks() {
        let timers = Timers::new();
        let before = timers.now();
        assert_eq!(timers.now(), before);
        let nanos = timers.nanos();
        while timers.tick() == nanos {}
        assert!(timers.now() > before && timers.turn() > 0);
        timers.begin_turn();
        assert_eq!(timers.turn(), 0);
    }
}
