//! Replacing workers that serve: reload, rollback and recycling are one mechanism.
//!
//! A worker of another generation than the current one, and a worker that has
//! reached a limit of its life, are *stale*. As long as there is a stale
//! worker, up to `surge` replacements boot; for each that is Ready one stale
//! worker is retired. Nobody is retired for a generation that has not shown
//! yet that it can live: its first Ready worker must have been so for
//! `ready_after`.

use worker_api::message::Command;

use super::action::{Cause, Notice, Signal};
use super::event::{Generation, WorkerId};
use super::moment::Moment;
use super::policy::{Level, Policy};
use super::respawn::Lineage;
use super::worker::{State, Worker};
use super::{Action, Fleet, Phase};

/// A change of generation under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rollout {
    started: Moment,
    /// The new generation has shown that it can live.
    settled: bool,
    /// It leads back to the proven generation.
    back: bool,
}

/// The last reload that was asked for, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadReport {
    /// The new generation, or the one that stayed when the reload was refused.
    pub generation: Generation,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it failed.
    pub reason: Option<String>,
    /// Since when that is so.
    pub at: Moment,
}

/// What became of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Workers are being replaced.
    InProgress,
    /// All workers are of the new generation.
    Done,
    /// The new configuration is no good; nothing was begun.
    Refused,
    /// The new generation did not live; the old one stays.
    RolledBack,
    /// The pod went down, or another reload came, before it was done.
    Abandoned,
}

impl Outcome {
    /// The outcome's name, as logs, metrics and `/status` show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::InProgress => "in_progress",
            Outcome::Done => "done",
            Outcome::Refused => "refused",
            Outcome::RolledBack => "rolled_back",
            Outcome::Abandoned => "abandoned",
        }
    }
}

impl Fleet {
    pub(super) fn on_reload(&mut self, generation: Generation, policy: Policy, now: Moment) {
        if self.phase.is_going_down() {
            self.tell(Notice::Ignored {
                what: "reload",
                why: "the pod is shutting down",
            });
            return;
        }
        if let Some(Rollout { back: false, .. }) = self.rollout {
            self.tell(Notice::ReloadAbandoned {
                generation: self.current,
                why: "another reload has begun",
            });
        }
        self.current = generation;
        self.abandoned = 0;
        self.boot_failures = 0;
        self.vacancies.clear();
        self.set_target(policy.count);
        self.policy = policy;
        self.plan_measuring(now);
        self.rollout = Some(Rollout {
            started: now,
            settled: false,
            back: false,
        });
        self.report_reload(generation, Outcome::InProgress, None, now);
        self.tell(Notice::ReloadStarted { generation });
        // What never served a request has nothing to finish.
        self.drop_booting(Cause::Reload, now);
    }

    pub(super) fn on_reload_refused(&mut self, reason: String, now: Moment) {
        self.report_reload(self.current, Outcome::Refused, Some(reason.clone()), now);
        self.tell(Notice::ReloadRefused { reason });
    }

    /// Bring the workers that are there closer to those that should be.
    pub(super) fn reconcile(&mut self, now: Moment) {
        if !self.phase.replaces_the_dead() {
            return;
        }
        if !self.phase.is_going_down() {
            self.settle(now);
        }
        self.fill(now);
        if self.phase.is_going_down() {
            return;
        }
        self.measure(now);
        self.order_replacements(now);
        self.retire_replaced(now);
        if self.stale().next().is_none() {
            self.trim_surplus(now);
        }
        self.complete_rollout(now);
        self.give_up_if_abandoned(now);
    }

    /// Tell a worker to finish what it has and leave, while the pod stays healthy.
    pub(super) fn retire(&mut self, id: WorkerId, cause: Cause, now: Moment) {
        let patience = self.policy.shutdown.drain_timeout;
        let bound = self.policy.retire_bound;
        let brief = self.policy.shutdown.abort_grace();
        let Some(worker) = self.worker_mut(id) else {
            return;
        };
        let (level, booting) = (worker.level, worker.is_booting());
        let force_at = match level {
            _ if booting => now + brief,
            Level::Native => now + bound + patience,
            Level::Plain | Level::Notify => now + patience,
        };
        worker.state = State::Leaving { force_at };
        worker.leaving = Some((cause, now));
        self.tell(Notice::WorkerRetired { worker: id, cause });
        if booting {
            self.stop_booting(id);
        } else if level == Level::Native {
            self.act(Action::Command {
                worker: id,
                command: Command::Retire { deadline: bound },
            });
        } else {
            self.act(Action::Signal {
                worker: id,
                signal: Signal::Stop,
            });
        }
    }

    /// Whether the worker may be taken away: never below `min_ready` Ready
    /// workers, where there should be so many.
    pub(super) fn may_retire(&self, worker: &Worker) -> bool {
        let least = self.policy.min_ready.min(self.wanted());
        !worker.is_ready() || self.ready_workers() > least
    }

