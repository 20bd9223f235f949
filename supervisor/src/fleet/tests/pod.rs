//! A pod to drive: events in, and all that the core has answered at hand.

use std::time::Duration;

use worker_api::message::{Command, Report};
use worker_api::scoreboard::PodPhase;

use crate::fleet::{
    Action, Carrier, Death, Event, ExitStatus, Fleet, Generation, Level, Moment, Notice, Order,
    Outcome, Policy, Recycle, Restart, Shutdown, Signal, WorkerId,
};

pub(super) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The defaults of the configuration, under Kubernetes.
pub(super) fn policy(level: Level, count: usize) -> Policy {
    Policy {
        count,
        min_ready: 1,
        level: Some(level),
        ready_after: secs(1),
        boot_timeout: secs(60),
        hang_timeout: Some(secs(30)),
        term_immediately: false,
        recycle: Recycle::default(),
        restart: Restart {
            backoff: millis(100),
            backoff_max: secs(30),
            crash_limit: 5,
        },
        shutdown: Shutdown {
            lameduck: secs(10),
            lameduck_quiet: None,
            failure_threshold: 3,
            unready_delay: Duration::ZERO,
            drain_timeout: secs(15),
            kill_margin: secs(5),
        },
        surge: 1,
        retire_bound: secs(75),
    }
}

/// A fleet, its clock, and a record of all it wanted done.
pub(super) struct Pod {
    pub(super) fleet: Fleet,
    pub(super) now: Moment,
    record: Vec<(Moment, Action)>,
    generation: u64,
}

impl Pod {
    /// Just started: every worker boots.
    pub(super) fn booting(policy: Policy) -> Self {
        let mut pod = Self {
            fleet: Fleet::new(Generation(1), policy, 7),
            now: Moment::START,
            record: Vec::new(),
            generation: 1,
        };
        pod.tell(Event::Started);
        pod
    }

    /// Every worker is Ready.
    pub(super) fn ready(policy: Policy) -> Self {
        let mut pod = Self::booting(policy);
        pod.all_get_ready();
        pod
    }

    /// Something happens; returns what is done about it.
    pub(super) fn tell(&mut self, event: Event) -> Vec<Action> {
        let actions = self.fleet.handle(event, self.now);
        self.record
            .extend(actions.iter().map(|action| (self.now, action.clone())));
        actions
    }

    /// Time goes by, and each deadline is met as it comes.
    pub(super) fn pass(&mut self, length: Duration) {
        let until = self.now + length;
        while let Some(due) = self.fleet.next_deadline().filter(|due| *due <= until) {
            assert!(due >= self.now, "a deadline lies in the past");
            self.now = due;
            self.tell(Event::Tick);
        }
        self.now = until;
        self.tell(Event::Tick);
    }

    pub(super) fn says(&mut self, worker: WorkerId, report: Report) -> Vec<Action> {
        let native = self
            .fleet
            .worker(worker)
            .is_some_and(|worker| worker.level() == Level::Native);
        let carrier = if native {
            Carrier::Control
        } else {
            Carrier::Notify
        };
        self.tell(Event::Reported {
            worker,
            carrier,
            report,
        })
    }

    pub(super) fn greets(&mut self, worker: WorkerId) -> Vec<Action> {
        self.says(worker, Report::Hello { version: 1 })
    }

    /// The worker becomes Ready, as its level does.
    pub(super) fn gets_ready(&mut self, worker: WorkerId) {
        match self.fleet.worker(worker).map(|worker| worker.level()) {
            Some(Level::Plain) => self.pass(secs(1)),
            Some(Level::Native) => {
                self.greets(worker);
                self.says(worker, Report::Ready);
            }
            _ => {
                self.says(worker, Report::Ready);
            }
        }
    }

    pub(super) fn all_get_ready(&mut self) {
        for worker in self.in_state("booting") {
            self.gets_ready(worker);
        }
    }

    /// The worker has finished, as one that was told to leave does.
    pub(super) fn finishes(&mut self, worker: WorkerId) {
        if self.fleet.worker(worker).map(|worker| worker.level()) == Some(Level::Native) {
            self.drained(worker, 0);
        }
        self.exits(worker, 0);
    }

