//! How many workers there should be, and which of them are too old.

use std::time::Duration;

use super::action::{Cause, Notice};
use super::event::WorkerId;
use super::moment::Moment;
use super::policy::Recycle;
use super::worker::Worker;
use super::{Action, Fleet};

/// The most workers that a fleet keeps.
const MAX_WORKERS: usize = 512;

/// The most workers that are there at once, those that leave included: a
/// reload may have each of them there twice.
pub const MAX_ROWS: usize = 2 * MAX_WORKERS;

/// How often the memory of the workers is looked at, where it is limited.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

impl Fleet {
    pub(super) fn on_scale_out(&mut self) {
        if self.may_scale("one worker more") {
            self.scale_to((self.target + 1).min(MAX_WORKERS));
        }
    }

    pub(super) fn on_scale_in(&mut self) {
        if self.may_scale("one worker fewer") {
            // After WINCH there are fewer than `min_ready`: fewer is never more.
            let least = self.policy.min_ready.min(self.target);
            self.scale_to(self.target.saturating_sub(1).max(least));
        }
    }

    /// WINCH: the one request that takes the pod below `min_ready`, on purpose.
    pub(super) fn on_retire_all(&mut self, now: Moment) {
        if self.may_scale("retire all workers") {
            self.set_target(0);
            self.vacancies.clear();
            self.abandoned = 0;
            let staying: Vec<WorkerId> = self.staying().map(|worker| worker.id).collect();
            for id in staying {
                self.retire(id, Cause::ScaleIn, now);
            }
        }
    }

    fn may_scale(&mut self, what: &'static str) -> bool {
        let may = !self.phase.is_going_down();
        if !may {
            self.tell(Notice::Ignored {
                what,
                why: "the pod is shutting down",
            });
        }
        may
    }

    /// A failed reload goes back to this number, not to the configured one.
    fn scale_to(&mut self, target: usize) {
        self.set_target(target);
        if self.rollout.is_none() && self.proven.is_some() {
            self.prove();
        }
    }

    pub(super) fn set_target(&mut self, target: usize) {
        if self.target != target {
            self.target = target;
            self.tell(Notice::TargetChanged { target });
        }
    }

    /// Workers to keep, less the places that are not to be filled again.
    pub(super) fn wanted(&self) -> usize {
        self.target.saturating_sub(self.abandoned)
    }

    /// The limits on a worker's life; one of another generation goes anyway, or
    /// stays by its own.
    pub(super) fn limits(&self, worker: &Worker) -> Recycle {
        if worker.generation == self.current {
            self.policy.recycle
        } else {
            Recycle::default()
        }
    }

    /// A worker is to be replaced; it serves on until its replacement is Ready.
    pub(super) fn recycle(&mut self, id: WorkerId, cause: Cause) {
        if let Some(worker) = self.worker_mut(id).filter(|worker| worker.is_ready()) {
            worker.recycle.get_or_insert(cause);
        }
    }

    pub(super) fn on_memory(&mut self, id: WorkerId, bytes: u64) {
        let limit = self
            .worker(id)
            .and_then(|worker| self.limits(worker).max_rss);
        if limit.is_some_and(|limit| bytes > limit) {
            self.recycle(id, Cause::MaxRss);
        }
    }

    /// Memory is measured where it is limited.
    pub(super) fn plan_measuring(&mut self, now: Moment) {
        self.measure_at = self.policy.recycle.max_rss.map(|_| now + MEASURE_EVERY);
    }

    /// Ask for the memory of the workers, when that is due.
    pub(super) fn measure(&mut self, now: Moment) {
        if self.measure_at.is_some_and(|due| due <= now) {
            self.act(Action::MeasureMemory);
            self.plan_measuring(now);
        }
    }

    /// The number of requests after which the next worker is replaced; 0 is never.
    pub(super) fn draw_max_requests(&mut self) -> u64 {
        let recycle = self.policy.recycle;
        recycle.max_requests.map_or(0, |limit| {
            let jitter = recycle.max_requests_jitter.saturating_add(1);
            limit.get().saturating_add(self.chance.next() % jitter)
        })
    }

    /// Take workers away that are more than wanted: first those that do not serve yet.
    pub(super) fn trim_surplus(&mut self, now: Moment) {
        while self.staying().count() > self.wanted() {
            let surplus = self
                .staying()
                .max_by_key(|worker| (worker.is_booting(), worker.slot));
            let Some(surplus) = surplus.filter(|worker| self.may_retire(worker)) else {
                return;
            };
            self.retire(surplus.id, Cause::ScaleIn, now);
        }
    }
}