    /// Replacements that may be there beside the workers that they replace.
    pub(super) fn spare_places(&self) -> usize {
        match self.rollout {
            _ if self.stale().next().is_none() => 0,
            Some(_) => self.policy.surge,
            None => 1,
        }
    }

    /// Whether this worker's failure can be answered by going back to the generation before.
    pub(super) fn can_roll_back(&self, worker: &Worker) -> bool {
        let forward = self.rollout.is_some_and(|rollout| !rollout.back);
        let elsewhere = self
            .proven
            .as_ref()
            .is_some_and(|(generation, _)| *generation != self.current);
        forward && elsewhere && worker.generation == self.current
    }

    /// Whether this worker's failure says that its generation is no good.
    pub(super) fn fails_the_rollout(&self, worker: &Worker, now: Moment) -> bool {
        let lived = worker.ready_for(now);
        let young = lived.is_none_or(|lived| lived < self.policy.ready_after);
        self.can_roll_back(worker) && (young || worker.fatal)
    }

    pub(super) fn roll_back(&mut self, reason: &str, now: Moment) {
        let Some((to, policy)) = self.proven.clone() else {
            return;
        };
        let failed = std::mem::replace(&mut self.current, to);
        self.tell(Notice::RolledBack {
            generation: failed,
            to,
            reason: reason.to_owned(),
        });
        self.report_reload(failed, Outcome::RolledBack, Some(reason.to_owned()), now);
        self.set_target(policy.count);
        self.policy = policy;
        self.plan_measuring(now);
        self.boot_failures = 0;
        self.abandoned = 0;
        self.vacancies.clear();
        self.rollout = Some(Rollout {
            started: now,
            settled: true,
            back: true,
        });
        self.drop_booting(Cause::Rollback, now);
    }

    /// A shutdown ends a rollout where it stands; who dies from now on is
    /// replaced by what is known to live.
    pub(super) fn abandon_rollout(&mut self, now: Moment) {
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        if rollout.back {
            return;
        }
        let why = "the pod is shutting down";
        self.tell(Notice::ReloadAbandoned {
            generation: self.current,
            why,
        });
        self.report_reload(self.current, Outcome::Abandoned, Some(why.to_owned()), now);
        if let Some((generation, policy)) = self.proven.clone().filter(|_| !rollout.settled) {
            let shutdown = self.policy.shutdown;
            self.current = generation;
            self.set_target(policy.count);
            self.policy = Policy { shutdown, ..policy };
        }
    }

    /// When the first Ready worker of the new generation will have lived long enough, or one was
    /// unhealthy for too long.
    pub(super) fn rollout_deadline(&self) -> Option<Moment> {
        let settled = self.rollout?.settled;
        let trusted_at = |worker| self.trusted_at(worker).filter(|_| !settled);
        self.of_current()
            .filter_map(|worker| trusted_at(worker).or(self.hopeless_at(worker)))
            .min()
    }

    /// It has as much time to get well, and stay so, as it had to get Ready.
    fn hopeless_at(&self, worker: &Worker) -> Option<Moment> {
        let since = worker
            .sick_since
            .filter(|_| worker.is_ready() && !worker.healthy)?;
        let forward = self.rollout.is_some_and(|rollout| !rollout.back);
        forward.then(|| since + self.policy.boot_timeout)
    }

    /// What is rolled out replaces nobody where it is not well, and may get well.
    fn is_doubtful(&self, worker: &Worker) -> bool {
        worker.recycle.is_none() && self.hopeless_at(worker).is_some()
    }

    fn trusted_at(&self, worker: &Worker) -> Option<Moment> {
        let fit_at = worker.healthy_at.filter(|_| worker.is_fit())?;
        // A plain worker counts as Ready because it has lived that long already.
        Some(if worker.level == Level::Plain {
            fit_at
        } else {
            fit_at + self.policy.ready_after
        })
    }

    fn is_stale(&self, worker: &Worker) -> bool {
        worker.generation != self.current || worker.recycle.is_some()
    }

    fn stale(&self) -> impl Iterator<Item = &Worker> {
        self.staying().filter(|worker| self.is_stale(worker))
    }

    fn fresh(&self) -> impl Iterator<Item = &Worker> {
        self.staying().filter(|worker| !self.is_stale(worker))
    }

    /// A generation stands for itself with all its workers, those included that
    /// have reached a limit already.
    fn of_current(&self) -> impl Iterator<Item = &Worker> {
        self.staying()
            .filter(|worker| worker.generation == self.current)
    }

    fn is_settled(&self) -> bool {
        self.rollout.is_none_or(|rollout| rollout.settled)
    }

