//! How fast workers are started, and how many.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Step, Verdict, must};
use crate::fleet::{Action, Moment, Notice, Policy};

const WINDOW: Duration = Duration::from_secs(60);

pub(super) struct Pace {
    /// Starts of the last minute that nobody asked for.
    starts: VecDeque<Moment>,
    /// The highest target that may still have its workers.
    ceiling: usize,
    /// Workers that may be there beside them.
    more: usize,
}

impl Pace {
    pub(super) fn new(target: usize) -> Self {
        Self {
            starts: VecDeque::new(),
            ceiling: target,
            more: 1,
        }
    }

    /// A wait that was announced fits the policy.
    pub(super) fn note(&mut self, notice: &Notice, policy: &Policy, now: Moment) -> Verdict {
        match notice {
            Notice::Respawn { crashes, delay } => {
                let doublings = crashes.saturating_sub(2).min(20);
                let full = policy.restart.backoff * 2u32.pow(doublings);
                let full = full.min(policy.restart.backoff_max);
                let fits = if *crashes < 2 {
                    delay.is_zero()
                } else {
                    full / 2 <= *delay && *delay <= full
                };
                must!(fits, "{delay:?} after {crashes} crashes, at {now:?}");
            }
            // These start others in their place.
            Notice::WorkerRetired { .. }
            | Notice::RolledBack { .. }
            | Notice::ReloadStarted { .. }
            | Notice::TargetChanged { .. } => self.starts.clear(),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn check(&mut self, step: &Step<'_>, policy: &Policy) -> Verdict {
        let fleet = step.fleet;
        let staying = fleet.workers().iter().filter(|worker| !worker.is_leaving());
        let staying = staying.count();
        // A reload may have a surge of workers more, recycling one.
        let more = match fleet.rollout {
            None if !step.before.in_rollout => 1,
            _ => policy.surge,
        };
        self.more = self.more.max(more);
        self.ceiling = self.ceiling.max(fleet.target());
        must!(
            staying <= self.ceiling + self.more,
            "{staying} workers, wanted are {} and {} more",
            self.ceiling,
            self.more
        );
        if staying <= fleet.target() {
            self.ceiling = fleet.target();
            self.more = more;
        }
        for action in step.actions {
            if matches!(action, Action::Spawn(_)) {
                self.starts.push_back(step.now);
            }
        }
        while self
            .starts
            .front()
            .is_some_and(|at| *at + WINDOW < step.now)
        {
            self.starts.pop_front();
        }
        let most = (self.ceiling + self.more) * starts_in_window(policy);
        must!(
            self.starts.len() <= most,
            "{} starts in a minute, {most} would be many",
            self.starts.len()
        );
        Ok(())
    }
}

/// The most starts in one place in a minute: at once, then after waits that
/// double; a record may be cleared by who lives for `backoff_max`.
fn starts_in_window(policy: &Policy) -> usize {
    let restart = policy.restart;
    let (mut wait, mut spent, mut starts) = (restart.backoff / 2, Duration::ZERO, 2);
    while spent < WINDOW {
        spent += wait;
        wait = (wait * 2).min(restart.backoff_max / 2);
        starts += 1;
    }
    let cleared = WINDOW.as_millis() / restart.backoff_max.as_millis();
    starts + 2 * usize::try_from(cleared).expect("a few")
}
