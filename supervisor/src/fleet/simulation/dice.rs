//! Chance, and the policies that are drawn by it.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::fleet::respawn::Chance;
use crate::fleet::{Level, Policy, Recycle, Restart, Shutdown};

/// The same throws for the same seed.
pub(super) struct Dice(Chance);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Chance::new(seed))
    }

    /// Evenly from 0 to below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0.next() % bound
    }

    pub(super) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = self.below(choices.len() as u64);
        choices[usize::try_from(index).expect("an index")]
    }

    /// Up to `longest`; a short length is as likely as a long one.
    pub(super) fn up_to(&mut self, longest: Duration) -> Duration {
        let micros = u64::try_from(longest.as_micros()).expect("no ages");
        let scale = self.pick(&[1, 1, 10, 1000]);
        Duration::from_micros(self.below(micros / scale + 1))
    }

    pub(super) fn maybe<T>(&mut self, chances: u64, value: T) -> Option<T> {
        self.one_in(chances).then_some(value)
    }

    fn seconds(&mut self, choices: &[u64]) -> Duration {
        Duration::from_secs(self.pick(choices))
    }

    /// A policy that a configuration could lead to.
    pub(super) fn policy(&mut self) -> Policy {
        let most = if self.one_in(30) { 24 } else { 6 };
        let count = 1 + self.below(most);
        let min_ready = if self.one_in(2) {
            1
        } else {
            1 + self.below(count)
        };
        Policy {
            count: usize::try_from(count).expect("a few"),
            min_ready: usize::try_from(min_ready).expect("a few"),
            level: self.pick(&[
                None,
                Some(Level::Plain),
                Some(Level::Notify),
                Some(Level::Native),
                Some(Level::Native),
            ]),
            ready_after: Duration::from_millis(self.pick(&[0, 200, 1000, 1000, 2000])),
            boot_timeout: self.seconds(&[5, 60]),
            hang_timeout: self
                .pick(&[None, Some(5), Some(30)])
                .map(Duration::from_secs),
            term_immediately: self.one_in(4),
            recycle: self.recycle(),
            restart: Restart {
                backoff: Duration::from_millis(self.pick(&[50, 100, 1000])),
                backoff_max: self.seconds(&[5, 30]),
                crash_limit: self.pick(&[1, 2, 5, 5]),
            },
            shutdown: self.shutdown(),
            surge: self.pick(&[1, 1, 2, 3]),
            retire_bound: self.seconds(&[5, 75]),
        }
    }

    fn recycle(&mut self) -> Recycle {
        let lifetime = Duration::from_secs(600 + self.below(6000));
        Recycle {
            max_requests: self.maybe(3, NonZeroU64::MIN.saturating_add(999)),
            max_requests_jitter: self.pick(&[0, 100]),
            max_lifetime: self.maybe(4, lifetime),
            max_rss: self.maybe(4, 1 << 30),
        }
    }

    fn shutdown(&mut self) -> Shutdown {
        Shutdown {
            lameduck: self.seconds(&[0, 3, 10, 35]),
            lameduck_quiet: self.maybe(4, Duration::from_secs(1)),
            failure_threshold: 3,
            unready_delay: self.seconds(&[0, 0, 1, 5]),
            drain_timeout: self.seconds(&[1, 15, 15, 60]),
            kill_margin: self.seconds(&[0, 1, 5, 5, 5, 10]),
        }
    }
}
