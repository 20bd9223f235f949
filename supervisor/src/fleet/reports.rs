//! What a worker's words change. Nothing that a worker says is trusted further
//! than itself: the most it can do is to be replaced.

use std::time::Duration;

use worker_api::message::{Command, Report};

use super::action::{Cause, Notice, Signal};
use super::event::{Carrier, WorkerId};
use super::moment::Moment;
use super::policy::Level;
use super::respawn::Failure;
use super::worker::{State, Worker};
use super::{Action, Fleet, Phase};

impl Fleet {
    pub(super) fn on_report(
        &mut self,
        id: WorkerId,
        carrier: Carrier,
        report: Report,
        now: Moment,
    ) {
        self.learn_level(id, carrier, &report);
        let Some(worker) = self.worker_mut(id) else {
            return;
        };
        if worker.level == Level::Plain {
            return;
        }
        match report {
            Report::Hello { .. } => self.on_hello(id),
            Report::Ready if worker.is_booting() => {
                worker.healthy = true;
                self.mark_ready(id, now);
            }
            Report::Ready => self.on_health(id, true, now),
            Report::Status(text) => worker.status = Some(text),
            Report::Drained { served, aborted } => self.on_drained(id, served, aborted, now),
            Report::Served(requests) => self.on_served(id, requests),
            Report::Watchdog => self.on_watchdog(id, now),
            Report::Hung => self.on_hung(id, now),
            Report::ExtendTimeout(length) => self.on_extend(id, length, now),
            Report::Stopping => self.leave_by_own_will(id, now),
            Report::Replace => self.recycle(id, Cause::OwnWill),
            Report::Fatal(_) if worker.fatal => {}
            Report::Fatal(reason) => {
                worker.fatal = true;
                self.tell(Notice::Fatal { worker: id, reason });
            }
            // A native worker's row of the scoreboard says the same, and is what probes read.
            Report::Unhealthy => self.on_health(id, false, now),
        }
    }

    /// A worker says how it is.
    fn on_health(&mut self, id: WorkerId, healthy: bool, now: Moment) {
        let Some(worker) = self.worker_mut(id) else {
            return;
        };
        if worker.healthy == healthy {
            return;
        }
        worker.healthy = healthy;
        if healthy {
            // It has to show anew that it is fit.
            worker.healthy_at = Some(now);
        } else {
            worker.sick_since.get_or_insert(now);
        }
        if !self.phase.is_going_down() {
            self.tell(Notice::WorkerHealth {
                worker: id,
                healthy,
            });
        }
    }

    /// A worker is Ready.
    pub(super) fn mark_ready(&mut self, id: WorkerId, now: Moment) {
        let Some(worker) = self.worker_mut(id) else {
            return;
        };
        worker.state = State::Ready;
        worker.ready_at = Some(now);
        worker.healthy_at = Some(now);
        if worker.watchdog.is_some() {
            worker.watchdog = worker.hang_timeout.map(|timeout| now + timeout);
        }
        let (level, after, generation) = (worker.level, now - worker.spawned, worker.generation);
        let knows = worker.greeted;
        self.tell(Notice::WorkerReady {
            worker: id,
            level,
            after,
        });
        if generation == self.current {
            self.boot_failures = 0;
        }
        if matches!(self.phase, Phase::Boot) && self.ready_workers() >= self.policy.min_ready {
            self.enter_ready();
        } else if self.is_unhealthy_lameduck() && !knows {
            self.tell_unhealthy(id);
        }
    }

    /// Where the level is not configured, a worker is what it shows to be.
    fn learn_level(&mut self, id: WorkerId, carrier: Carrier, report: &Report) {
        let Some(worker) = self.worker_mut(id).filter(|worker| worker.learns) else {
            return;
        };
        let shown = match (carrier, report) {
            (Carrier::Control, Report::Hello { .. }) => Level::Native,
            (Carrier::Notify, _) => Level::Notify,
            (Carrier::Control, _) => return,
        };
        worker.level = worker.level.max(shown);
    }

