//! Who replaces a dead worker, and when.

use std::time::Duration;

use super::action::{Cause, ExitStatus, Notice};
use super::event::{Death, SpawnFailure, WorkerId};
use super::moment::Moment;
use super::policy::Restart;
use super::scaling::MAX_ROWS;
use super::worker::{State, Worker};
use super::{Action, Fleet, Level, Order, Phase};

/// The exit status by which a worker says that it could not load the app (gunicorn's).
const APP_LOAD_STATUS: i32 = 4;

/// What a worker inherits from those that died in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Lineage {
    /// Deaths in a row, none of which came late enough to be forgiven.
    pub(super) crashes: u32,
    /// Deaths in all.
    pub(super) restarts: u32,
}

/// In what way a worker failed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Failure<'a> {
    /// It died.
    Death(Death),
    /// It could not be started, for this reason.
    Spawn(&'a str),
    /// It missed a deadline, or goes by its own will.
    Behaviour,
}

/// A place that stays empty until `due`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vacancy {
    pub(super) due: Moment,
    pub(super) lineage: Lineage,
}

/// The wait before the replacement after `crashes` deaths in a row: none after
/// the first, then `backoff`, doubled each time up to `backoff_max`, and of
/// that a part between a half and the whole, so that workers which fell
/// together do not rise together.
fn backoff(restart: &Restart, crashes: u32, chance: f64) -> Duration {
    let Some(doublings) = crashes.checked_sub(2) else {
        return Duration::ZERO;
    };
    let full = restart
        .backoff
        .saturating_mul(2u32.saturating_pow(doublings.min(31)))
        .min(restart.backoff_max);
    full.mul_f64(0.5 + chance / 2.0)
}

impl Fleet {
    /// A worker is reaped.
    pub(super) fn on_exited(&mut self, id: WorkerId, death: Death, now: Moment) {
        let Some(worker) = self.remove(id) else {
            return;
        };
        // Who has drained, or was killed by us, has been accounted for.
        let in_hand = match worker.state {
            State::Leaving { .. } => death.is_violent(),
            // It was to say what it aborts.
            State::Aborting { .. } => true,
            _ => false,
        };
        self.work_aborted |= self.phase.is_going_down() && worker.ready_at.is_some() && in_hand;
        match worker.leaving {
            Some((cause, told)) => {
                self.tell(Notice::WorkerLeft {
                    worker: id,
                    cause,
                    death,
                    took: now - told,
                });
            }
            None => {
                let was_ready = worker.ready_at.is_some();
                let age = now - worker.spawned;
                self.tell(Notice::WorkerDied {
                    worker: id,
                    death,
                    was_ready,
                    age,
                });
                self.after_failure(&worker, Failure::Death(death), now);
            }
        }
    }

    /// A worker could not even be started.
    pub(super) fn on_spawn_failed(&mut self, id: WorkerId, failure: SpawnFailure, now: Moment) {
        let Some(worker) = self.remove(id) else {
            return;
        };
        let (hopeless, reason) = match failure.clone() {
            SpawnFailure::App(reason) => (Some(ExitStatus::AppLoad), reason),
            SpawnFailure::Config(reason) => (Some(ExitStatus::Config), reason),
            SpawnFailure::System(reason) => (None, reason),
        };
        self.tell(Notice::SpawnFailed {
            worker: id,
            failure,
        });
        if worker.is_leaving() {
            return;
        }
        match hopeless {
            Some(status) if matches!(self.phase, Phase::Boot) && !self.can_roll_back(&worker) => {
                self.boot_failures += 1;
                self.give_up_start(status, now);
            }
            _ => self.after_failure(&worker, Failure::Spawn(&reason), now),
        }
    }

    /// A worker failed that was wanted: decide about the place it leaves.
    pub(super) fn after_failure(&mut self, worker: &Worker, failure: Failure<'_>, now: Moment) {
        if !self.phase.replaces_the_dead() {
            return;
        }
        let was_ready = worker.ready_at.is_some();
        let unloadable = matches!(failure, Failure::Death(Death::Exited(APP_LOAD_STATUS)));
        let status = if unloadable {
            ExitStatus::AppLoad
        } else {
            ExitStatus::WorkerBoot
        };
        if !was_ready && worker.generation == self.current {
            self.boot_failures += 1;
        }
        if self.fails_the_rollout(worker, now) {
            self.roll_back(&why_rolled_back(worker, &failure), now);
            return;
        }
        // Another generation may know what to do.
        let fatal = worker.fatal && worker.generation == self.current;
        let hopeless = fatal || self.boot_failures >= self.policy.restart.crash_limit;
        if matches!(self.phase, Phase::Boot) && hopeless {
            self.give_up_start(status, now);
            return;
        }
        // Whoever never got Ready while others serve does not speak for the place: it is tried again.
        if fatal && (was_ready || self.ready_workers() == 0) {
            self.abandoned += 1;
            return;
        }
        let forgiven = worker
            .ready_for(now)
            .is_some_and(|for_so_long| for_so_long >= self.policy.restart.backoff_max);
        let crashes = if forgiven {
            1
        } else {
            worker.lineage.crashes + 1
        };
        let lineage = Lineage {
            crashes,
            restarts: worker.lineage.restarts + 1,
        };
        let delay = backoff(&self.policy.restart, crashes, self.chance.fraction());
        self.tell(Notice::Respawn { crashes, delay });
        self.vacancies.push(Vacancy {
            due: now + delay,
            lineage,
        });
    }

