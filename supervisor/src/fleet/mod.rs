//! The pure core: it decides all, and does nothing.
//!
//! [`Fleet::handle`] takes an event and the time, and returns what is to be
//! done, in order. There is no syscall, no clock, no pid and no log here, so
//! that every policy (phases, backoff, reload, recycling, hang detection) can
//! be tested by simulation. The event loop turns the actions into syscalls and
//! their results into events.
//!
//! | room | decides |
//! |---|---|
//! | `respawn` | who replaces the dead, when, and when a start is given up |
//! | `rollout` | which worker is replaced by a new one: reload, rollback, recycling |
//! | `shutdown` | the phases, from SIGTERM to the exit status |
//! | `scaling` | how many workers there should be |
//! | `reports` | what a worker's words change |

mod action;
mod event;
mod moment;
mod policy;
mod reports;
mod respawn;
mod rollout;
mod scaling;
mod shutdown;
mod worker;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use worker_api::scoreboard::PodPhase;

pub use action::{Action, Cause, ExitStatus, Notice, Order, Signal};
pub use event::{Carrier, Death, Event, Generation, SpawnFailure, WorkerId};
pub use moment::Moment;
pub use policy::{Level, Policy, Recycle, Restart, Shutdown};
pub use rollout::{Outcome, ReloadReport};
pub use scaling::MAX_ROWS;
pub use worker::Worker;

use respawn::{Chance, Vacancy};
use rollout::Rollout;
use shutdown::Phase;

/// All workers, and the phase of the pod.
#[derive(Debug)]
pub struct Fleet {
    policy: Policy,
    /// The generation that new workers belong to.
    current: Generation,
    /// The last generation that carried the pod, to fall back to.
    proven: Option<(Generation, Policy)>,
    phase: Phase,
    workers: Vec<Worker>,
    vacancies: Vec<Vacancy>,
    target: usize,
    /// Places that a worker asked not to be filled again.
    abandoned: usize,
    rollout: Option<Rollout>,
    last_reload: Option<ReloadReport>,
    /// Boots in a row that failed, over all workers of the current generation.
    boot_failures: u32,
    /// The exit status, when it is settled before the end.
    verdict: Option<ExitStatus>,
    work_aborted: bool,
    /// The last SIGINT.
    interrupted: Option<Moment>,
    /// Work is aborted because somebody asked for it.
    force_ordered: bool,
    /// When the memory of the workers is measured next.
    measure_at: Option<Moment>,
    chance: Chance,
    last_id: u64,
    actions: Vec<Action>,
}

impl Fleet {
    /// A fleet of no workers yet; `Event::Started` brings it to life. `seed`
    /// is where the jitter comes from.
    #[must_use]
    pub fn new(generation: Generation, policy: Policy, seed: u64) -> Self {
        Self {
            target: policy.count,
            policy,
            current: generation,
            proven: None,
            phase: Phase::Boot,
            workers: Vec::new(),
            vacancies: Vec::new(),
            abandoned: 0,
            rollout: None,
            last_reload: None,
            boot_failures: 0,
            verdict: None,
            work_aborted: false,
            interrupted: None,
            force_ordered: false,
            measure_at: None,
            chance: Chance::new(seed),
            last_id: 0,
            actions: Vec::new(),
        }
    }

    /// Take an event at the time `now`; returns what is to be done, in order.
    ///
    /// `now` never goes back. Deadlines that are due by then are met as well.
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Action> {
        match event {
            Event::Started => self.on_started(now),
            Event::Terminate => self.on_terminate(now),
            Event::Interrupt => self.on_interrupt(now),
            Event::Quit => self.order_force(now),
            Event::Reload { generation, policy } => self.on_reload(generation, *policy, now),
            Event::ReloadRefused { reason } => self.on_reload_refused(reason, now),
            Event::ScaleOut => self.on_scale_out(),
            Event::ScaleIn => self.on_scale_in(),
            Event::RetireAll => self.on_retire_all(now),
            Event::SpawnFailed { worker, failure } => self.on_spawn_failed(worker, failure, now),
            Event::Reported {
                worker,
                carrier,
                report,
            } => self.on_report(worker, carrier, report, now),
            Event::Exited { worker, death } => self.on_exited(worker, death, now),
            Event::Memory { worker, bytes } => self.on_memory(worker, bytes),
            Event::Traffic { served, refused } => self.on_traffic(served, refused, now),
            Event::Tick => {}
        }
        self.meet_worker_deadlines(now);
        self.advance_phase(now);
        self.reconcile(now);
        self.finish_if_gone(now);
        std::mem::take(&mut self.actions)
    }

    /// When the next `Event::Tick` is due; `None` while there is nothing to wait for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let workers = self
            .workers
            .iter()
            .filter_map(|worker| self.worker_deadline(worker));
        let vacancies = self.vacancies.iter().map(|vacancy| vacancy.due);
        let vacancies =
            vacancies.filter(|_| self.phase.replaces_the_dead() && self.free_rows() > 0);
        let rest = [
            self.phase.deadline(),
            self.measure_at,
            self.rollout_deadline(),
        ];
        workers
            .chain(vacancies)
            .chain(rest.into_iter().flatten())
            .min()
    }

    /// The workers that are not reaped yet.
    #[must_use]
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// The worker of that identity, until it is reaped.
    #[must_use]
    pub fn worker(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.id == id)
    }

    /// The phase of the pod.
    #[must_use]
    pub fn phase(&self) -> PodPhase {
        self.phase.public()
    }

    /// The generation that new workers belong to.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.current
    }

    /// The generations by whose configuration a worker may still be started.
    pub fn generations_in_use(&self) -> impl Iterator<Item = Generation> {
        let proven = self.proven.as_ref().map(|(generation, _)| *generation);
        std::iter::once(self.current).chain(proven)
    }

    /// Workers to keep.
    #[must_use]
    pub fn target(&self) -> usize {
        self.target
    }

    /// Ready workers that make the pod ready. A reload that asks for more than
    /// before gets them when it is done.
    #[must_use]
    pub fn min_ready(&self) -> usize {
        let wanted = self.policy.min_ready;
        let proven = self.proven.as_ref().filter(|_| self.rollout.is_some());
        proven.map_or(wanted, |(_, before)| before.min_ready.min(wanted))
    }

    /// Workers that serve and were not told to go.
    #[must_use]
    pub fn ready_workers(&self) -> usize {
        self.workers
            .iter()
            .filter(|worker| worker.is_ready())
            .count()
    }

    /// The last reload that was asked for.
    #[must_use]
    pub fn last_reload(&self) -> Option<&ReloadReport> {
        self.last_reload.as_ref()
    }

    fn on_started(&mut self, now: Moment) {
        self.act(Action::SetPhase(PodPhase::Boot));
        self.plan_measuring(now);
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn tell(&mut self, notice: Notice) {
        self.actions.push(Action::Tell(notice));
    }

    fn next_id(&mut self) -> WorkerId {
        self.last_id += 1;
        WorkerId(self.last_id)
    }

    fn worker_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.id == id)
    }

    /// Workers that were not told to go.
    fn staying(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|worker| !worker.is_leaving())
    }
}
