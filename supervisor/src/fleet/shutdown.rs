//! The phases of the pod, from SIGTERM to the exit status.

use std::time::Duration;

use worker_api::message::Command;
use worker_api::scoreboard::PodPhase;

use super::action::{Cause, ExitStatus, Notice, Signal};
use super::event::WorkerId;
use super::moment::Moment;
use super::policy::Level;
use super::respawn::Failure;
use super::worker::{State, Worker};
use super::{Action, Fleet};

/// How often lameduck looks whether traffic has stopped, where it may end early.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// SIGINTs so close together are one.
const SAME_INTERRUPT: Duration = Duration::from_millis(100);

/// The phase of the pod, and what it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// For `min_ready` Ready workers.
    Boot,
    /// For a signal.
    Ready,
    /// For the load balancer to turn away.
    Lameduck {
        until: Moment,
        /// Health turns then; `None` once it has.
        unready_at: Option<Moment>,
        quiet: Option<Quiet>,
    },
    /// For every worker to drain.
    Drain { until: Moment },
    /// For every worker to be gone.
    Force,
    /// For nothing.
    Exit,
}

/// Whether traffic has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quiet {
    look_at: Moment,
    /// Requests so far, and since when there was none.
    last: Option<(u64, Moment)>,
    /// Refused probes before lameduck.
    refused_before: Option<u64>,
}

impl Quiet {
    /// Whether to look now; the next look is set if so.
    fn is_due(&mut self, now: Moment) -> bool {
        let due = self.look_at <= now;
        if due {
            self.look_at = now + LOOK_EVERY;
        }
        due
    }
}

impl Phase {
    pub(super) const fn public(self) -> PodPhase {
        match self {
            Phase::Boot => PodPhase::Boot,
            Phase::Ready => PodPhase::Ready,
            Phase::Lameduck { .. } => PodPhase::Lameduck,
            Phase::Drain { .. } => PodPhase::Drain,
            Phase::Force => PodPhase::Force,
            Phase::Exit => PodPhase::Exit,
        }
    }

    pub(super) const fn is_going_down(self) -> bool {
        !matches!(self, Phase::Boot | Phase::Ready)
    }

    /// A worker that dies in lameduck still has requests to come; in drain it has not.
    pub(super) const fn replaces_the_dead(self) -> bool {
        matches!(self, Phase::Boot | Phase::Ready | Phase::Lameduck { .. })
    }

    pub(super) fn deadline(self) -> Option<Moment> {
        match self {
            Phase::Lameduck {
                until,
                unready_at,
                quiet,
            } => {
                let looks = [unready_at, quiet.map(|quiet| quiet.look_at)];
                looks.into_iter().flatten().chain([until]).min()
            }
            Phase::Drain { until } => Some(until),
            Phase::Boot | Phase::Ready | Phase::Force | Phase::Exit => None,
        }
    }
}

impl Fleet {
    /// SIGTERM. Runtimes repeat it: later ones change nothing.
    pub(super) fn on_terminate(&mut self, now: Moment) {
        match self.phase {
            Phase::Boot => self.stop_now(now),
            Phase::Ready => self.enter_lameduck(now),
            Phase::Lameduck { .. } | Phase::Drain { .. } | Phase::Force | Phase::Exit => {}
        }
    }

    /// SIGINT: somebody sits at the terminal and waits. One Ctrl-C may come
    /// twice, through a wrapper and from the terminal.
    pub(super) fn on_interrupt(&mut self, now: Moment) {
        let before = self.interrupted.replace(now);
        let again = before.is_some_and(|before| now - before > SAME_INTERRUPT);
        match self.phase {
            Phase::Boot | Phase::Ready | Phase::Lameduck { .. } => self.stop_now(now),
            Phase::Drain { .. } if again => self.order_force(now),
            Phase::Drain { .. } | Phase::Force | Phase::Exit => {}
        }
    }

    /// SIGQUIT, or SIGINT again: somebody will not wait.
    pub(super) fn order_force(&mut self, now: Moment) {
        self.force_ordered = true;
        self.enter_force(now);
    }

    /// Unhealthy, and serving.
    fn enter_lameduck(&mut self, now: Moment) {
        self.abandon_rollout(now);
        self.measure_at = None;
        let shutdown = self.policy.shutdown;
        let quiet = shutdown.lameduck_quiet.map(|_| Quiet {
            look_at: now,
            last: None,
            refused_before: None,
        });
        let unready_at = now + shutdown.unready_delay;
        self.phase = Phase::Lameduck {
            until: now + shutdown.lameduck,
            unready_at: Some(unready_at),
            quiet,
        };
        self.announce_phase(Some(shutdown.lameduck));
    }

    /// Health turns: first where every worker reads it, then each worker is told.
    fn turn_unhealthy(&mut self) {
        self.act(Action::SetPodHealthy(false));
        let ids: Vec<WorkerId> = self.workers.iter().map(|worker| worker.id).collect();
        for id in ids {
            self.tell_unhealthy(id);
        }
    }

