//! What must hold after every step. The ledger knows the core by what it was
//! told and what it answered, and keeps its own account of every deadline.

mod account;
mod pace;
mod phases;

use std::time::Duration;

use worker_api::message::Command;
use worker_api::scoreboard::PodPhase;

use crate::fleet::{
    Action, Cause, Event, ExitStatus, Fleet, Generation, Level, Moment, Notice, Order, Policy,
    Signal, Worker, WorkerId,
};
use account::{Accounts, Stage};
use pace::Pace;

/// Whether all holds; what does not, if not.
pub(super) type Verdict = Result<(), String>;

macro_rules! must {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}
use must;

/// How the fleet was before a step.
pub(super) struct Before {
    phase: PodPhase,
    ready: Vec<WorkerId>,
    in_rollout: bool,
}

impl Before {
    pub(super) fn of(fleet: &Fleet) -> Self {
        let ready = fleet.workers().iter().filter(|worker| worker.is_ready());
        Self {
            phase: fleet.phase(),
            ready: ready.map(|worker| worker.id()).collect(),
            in_rollout: fleet.rollout.is_some(),
        }
    }
}

/// One step: what happened, and what was answered.
pub(super) struct Step<'a> {
    pub(super) now: Moment,
    pub(super) event: &'a Event,
    pub(super) before: &'a Before,
    pub(super) actions: &'a [Action],
    pub(super) fleet: &'a Fleet,
    /// Processes that live, by the world's count.
    pub(super) alive: usize,
}

impl Step<'_> {
    fn did(&self, wanted: impl Fn(&Action) -> bool) -> bool {
        self.actions.iter().any(wanted)
    }

    fn asked(&self, wanted: fn(&Event) -> bool) -> bool {
        wanted(self.event)
    }
}

pub(super) struct Ledger {
    accounts: Accounts,
    pace: Pace,
    /// What the workers are run by.
    policy: Policy,
    /// Something may take no time at all, and is done at the next step then.
    abrupt: bool,
    phase: PodPhase,
    healthy: bool,
    /// When health must turn, and when lameduck must end.
    unready_at: Option<Moment>,
    lameduck_until: Option<Moment>,
    drain_until: Option<Moment>,
    /// When the master must have exited.
    end_by: Option<Moment>,
    interrupts: u32,
    closed: u32,
    work_aborted: bool,
    given_up: Option<ExitStatus>,
    /// The generation that carries the pod, and whether the one to come has lived.
    proven: Option<Generation>,
    trusted: bool,
    pub(super) exited: Option<ExitStatus>,
}

impl Ledger {
    pub(super) fn new(policy: &Policy) -> Self {
        Self {
            accounts: Accounts::default(),
            pace: Pace::new(policy.count),
            policy: policy.clone(),
            abrupt: is_abrupt(policy),
            phase: PodPhase::Boot,
            healthy: false,
            unready_at: None,
            lameduck_until: None,
            drain_until: None,
            end_by: None,
            interrupts: 0,
            closed: 0,
            work_aborted: false,
            given_up: None,
            proven: None,
            trusted: false,
            exited: None,
        }
    }

    /// The clock went on for so long without the master being asked.
    pub(super) fn overslept(&mut self, length: Duration) {
        self.end_by = self.end_by.map(|end| end + length);
    }

    /// Enter a step, and check all that must hold after it.
    pub(super) fn check(&mut self, step: &Step<'_>) -> Verdict {
        self.hear(step);
        for action in step.actions {
            self.enter(action, step)?;
        }
        self.policy = step.fleet.policy.clone();
        self.watch_trust(step);
        self.check_phase(step)?;
        self.check_crew(step)?;
        self.accounts.check_nothing_missed(step.now, self.phase)?;
        self.check_deadline(step)?;
        self.pace.check(step, &self.policy)
    }

    /// What the event itself changes.
    fn hear(&mut self, step: &Step<'_>) {
        let going_down = step.before.phase > PodPhase::Ready;
        match step.event {
            Event::Interrupt => self.interrupts += 1,
            Event::Reload { policy, .. } if !going_down => {
                self.policy = Policy::clone(policy);
                self.abrupt |= is_abrupt(policy);
            }
            Event::Exited { worker, death } => {
                let torn = self.accounts.get(*worker).is_ok_and(|account| {
                    let in_hand = match account.stage {
                        Stage::Leaving => death.is_violent(),
                        Stage::Aborting => true,
                        _ => false,
                    };
                    in_hand && account.has_work()
                });
                self.work_aborted |= going_down && torn;
                self.accounts.close(*worker);
            }
            Event::SpawnFailed { worker, .. } => self.accounts.close(*worker),
            Event::Reported { worker, report, .. } => {
                let level = step.fleet.worker(*worker).map(|worker| worker.level());
                if level.is_some_and(|level| level != Level::Plain) {
                    self.accounts
                        .hear(*worker, report, self.drain_until, step.now);
                }
            }
            _ => {}
        }
    }

