//! What the thread that stands by waits for, and how it tells a blocked loop from a quiet one.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::super::shift::{Floor, Wait};
use super::below::{Below, clear};

/// A loop that does not turn for so long, though there is something to do, is blocked.
const PATIENCE: Duration = Duration::from_millis(20);

/// After this part of its time a loop that is quiet is asked whether it still turns.
const UNASKED: u32 = 4;

/// The waits of the thread that stands by. While the loop turns it wakes up fifty times a second;
/// when nothing happens, and nothing is in flight, not at all.
pub(super) struct Vigil<'a, F> {
    below: Below<'a>,
    pulse: Pulse,
    stalled: F,
}

/// When the loop was last seen to turn.
struct Pulse {
    turns: u64,
    seen: Instant,
    asked: Option<Instant>,
    told: bool,
}

/// What is to be done about a loop.
#[derive(Debug, PartialEq, Eq)]
enum Sign {
    /// Look again after this time.
    Later(Duration),
    /// Ask it to turn.
    Ask,
    /// It was asked, and did not turn for this time.
    Stalled(Duration),
}

impl<'a, F: Fn(Duration)> Vigil<'a, F> {
    pub(super) fn new(below: Below<'a>, stalled: F) -> Self {
        Self {
            pulse: Pulse::new(Instant::now()),
            below,
            stalled,
        }
    }

    /// How long the thread may sleep; `None` if nothing is in flight.
    fn limit(&mut self, turns: u64) -> Option<Duration> {
        let stall = self.below.hosted.stall?;
        loop {
            let is_idle = self.below.hosted.is_quiet();
            let now = Instant::now();
            if is_idle {
                self.pulse = Pulse::new(now);
                return None;
            }
            match self.pulse.feel(turns, now, stall) {
                Sign::Later(left) => return Some(left),
                Sign::Ask => self.below.ring(),
                Sign::Stalled(since) => (self.stalled)(since),
            }
        }
    }

    /// Waits for one of the descriptors. Tells whether there is an event of the kernel's.
    fn poll(&self, kernel: PollFlags, timeout: Option<Duration>) -> bool {
        let hosted = self.below.hosted;
        let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
        let mut fds = [
            PollFd::from_borrowed_fd(hosted.kernel(), kernel),
            PollFd::from_borrowed_fd(hosted.nudge.as_fd(), PollFlags::IN),
        ];
        // A failure is a signal's doing: what is awaited is looked at all the same.
        let _ = rustix::event::poll(&mut fds, timeout.as_ref());
        if fds[1].revents().contains(PollFlags::IN) {
            clear(&hosted.nudge);
        }
        fds[0].revents().contains(PollFlags::IN)
    }

    fn goes_on(&self) -> bool {
        !self.below.hosted.ended.load(Ordering::Acquire)
    }
}

impl<F: Fn(Duration)> Wait for Vigil<'_, F> {
    fn for_news(&mut self, mut turns: u64) -> bool {
        let Below { hosted, .. } = self.below;
        loop {
            hosted.dozes.store(true, Ordering::SeqCst);
            if hosted.shift.has_ready() {
                // Put off before it could be known that this thread sleeps.
                hosted.dozes.store(false, Ordering::Release);
                return self.goes_on();
            }
            let limit = self.limit(turns);
            let came = self.poll(PollFlags::IN, limit);
            let was_roused = !hosted.dozes.swap(false, Ordering::AcqRel);
            if came || was_roused || !self.goes_on() {
                return self.goes_on();
            }
            turns = hosted.shift.turns();
        }
    }

    fn for_loop(&mut self) -> bool {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.goes_on() {
                return self.goes_on();
            }
            self.poll(PollFlags::empty(), Some(left));
        }
    }

    fn is_due(&self) -> bool {
        self.poll(PollFlags::IN, Some(Duration::ZERO))
    }
}

impl Pulse {
    fn new(now: Instant) -> Self {
        Self {
            turns: 0,
            seen: now,
            asked: None,
            told: false,
        }
    }

    fn feel(&mut self, turns: u64, now: Instant, stall: Duration) -> Sign {
        if turns != self.turns {
            *self = Self {
                turns,
                ..Self::new(now)
            };
        }
        let Some(asked) = self.asked else {
            let left = (self.seen + stall / UNASKED).saturating_duration_since(now);
            if !left.is_zero() {
                return Sign::Later(left);
            }
            self.asked = Some(now);
            return Sign::Ask;
        };
        let left = (asked + stall).saturating_duration_since(now);
        if left.is_zero() && !self.told {
            self.told = true;
            return Sign::Stalled(now.saturating_duration_since(self.seen));
        }
        Sign::Later(if self.told { stall } else { left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(8);

    #[test]
    fn a_loop_that_turns_is_not_asked() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        for second in 0..100 {
            let now = start + Duration::from_secs(second);
            assert!(matches!(
                pulse.feel(second, now, STALL),
                Sign::Later(left) if left <= STALL
            ));
        }
    }

    #[test]
    fn a_quiet_loop_is_asked_and_told_of_once_if_it_does_not_answer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = Pulse::new(start);
        let later = |seconds| Sign::Later(Duration::from_secs(seconds));
        assert_eq!(pulse.feel(7, at(1), STALL), later(2));
        assert_eq!(pulse.feel(7, at(3), STALL), Sign::Ask);
        assert_eq!(pulse.feel(7, at(3), STALL), later(8));
        assert_eq!(pulse.feel(7, at(10), STALL), later(1));
        assert_eq!(
            pulse.feel(7, at(11), STALL),
            Sign::Stalled(Duration::from_secs(10))
        );
        assert_eq!(pulse.feel(7, at(11), STALL), later(8));
        assert_eq!(pulse.feel(7, at(30), STALL), later(8), "told once");
        assert_eq!(pulse.feel(8, at(31), STALL), later(2), "it is back");
    }

    #[test]
    fn a_loop_that_answers_is_quiet_and_not_blocked() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        let mut turns = 1;
        for second in 0..100 {
            let now = start + Duration::from_secs(second);
            match pulse.feel(turns, now, STALL) {
                Sign::Ask => turns += 1,
                Sign::Later(_) => {}
                Sign::Stalled(_) => unreachable!("it answers"),
            }
        }
        // Asked after two seconds; that it has turned is seen a second later.
        assert!((30..40).contains(&turns), "{turns}");
    }
}