    /// Tell a worker that health has turned, if that would not be its end: a
    /// native one has no handlers before it greets, and hears of it then; any
    /// other must be one that marks itself unhealthy on SIGTERM.
    pub(super) fn tell_unhealthy(&mut self, id: WorkerId) {
        let Some(worker) = self.worker(id) else {
            return;
        };
        let native = worker.level == Level::Native;
        let hears = if native {
            worker.greeted || !worker.is_booting()
        } else {
            worker.term_immediately && worker.is_ready()
        };
        if !hears {
            return;
        }
        if native {
            self.act(Action::Command {
                worker: id,
                command: Command::Lameduck,
            });
        }
        self.act(Action::Signal {
            worker: id,
            signal: Signal::Term,
        });
    }

    /// Health has turned, and the workers serve on.
    pub(super) fn is_unhealthy_lameduck(&self) -> bool {
        matches!(
            self.phase,
            Phase::Lameduck {
                unready_at: None,
                ..
            }
        )
    }

    /// Straight to drain, from wherever we are.
    pub(super) fn stop_now(&mut self, now: Moment) {
        self.abandon_rollout(now);
        self.enter_drain(now);
    }

    fn enter_drain(&mut self, now: Moment) {
        let already_told = self.is_unhealthy_lameduck();
        let timeout = self.policy.shutdown.drain_timeout;
        self.phase = Phase::Drain {
            until: now + timeout,
        };
        self.announce_phase(Some(timeout));
        self.act(Action::SetPodHealthy(false));
        // Others may go on accepting for a while after their stop signal.
        if self.all_native() {
            self.act(Action::TurnAway);
        }
        self.act(Action::CloseListeners);
        self.vacancies.clear();
        self.measure_at = None;
        for index in 0..self.workers.len() {
            self.drain_worker(index, already_told, now);
        }
    }

    fn all_native(&self) -> bool {
        let mut workers = self.workers.iter();
        workers.all(|worker| worker.level == Level::Native)
    }

    fn drain_worker(&mut self, index: usize, already_told: bool, now: Moment) {
        let end = now + self.policy.shutdown.drain_timeout;
        let brief = now + self.policy.shutdown.abort_grace();
        let worker = &mut self.workers[index];
        let (id, level, before) = (worker.id, worker.level, worker.state);
        worker.state = match before {
            State::Booting { .. } => State::Leaving {
                force_at: brief.min(end),
            },
            State::Ready => State::Leaving { force_at: end },
            State::Leaving { force_at } => State::Leaving {
                force_at: force_at.min(end),
            },
            State::Drained { force_at } => State::Drained {
                force_at: force_at.min(end),
            },
            State::Aborting { .. } | State::Killed => before,
        };
        worker.leaving.get_or_insert((Cause::Shutdown, now));
        match (before, level) {
            (State::Booting { .. }, _) => self.stop_booting(id),
            (State::Ready | State::Leaving { .. }, Level::Native) => {
                self.act(Action::Command {
                    worker: id,
                    command: Command::Drain,
                });
                if !already_told {
                    self.act(Action::Signal {
                        worker: id,
                        signal: Signal::Term,
                    });
                }
            }
            (State::Ready, Level::Plain | Level::Notify) => {
                self.act(Action::Signal {
                    worker: id,
                    signal: Signal::Stop,
                });
            }
            _ => {}
        }
    }

    /// Abort what is left.
    fn enter_force(&mut self, now: Moment) {
        if matches!(self.phase, Phase::Force | Phase::Exit) {
            return;
        }
        if !matches!(self.phase, Phase::Drain { .. }) {
            self.abandon_rollout(now);
            self.act(Action::CloseListeners);
        }
        self.phase = Phase::Force;
        self.announce_phase(Some(self.policy.shutdown.abort_grace()));
        self.act(Action::SetPodHealthy(false));
        self.vacancies.clear();
        self.measure_at = None;
        let ids: Vec<WorkerId> = self.workers.iter().map(|worker| worker.id).collect();
        for id in ids {
            self.force(id, Cause::Shutdown, now);
        }
    }

    /// A worker's time is over. A native one may still tell what it aborts;
    /// one that hangs may leave a trace; any other has had its signal.
    pub(super) fn force(&mut self, id: WorkerId, cause: Cause, now: Moment) {
        let kill_at = now + self.policy.shutdown.abort_grace();
        let going_down = self.phase.is_going_down();
        let Some(worker) = self.worker_mut(id) else {
            return;
        };
        let drained = matches!(worker.state, State::Drained { .. });
        let overdue = match worker.state {
            State::Killed => return,
            State::Aborting { kill_at } if now < kill_at => return,
            State::Aborting { .. } => true,
            _ => false,
        };
        let unexpected = worker.leaving.is_none();
        let cause = worker.leaving.get_or_insert((cause, now)).0;
        let idle = worker.ready_at.is_none() || drained;
        let gentle = match cause {
            _ if overdue || drained => None,
            Cause::Hung | Cause::BootTimeout => Some(Action::Signal {
                worker: id,
                signal: Signal::Abort,
            }),
            _ if worker.level == Level::Native && !idle => Some(Action::Command {
                worker: id,
                command: Command::Quit,
            }),
            _ => None,
        };
        let kill = gentle.is_none();
        worker.state = if kill {
            State::Killed
        } else {
            State::Aborting { kill_at }
        };
        let failed = (unexpected && cause != Cause::Shutdown).then(|| worker.clone());
        // A native worker still says what it aborts, and may have nothing in hand.
        let will_tell = matches!(gentle, Some(Action::Command { .. }));
        self.work_aborted |= going_down && !idle && !will_tell;
        self.tell(Notice::Forced {
            worker: id,
            cause,
            ordered: self.force_ordered,
            drained,
            kill,
        });
        self.act(gentle.unwrap_or(Action::Signal {
            worker: id,
            signal: Signal::Kill,
        }));
        if let Some(failed) = failed {
            self.after_failure(&failed, Failure::Behaviour, now);
        }
    }