    pub(super) fn all_leaving_finish(&mut self) {
        for worker in self.leaving() {
            self.finishes(worker);
        }
    }

    pub(super) fn drained(&mut self, worker: WorkerId, aborted: u64) {
        self.says(worker, Report::Drained { served: 1, aborted });
    }

    pub(super) fn exits(&mut self, worker: WorkerId, status: i32) -> Vec<Action> {
        let death = Death::Exited(status);
        self.tell(Event::Exited { worker, death })
    }

    pub(super) fn is_killed(&mut self, worker: WorkerId, signal: i32) -> Vec<Action> {
        let death = Death::Killed {
            signal,
            core: false,
            oom: false,
        };
        self.tell(Event::Exited { worker, death })
    }

    /// HUP, with a configuration that holds; returns the new generation.
    pub(super) fn reload(&mut self, policy: Policy) -> Generation {
        self.generation += 1;
        let generation = Generation(self.generation);
        self.tell(Event::Reload {
            generation,
            policy: Box::new(policy),
        });
        generation
    }

    pub(super) fn in_state(&self, name: &str) -> Vec<WorkerId> {
        let workers = self.fleet.workers().iter();
        workers
            .filter(|worker| worker.state_name() == name)
            .map(|worker| worker.id())
            .collect()
    }

    pub(super) fn leaving(&self) -> Vec<WorkerId> {
        let workers = self.fleet.workers().iter();
        workers
            .filter(|worker| worker.is_leaving())
            .map(|worker| worker.id())
            .collect()
    }

    /// The workers, Ready or not, that serve by this generation and stay.
    pub(super) fn staying_of(&self, generation: Generation) -> usize {
        let workers = self.fleet.workers().iter();
        workers
            .filter(|worker| !worker.is_leaving() && worker.generation() == generation)
            .count()
    }

    /// All that was ever done, in order.
    pub(super) fn record(&self) -> impl DoubleEndedIterator<Item = &Action> {
        self.record.iter().map(|(_, action)| action)
    }

    /// When something was done first.
    pub(super) fn when(&self, wanted: impl Fn(&Action) -> bool) -> Option<Moment> {
        let mut record = self.record.iter();
        record.find(|(_, action)| wanted(action)).map(|(at, _)| *at)
    }

    pub(super) fn orders(&self) -> Vec<Order> {
        let orders = self.record().filter_map(|action| match action {
            Action::Spawn(order) => Some(*order),
            _ => None,
        });
        orders.collect()
    }

    pub(super) fn last_order(&self) -> Order {
        *self.orders().last().expect("somebody was spawned")
    }

    pub(super) fn commands(&self, of: WorkerId) -> Vec<Command> {
        let commands = self.record().filter_map(|action| match action {
            Action::Command { worker, command } if *worker == of => Some(command.clone()),
            _ => None,
        });
        commands.collect()
    }

    pub(super) fn signals(&self, of: WorkerId) -> Vec<Signal> {
        let signals = self.record().filter_map(|action| match action {
            Action::Signal { worker, signal } if *worker == of => Some(*signal),
            _ => None,
        });
        signals.collect()
    }

    pub(super) fn notices(&self) -> impl Iterator<Item = &Notice> {
        self.record().filter_map(|action| match action {
            Action::Tell(notice) => Some(notice),
            _ => None,
        })
    }

    /// What the workers and the probes can read of the pod's health.
    pub(super) fn is_healthy(&self) -> bool {
        let mut told = self.record().filter_map(|action| match action {
            Action::SetPodHealthy(healthy) => Some(*healthy),
            _ => None,
        });
        told.next_back().unwrap_or(false)
    }

    pub(super) fn exit(&self) -> Option<ExitStatus> {
        self.record().find_map(|action| match action {
            Action::Exit(status) => Some(*status),
            _ => None,
        })
    }

    pub(super) fn phase(&self) -> PodPhase {
        self.fleet.phase()
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.fleet.last_reload().map(|report| report.outcome)
    }
}