    fn settle(&mut self, now: Moment) {
        let due = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        if !due(self.rollout_deadline()) {
            return;
        }
        if self.is_settled() {
            return self.wait_no_longer(now);
        }
        let trusted = self.of_current().any(|it| due(self.trusted_at(it)));
        let hopeless = self
            .of_current()
            .find(|worker| !trusted && due(self.hopeless_at(worker)));
        if hopeless.is_some_and(|worker| self.can_roll_back(worker)) {
            return self.roll_back("a worker of it stays unhealthy", now);
        }
        if let Some(rollout) = &mut self.rollout {
            rollout.settled = true;
        }
    }

    /// One worker that stays unhealthy where others of its generation are well does not hold a
    /// rollout up for ever.
    fn wait_no_longer(&mut self, now: Moment) {
        let hopeless = self
            .of_current()
            .filter(|worker| self.hopeless_at(worker).is_some_and(|at| at <= now));
        let hopeless: Vec<WorkerId> = hopeless.map(|worker| worker.id).collect();
        for id in hopeless {
            if let Some(worker) = self.worker_mut(id) {
                worker.sick_since = None;
            }
        }
    }

    fn order_replacements(&mut self, now: Moment) {
        let spare = self.spare_places();
        loop {
            let places = self.fresh().count() + self.vacancies.len();
            let settled = self.is_settled();
            let on_trial = self
                .of_current()
                .filter(|worker| worker.is_booting() || !settled || self.is_doubtful(worker))
                .count();
            let full = places >= self.wanted() || self.free_rows() == 0;
            if full || on_trial + self.vacancies.len() >= spare {
                return;
            }
            self.spawn(Lineage::default(), now);
        }
    }

    fn retire_replaced(&mut self, now: Moment) {
        while let Some(oldest) = self.replaced() {
            let changed = if self.rollout.is_some_and(|rollout| rollout.back) {
                Cause::Rollback
            } else {
                Cause::Reload
            };
            let cause = oldest.recycle.unwrap_or(changed);
            let id = oldest.id;
            self.retire(id, cause, now);
        }
    }

    /// The stale worker that may go next. While the current generation is on
    /// trial, nobody goes for it but those of generations that another reload
    /// overtook before they were trusted.
    fn replaced(&self) -> Option<&Worker> {
        let settled = self.is_settled();
        let proven = self.proven.as_ref().map(|(generation, _)| *generation);
        let overtaken = |worker: &Worker| {
            let of = worker.generation;
            of != self.current && proven.is_some_and(|proven| proven != of)
        };
        let counted = self
            .fresh()
            .filter(|worker| settled && worker.is_ready() && !self.is_doubtful(worker))
            .count();
        if counted + self.stale().count() <= self.wanted() {
            return None;
        }
        let oldest = self
            .stale()
            .filter(|worker| settled || overtaken(worker))
            .min_by_key(|worker| (!worker.is_booting(), worker.spawned, worker.id));
        oldest.filter(|worker| self.may_retire(worker))
    }

    fn complete_rollout(&mut self, now: Moment) {
        let ready = self.of_current().filter(|worker| worker.is_ready()).count();
        let alone = self.of_current().count() == self.staying().count();
        let Some(rollout) = self
            .rollout
            .filter(|rollout| rollout.settled && alone && ready >= self.wanted())
        else {
            return;
        };
        self.rollout = None;
        if rollout.back {
            return;
        }
        self.prove();
        self.report_reload(self.current, Outcome::Done, None, now);
        self.tell(Notice::ReloadDone {
            generation: self.current,
            took: now - rollout.started,
        });
    }

    /// What boots for a generation that is not wanted any more stops at once.
    fn drop_booting(&mut self, cause: Cause, now: Moment) {
        let booting = self.stale().filter(|worker| worker.is_booting());
        let booting: Vec<WorkerId> = booting.map(|worker| worker.id).collect();
        for id in booting {
            self.retire(id, cause, now);
        }
    }

    /// Which of the two will find a booting worker is not known: it is told both ways.
    pub(super) fn stop_booting(&mut self, id: WorkerId) {
        self.act(Action::Command {
            worker: id,
            command: Command::Drain,
        });
        self.act(Action::Signal {
            worker: id,
            signal: Signal::Stop,
        });
    }

    fn report_reload(
        &mut self,
        generation: Generation,
        outcome: Outcome,
        reason: Option<String>,
        at: Moment,
    ) {
        self.last_reload = Some(ReloadReport {
            generation,
            outcome,
            reason,
            at,
        });
    }

    /// The pod is ready: what carries it now is what a failed reload goes back to.
    pub(super) fn enter_ready(&mut self) {
        self.phase = Phase::Ready;
        self.announce_phase(None);
        self.act(Action::SetPodHealthy(true));
        self.prove();
    }

    /// The current generation, with as many workers as it has been scaled to,
    /// carries the pod.
    pub(super) fn prove(&mut self) {
        let count = match self.target {
            0 => self.policy.count,
            target => target,
        };
        let policy = Policy {
            count,
            ..self.policy.clone()
        };
        self.proven = Some((self.current, policy));
    }
}