    fn enter(&mut self, action: &Action, step: &Step<'_>) -> Verdict {
        match action {
            Action::Spawn(order) => self.spawn(order, step),
            Action::Command { worker, command } => self.command(*worker, command, step),
            Action::Signal { worker, signal } => self.signal(*worker, *signal, step),
            Action::SetPhase(phase) => self.enter_phase(*phase, step),
            Action::SetPodHealthy(healthy) => self.turn(*healthy, step.now),
            Action::Tell(notice) => self.note(notice, step),
            Action::TurnAway => {
                let all_leave = step.fleet.phase() >= PodPhase::Drain;
                must!(all_leave, "clients are turned away while the pod serves");
                Ok(())
            }
            Action::CloseListeners => {
                self.closed += 1;
                must!(self.closed == 1, "the listeners are closed twice");
                Ok(())
            }
            Action::Exit(status) => self.exit(*status),
            Action::MeasureMemory | Action::MeasureTraffic => Ok(()),
        }
    }

    fn spawn(&mut self, order: &Order, step: &Step<'_>) -> Verdict {
        must!(
            self.phase <= PodPhase::Lameduck,
            "a worker is started in {:?}",
            self.phase
        );
        must!(
            order.generation == step.fleet.generation(),
            "{order:?} is not of the current generation"
        );
        let recycle = step.fleet.policy.recycle;
        let (least, jitter) = recycle
            .max_requests
            .map_or((0, 0), |limit| (limit.get(), recycle.max_requests_jitter));
        must!(
            (least..=least + jitter).contains(&order.max_requests),
            "{order:?} has a limit out of bounds"
        );
        self.accounts.open(order, &step.fleet.policy, step.now)
    }

    fn command(&mut self, id: WorkerId, command: &Command, step: &Step<'_>) -> Verdict {
        let phase = self.phase;
        let account = self.accounts.get(id)?;
        must!(
            account.stage != Stage::Killed || *command != Command::Quit,
            "{id:?} was killed and is told {command:?}"
        );
        match command {
            Command::Lameduck => {
                must!(
                    phase == PodPhase::Lameduck && !self.healthy,
                    "{id:?} is told of lameduck in {phase:?}"
                );
                must!(
                    account.greeted || account.stage != Stage::Booting,
                    "{id:?} is told before it can hear, and would die of SIGTERM"
                );
                account.told_lameduck = true;
            }
            Command::Retire { .. } => must!(
                phase <= PodPhase::Ready && account.stage == Stage::Leaving,
                "{id:?} is retired in {phase:?}"
            ),
            Command::Drain => account.told_to_stop = true,
            Command::Quit => must!(
                account.stage == Stage::Aborting && account.since == Some(step.now),
                "{id:?} is told to quit for no reason"
            ),
            Command::Reopen => {}
        }
        Ok(())
    }

    fn signal(&mut self, id: WorkerId, signal: Signal, step: &Step<'_>) -> Verdict {
        let phase = self.phase;
        let account = self.accounts.get(id)?;
        let worker = step.fleet.worker(id);
        let fresh = account.since == Some(step.now);
        match signal {
            Signal::Kill => {
                must!(!account.kill_sent, "{id:?} is killed twice");
                must!(
                    account.stage == Stage::Killed && fresh,
                    "{id:?} is killed unsaid"
                );
                account.kill_sent = true;
            }
            Signal::Abort => must!(
                account.stage == Stage::Aborting && fresh,
                "{id:?} is aborted unsaid"
            ),
            Signal::Stop => {
                must!(account.is_leaving(), "{id:?} is stopped and not leaving");
                account.told_to_stop = true;
            }
            Signal::Term => {
                let native = worker.is_some_and(|worker| worker.level() == Level::Native);
                must!(
                    native || (account.term_immediately && phase == PodPhase::Lameduck),
                    "{id:?} would stop serving at this SIGTERM"
                );
                must!(
                    phase >= PodPhase::Lameduck || account.is_leaving(),
                    "{id:?} gets SIGTERM in {phase:?}"
                );
            }
        }
        Ok(())
    }