    /// Do what is due for single workers.
    pub(super) fn meet_worker_deadlines(&mut self, now: Moment) {
        let ids: Vec<WorkerId> = self.workers.iter().map(|worker| worker.id).collect();
        for id in ids {
            let Some(worker) = self.worker(id) else {
                continue;
            };
            if self.plain_ready_at(worker).is_some_and(|due| due <= now) {
                self.mark_ready(id, now);
            } else if worker.deadline().is_some_and(|due| due <= now) {
                let cause = if worker.is_ready() {
                    Cause::Hung
                } else {
                    Cause::BootTimeout
                };
                self.force(id, cause, now);
            } else if self.expires_at(worker).is_some_and(|due| due <= now) {
                self.recycle(id, Cause::MaxLifetime);
            }
        }
    }

    pub(super) fn worker_deadline(&self, worker: &Worker) -> Option<Moment> {
        let deadlines = [
            worker.deadline(),
            self.plain_ready_at(worker),
            self.expires_at(worker),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// A plain worker counts as Ready when it has lived long enough.
    fn plain_ready_at(&self, worker: &Worker) -> Option<Moment> {
        let counts = worker.is_booting() && worker.level == Level::Plain;
        counts.then(|| worker.spawned + self.policy.ready_after)
    }

    fn expires_at(&self, worker: &Worker) -> Option<Moment> {
        let ages = worker.is_ready() && worker.recycle.is_none() && !self.phase.is_going_down();
        let lifetime = self.limits(worker).max_lifetime.filter(|_| ages)?;
        Some(worker.ready_at? + lifetime)
    }

    /// Go on to the next phase, when this one is over.
    pub(super) fn advance_phase(&mut self, now: Moment) {
        if let Phase::Lameduck {
            until,
            unready_at,
            quiet,
        } = &mut self.phase
        {
            let over = *until <= now;
            let turns = unready_at.take_if(|due| *due <= now).is_some();
            let looks = quiet.as_mut().is_some_and(|quiet| quiet.is_due(now));
            if turns {
                self.turn_unhealthy();
            }
            if looks {
                self.act(Action::MeasureTraffic);
            }
            if over {
                self.enter_drain(now);
            }
        }
        if matches!(self.phase, Phase::Drain { until } if until <= now) {
            self.enter_force(now);
        }
    }

    /// Lameduck may end early: the probe has seen enough refusals, and nobody else came for a while.
    pub(super) fn on_traffic(&mut self, served: u64, refused: u64, now: Moment) {
        // Who keeps no row of the scoreboard may have traffic that nobody sees.
        let all_seen = self.all_native();
        let Phase::Lameduck {
            unready_at: None,
            quiet: Some(quiet),
            ..
        } = &mut self.phase
        else {
            return;
        };
        let refused_before = *quiet.refused_before.get_or_insert(refused);
        let since = match quiet.last {
            Some((before, since)) if before == served => since,
            _ => now,
        };
        quiet.last = Some((served, since));
        let told = refused.saturating_sub(refused_before)
            >= u64::from(self.policy.shutdown.failure_threshold);
        let silent = self
            .policy
            .shutdown
            .lameduck_quiet
            .is_some_and(|length| now - since >= length);
        if told && silent && all_seen {
            self.enter_drain(now);
        }
    }

    /// Exit as soon as the last worker is gone.
    pub(super) fn finish_if_gone(&mut self, now: Moment) {
        let pending = match self.phase {
            Phase::Drain { .. } | Phase::Force => !self.workers.is_empty(),
            Phase::Lameduck { .. } => !self.workers.is_empty() || !self.vacancies.is_empty(),
            Phase::Boot | Phase::Ready | Phase::Exit => true,
        };
        if pending {
            return;
        }
        if matches!(self.phase, Phase::Lameduck { .. }) {
            self.enter_drain(now);
        }
        self.phase = Phase::Exit;
        self.announce_phase(None);
        let aborted = if self.work_aborted {
            ExitStatus::Aborted
        } else {
            ExitStatus::Clean
        };
        self.act(Action::Exit(self.verdict.unwrap_or(aborted)));
    }

    pub(super) fn announce_phase(&mut self, limit: Option<Duration>) {
        let phase = self.phase.public();
        self.act(Action::SetPhase(phase));
        self.tell(Notice::PhaseChanged { phase, limit });
    }
}