    /// A place for each worker that is wanted and not there.
    pub(super) fn fill(&mut self, now: Moment) {
        let staying = self.staying().count();
        let wanted = self.wanted();
        for _ in staying + self.vacancies.len()..wanted {
            self.vacancies.push(Vacancy {
                due: now,
                lineage: Lineage::default(),
            });
        }
        self.vacancies.sort_by_key(|vacancy| vacancy.due);
        self.vacancies
            .truncate((wanted + self.spare_places()).saturating_sub(staying));
        let due = self.vacancies.partition_point(|vacancy| vacancy.due <= now);
        let first_later = due.min(self.free_rows());
        let due: Vec<Vacancy> = self.vacancies.drain(..first_later).collect();
        for vacancy in due {
            self.spawn(vacancy.lineage, now);
        }
    }

    /// How many workers more the scoreboard has rows for: those who take long
    /// to leave keep theirs.
    pub(super) fn free_rows(&self) -> usize {
        MAX_ROWS.saturating_sub(self.workers.len())
    }

    /// Every worker said that another one would fare no better: a pod without
    /// any is of no use to anybody, and whoever runs it may have a remedy.
    pub(super) fn give_up_if_abandoned(&mut self, now: Moment) {
        if self.abandoned > 0 && self.workers.is_empty() && self.vacancies.is_empty() {
            self.give_up_start(ExitStatus::WorkerBoot, now);
        }
    }

    fn give_up_start(&mut self, status: ExitStatus, now: Moment) {
        self.tell(Notice::StartFailed {
            failures: self.boot_failures,
            status,
        });
        self.verdict = Some(status);
        self.stop_now(now);
    }

    fn remove(&mut self, id: WorkerId) -> Option<Worker> {
        let index = self.workers.iter().position(|worker| worker.id == id)?;
        Some(self.workers.remove(index))
    }

    /// Order a worker into the lowest free slot.
    pub(super) fn spawn(&mut self, lineage: Lineage, now: Moment) {
        let slot = (0..)
            .find(|&slot| self.workers.iter().all(|worker| worker.slot != slot))
            .unwrap_or(0);
        let worker = Worker {
            id: self.next_id(),
            slot,
            generation: self.current,
            level: self.policy.level.unwrap_or(Level::Plain),
            learns: self.policy.level.is_none(),
            state: State::Booting {
                give_up: now + self.policy.boot_timeout,
            },
            spawned: now,
            ready_at: None,
            leaving: None,
            recycle: None,
            lineage,
            max_requests: self.draw_max_requests(),
            greeted: false,
            fatal: false,
            hang_timeout: self.policy.hang_timeout,
            watchdog: None,
            term_immediately: self.policy.term_immediately,
            status: None,
            healthy: true,
            healthy_at: None,
            sick_since: None,
        };
        self.act(Action::Spawn(Order {
            worker: worker.id,
            slot,
            generation: worker.generation,
            max_requests: worker.max_requests,
        }));
        self.workers.push(worker);
    }
}

/// A small generator of chance (SplitMix64, Steele et al. 2014): for jitter, not for secrets.
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly from 0 to below 1.
    pub(super) fn fraction(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let bits = (self.next() >> 11) as f64;
        bits / (1u64 << 53) as f64
    }
}

/// What is told of a reload that this worker of the new generation has brought down.
fn why_rolled_back(worker: &Worker, failure: &Failure<'_>) -> String {
    let was_ready = worker.ready_at.is_some();
    let is_late = (worker.leaving).is_some_and(|(why, _)| why == Cause::BootTimeout);
    let what = if worker.fatal {
        "a new worker said that it cannot work"
    } else if was_ready {
        "a new worker died at once"
    } else if is_late {
        "a new worker did not get Ready within boot_timeout"
    } else {
        "a new worker did not get Ready"
    };
    let mut reason = match failure {
        Failure::Death(death) => format!("{what}: {death}"),
        Failure::Spawn(reason) => format!("{what}: {reason}"),
        Failure::Behaviour => what.to_owned(),
    };
    if let Some(said) = worker.status.as_ref().filter(|_| !was_ready) {
        reason.push_str("; it said: ");
        reason.push_str(said);
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESTART: Restart = Restart {
        backoff: Duration::from_millis(100),
        backoff_max: Duration::from_secs(30),
        crash_limit: 5,
    };

    #[test]
    fn the_first_replacement_is_immediate_and_later_ones_double_up_to_the_cap() {
        let full = |crashes| backoff(&RESTART, crashes, 1.0);
        assert_eq!(full(1), Duration::ZERO);
        assert_eq!(full(2), Duration::from_millis(100));
        assert_eq!(full(3), Duration::from_millis(200));
        assert_eq!(full(9), Duration::from_millis(12_800));
        assert_eq!(full(11), Duration::from_secs(30));
        assert_eq!(full(u32::MAX), Duration::from_secs(30));
    }

    #[test]
    fn jitter_takes_away_up_to_a_half() {
        assert_eq!(backoff(&RESTART, 2, 0.0), Duration::from_millis(50));
    }

    #[test]
    fn chance_is_spread_over_its_whole_range() {
        let mut chance = Chance::new(1);
        let draws: Vec<f64> = (0..1000).map(|_| chance.fraction()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        assert!(draws.iter().any(|draw| *draw < 0.05) && draws.iter().any(|draw| *draw > 0.95));
    }
}