    fn note(&mut self, notice: &Notice, step: &Step<'_>) -> Verdict {
        let now = step.now;
        match notice {
            Notice::WorkerReady { worker, .. } => self.accounts.get(*worker)?.get_ready(now),
            Notice::WorkerRetired { worker, cause } => {
                must!(
                    *cause == Cause::OwnWill || self.phase <= PodPhase::Ready,
                    "{worker:?} is retired in {:?}",
                    self.phase
                );
                let level = step.fleet.worker(*worker).map(|worker| worker.level());
                self.check_trust(*worker, *cause, step)?;
                let account = self.accounts.get(*worker)?;
                account.retire(*cause, level, &self.policy, now)?;
            }
            Notice::WorkerDrained {
                worker, aborted, ..
            } => {
                self.accounts.get(*worker)?.drained()?;
                self.work_aborted |= self.phase > PodPhase::Ready && *aborted > 0;
            }
            Notice::Forced {
                worker,
                kill,
                cause,
                ..
            } => {
                let native =
                    step.fleet.worker(*worker).map(|worker| worker.level()) == Some(Level::Native);
                let forced = self.phase == PodPhase::Force;
                let grace = self.policy.shutdown.abort_grace();
                let account = self.accounts.get(*worker)?;
                let will_tell =
                    native && !kill && !matches!(cause, Cause::Hung | Cause::BootTimeout);
                let torn = account.has_work() && !will_tell;
                self.work_aborted |= self.phase > PodPhase::Ready && torn;
                account.force(*kill, native, forced, now, grace)?;
            }
            Notice::StartFailed { status, .. } => self.given_up = Some(*status),
            Notice::ReloadStarted { .. } => self.trusted = false,
            Notice::ReloadDone { generation, .. } => self.proven = Some(*generation),
            Notice::PhaseChanged { phase, .. } if *phase == PodPhase::Ready => {
                self.proven = Some(step.fleet.generation());
            }
            Notice::RolledBack { .. } => self.policy = step.fleet.policy.clone(),
            _ => {}
        }
        self.pace.note(notice, &self.policy, now)
    }

    /// Nobody who carries the pod is retired for a generation that has not
    /// lived yet.
    fn check_trust(&mut self, id: WorkerId, cause: Cause, step: &Step<'_>) -> Verdict {
        let worker = step.fleet.worker(id);
        let carries = step.before.ready.contains(&id)
            && worker.map(|worker| worker.generation()) == self.proven;
        self.watch_trust(step);
        must!(
            cause != Cause::Reload || !carries || self.trusted,
            "{id:?} is retired for a generation that has not lived yet"
        );
        Ok(())
    }

    fn watch_trust(&mut self, step: &Step<'_>) {
        let fleet = step.fleet;
        let lived = |worker: &Worker| {
            let lived = worker.ready_for(step.now);
            let enough = |lived| worker.level() == Level::Plain || lived >= self.policy.ready_after;
            worker.generation() == fleet.generation() && lived.is_some_and(enough)
        };
        self.trusted = self.trusted || fleet.workers().iter().any(lived);
    }

    fn exit(&mut self, status: ExitStatus) -> Verdict {
        must!(self.accounts.is_empty(), "workers are left at the exit");
        must!(self.closed == 1, "the listeners are open at the exit");
        must!(!self.healthy, "healthy at the exit");
        let aborted = if self.work_aborted {
            ExitStatus::Aborted
        } else {
            ExitStatus::Clean
        };
        let expected = self.given_up.unwrap_or(aborted);
        must!(status == expected, "exit {status:?}, not {expected:?}");
        self.exited = Some(status);
        Ok(())
    }

    fn check_crew(&self, step: &Step<'_>) -> Verdict {
        let fleet = step.fleet;
        let places = fleet.staying().count() + fleet.vacancies.len();
        must!(
            self.phase > PodPhase::Lameduck || places >= fleet.wanted(),
            "{places} places are kept, wanted are {}",
            fleet.wanted()
        );
        must!(
            self.phase <= PodPhase::Lameduck || !self.accounts.is_empty() || self.exited.is_some(),
            "the last worker is gone, and the master stays"
        );
        must!(
            fleet.workers().len() == self.accounts.len(),
            "workers that nobody knows of, or that are gone"
        );
        must!(
            self.exited.is_none() || step.alive == 0,
            "{} processes outlive the master",
            step.alive
        );
        let retired = step.did(|action| match action {
            Action::Tell(Notice::WorkerRetired { worker, cause }) => {
                *cause != Cause::OwnWill && step.before.ready.contains(worker)
            }
            _ => false,
        });
        // After WINCH, or where places were given up, there are to be fewer.
        let least = fleet.policy.min_ready.min(fleet.wanted());
        must!(
            !retired || fleet.ready_workers() >= least,
            "{} Ready workers after a retire, at least {least} must be",
            fleet.ready_workers()
        );
        Ok(())
    }

    fn check_deadline(&self, step: &Step<'_>) -> Verdict {
        let (now, next) = (step.now, step.fleet.next_deadline());
        // What counts by the old policy again may have been due for long.
        let back = step.did(|action| matches!(action, Action::Tell(Notice::RolledBack { .. })));
        must!(
            back || next.is_none_or(|due| due > now || (due == now && self.abrupt)),
            "the next deadline is not ahead: {next:?}"
        );
        let recycle = self.policy.recycle;
        let waits = !self.accounts.all_serve_on()
            || matches!(self.phase, PodPhase::Lameduck | PodPhase::Drain)
            || recycle.max_lifetime.is_some()
            || recycle.max_rss.is_some()
            || !step.fleet.vacancies.is_empty()
            || step.fleet.rollout.is_some();
        must!(
            waits || next.is_none(),
            "an idle fleet wakes up at {next:?}"
        );
        Ok(())
    }
}

fn is_abrupt(policy: &Policy) -> bool {
    policy.shutdown.abort_grace().is_zero() || policy.ready_after.is_zero()
}