    /// A native worker has its handlers in place: whatever was said before may
    /// have found nobody.
    fn on_hello(&mut self, id: WorkerId) {
        let first = |worker: &&mut Worker| worker.level == Level::Native && !worker.greeted;
        let Some(worker) = self.worker_mut(id).filter(first) else {
            return;
        };
        worker.greeted = true;
        if worker.is_leaving() {
            self.act(Action::Command {
                worker: id,
                command: Command::Drain,
            });
            self.act(Action::Signal {
                worker: id,
                signal: Signal::Term,
            });
        } else if self.is_unhealthy_lameduck() {
            self.tell_unhealthy(id);
        }
    }

    fn on_drained(&mut self, id: WorkerId, served: u64, aborted: u64, now: Moment) {
        let going_down = self.phase.is_going_down();
        let patience = now + self.policy.shutdown.drain_timeout;
        let Some(worker) = self.worker_mut(id) else {
            return;
        };
        let force_at = match worker.state {
            State::Leaving { force_at } => force_at,
            State::Aborting { kill_at } => kill_at,
            State::Booting { .. } | State::Ready => {
                self.leave_by_own_will(id, now);
                patience
            }
            State::Drained { .. } | State::Killed => return,
        };
        if let Some(worker) = self.worker_mut(id) {
            worker.state = State::Drained { force_at };
        }
        self.tell(Notice::WorkerDrained {
            worker: id,
            served,
            aborted,
        });
        self.work_aborted |= going_down && aborted > 0;
    }

    fn on_served(&mut self, id: WorkerId, requests: u64) {
        let limit = self.worker(id).map_or(0, |worker| worker.max_requests);
        if limit > 0 && requests >= limit {
            self.recycle(id, Cause::MaxRequests);
        }
    }

    /// The first `WATCHDOG=1` says that there will be more.
    fn on_watchdog(&mut self, id: WorkerId, now: Moment) {
        if let Some(worker) = self.worker_mut(id) {
            worker.watchdog = worker.hang_timeout.map(|timeout| now + timeout);
        }
    }

    /// One that is about to leave has its time for that.
    fn on_hung(&mut self, id: WorkerId, now: Moment) {
        if self.worker(id).is_some_and(Worker::is_ready) {
            self.force(id, Cause::Hung, now);
        }
    }

    /// `EXTEND_TIMEOUT_USEC=`: sd_notify(3) lets a worker ask for more time,
    /// from now, for what it is doing. The end of the grace period is not ours
    /// to extend.
    fn on_extend(&mut self, id: WorkerId, length: Duration, now: Moment) {
        let extended = match self.phase {
            Phase::Drain { until } => until.min(now + length),
            _ => now + length,
        };
        let Some(worker) = self.worker_mut(id) else {
            return;
        };
        match &mut worker.state {
            State::Booting { give_up } => *give_up = (*give_up).max(extended),
            State::Leaving { force_at } => *force_at = (*force_at).max(extended),
            State::Ready => {
                if let Some(due) = &mut worker.watchdog {
                    *due = (*due).max(extended);
                }
            }
            State::Drained { .. } | State::Aborting { .. } | State::Killed => {}
        }
    }

    /// A worker stops that nobody told to: its place is empty from now on.
    fn leave_by_own_will(&mut self, id: WorkerId, now: Moment) {
        let force_at = now + self.policy.shutdown.drain_timeout;
        let Some(worker) = self.worker_mut(id).filter(|worker| !worker.is_leaving()) else {
            return;
        };
        worker.state = State::Leaving { force_at };
        worker.leaving = Some((Cause::OwnWill, now));
        let worker = worker.clone();
        self.tell(Notice::WorkerRetired {
            worker: id,
            cause: Cause::OwnWill,
        });
        self.after_failure(&worker, Failure::Behaviour, now);
    }
}
