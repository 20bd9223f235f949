//! The processes of a simulated machine: what they do by themselves, and how
//! they take what the core does to them.

mod obey;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use worker_api::message::Report;

use super::dice::Dice;
use crate::fleet::{
    Action, Carrier, Death, Event, Generation, Level, Moment, Order, Policy, SpawnFailure, WorkerId,
};

/// What is wrong with a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The system has no process left.
    NotStarted,
    /// The app is not there.
    NoApp,
    /// What the app is run by does not hold.
    NoConfig,
    CrashesInBoot,
    CannotLoadTheApp,
    SaysFatalInBoot,
    NeverReady,
    /// Boots long, and asks for the time.
    Slow,
    DiesWhenReady,
    DiesLater,
    /// Stops its watchdog, and hears nothing.
    Hangs,
    /// Hears nothing.
    Deaf,
    DrainsAndStays,
    SaysFatal,
    Stops,
    /// Says what it should not.
    Lies,
}

const FAULTS: [Fault; 16] = [
    Fault::NotStarted,
    Fault::NoApp,
    Fault::NoConfig,
    Fault::CrashesInBoot,
    Fault::CannotLoadTheApp,
    Fault::SaysFatalInBoot,
    Fault::NeverReady,
    Fault::Slow,
    Fault::DiesWhenReady,
    Fault::DiesLater,
    Fault::Hangs,
    Fault::Deaf,
    Fault::DrainsAndStays,
    Fault::SaysFatal,
    Fault::Stops,
    Fault::Lies,
];

/// What a process does, when its time has come.
#[derive(Debug)]
enum Deed {
    Greet,
    GetReady,
    Ping,
    Say(Report),
    /// As `Say`, but by chance, and to mislead.
    Lie(Report),
    /// Nothing is in flight any more.
    Finish,
    Die(Death),
}

/// How the processes of a generation are.
#[derive(Debug, Clone, Copy)]
struct Temper {
    /// What they speak.
    kind: Level,
    /// What they are configured as.
    level: Option<Level>,
    /// All of them have it.
    fault: Option<Fault>,
    hang_timeout: Option<Duration>,
    term_immediately: bool,
}

#[derive(Debug)]
struct Process {
    temper: Temper,
    fault: Option<Fault>,
    max_requests: u64,
    /// Its handlers are in place.
    greeted: bool,
    /// It was told to finish before it could hear.
    told: bool,
}

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) now: Moment,
    /// What comes before time goes on.
    pub(super) inbox: VecDeque<Event>,
    processes: BTreeMap<WorkerId, Process>,
    agenda: BTreeMap<(Moment, u64), (WorkerId, Deed)>,
    deeds: u64,
    tempers: BTreeMap<Generation, Temper>,
    calm: bool,
    traffic: (u64, u64),
}

const SEGV: i32 = 11;
const KILL: i32 = 9;
const TERM: i32 = 15;

const fn killed(signal: i32) -> Death {
    Death::Killed {
        signal,
        core: false,
        oom: false,
    }
}

impl World {
    pub(super) fn new(dice: Dice) -> Self {
        Self {
            dice,
            now: Moment::START,
            inbox: VecDeque::new(),
            processes: BTreeMap::new(),
            agenda: BTreeMap::new(),
            deeds: 0,
            tempers: BTreeMap::new(),
            calm: false,
            traffic: (0, 0),
        }
    }

    /// The workers of a generation will be like this.
    pub(super) fn introduce(&mut self, generation: Generation, policy: &Policy, bad: bool) {
        let kinds = [Level::Plain, Level::Notify, Level::Native];
        let kind = match policy.level {
            Some(level) if !self.dice.one_in(12) => level,
            _ => self.dice.pick(&kinds),
        };
        let temper = Temper {
            kind,
            level: policy.level,
            fault: bad.then(|| self.dice.pick(&FAULTS)),
            hang_timeout: policy.hang_timeout,
            term_immediately: policy.term_immediately,
        };
        self.tempers.insert(generation, temper);
    }

    /// From now on nothing goes wrong that has not gone wrong yet.
    pub(super) fn calm_down(&mut self) {
        self.calm = true;
        for temper in self.tempers.values_mut() {
            temper.fault = None;
            temper.kind = temper.level.unwrap_or(temper.kind);
        }
        // Who is beyond help is helped.
        let wrong = self.processes.iter().filter(|(_, process)| {
            let temper = process.temper;
            process.fault.is_some() || temper.level.is_some_and(|level| level != temper.kind)
        });
        let wrong: Vec<WorkerId> = wrong.map(|(worker, _)| *worker).collect();
        for worker in wrong {
            self.accident(worker);
        }
    }

    pub(super) fn alive(&self) -> usize {
        self.processes.len()
    }

    pub(super) fn anyone(&mut self) -> Option<WorkerId> {
        let index = self.dice.below(self.processes.len().max(1) as u64);
        let index = usize::try_from(index).expect("an index");
        self.processes.keys().nth(index).copied()
    }

    /// When a process does something next.
    pub(super) fn next_deed(&self) -> Option<Moment> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    /// The next thing that a process does by now, if the master can notice it.
    pub(super) fn do_next(&mut self) -> Option<Event> {
        let first = self.agenda.first_entry()?;
        if first.key().0 > self.now {
            return None;
        }
        let (worker, deed) = first.remove();
        let process = self.processes.get_mut(&worker)?;
        let report = match deed {
            Deed::Die(death) => {
                self.processes.remove(&worker);
                return Some(Event::Exited { worker, death });
            }
            Deed::Greet => {
                process.greeted = true;
                if process.told {
                    self.wind_down(worker, Duration::from_millis(100));
                }
                Report::Hello { version: 1 }
            }
            Deed::GetReady => {
                self.live(worker);
                Report::Ready
            }
            Deed::Ping => {
                let pause = process.temper.hang_timeout? / 3;
                self.later(worker, pause, Deed::Ping);
                Report::Watchdog
            }
            Deed::Say(report) => report,
            Deed::Lie(report) if !self.calm => report,
            Deed::Lie(_) => return None,
            Deed::Finish => {
                let stays = process.fault == Some(Fault::DrainsAndStays);
                let native = process.temper.kind == Level::Native;
                if !stays {
                    self.soon(worker, Deed::Die(Death::Exited(0)));
                }
                if !native {
                    return None;
                }
                let aborted = u64::from(self.dice.one_in(20));
                Report::Drained { served: 7, aborted }
            }
        };
        Some(self.reported(worker, report))
    }

    /// Words of a worker, by the way that it speaks.
    fn reported(&self, worker: WorkerId, report: Report) -> Event {
        let kind = self
            .processes
            .get(&worker)
            .map(|process| process.temper.kind);
        let carrier = if kind == Some(Level::Native) {
            Carrier::Control
        } else {
            Carrier::Notify
        };
        Event::Reported {
            worker,
            carrier,
            report,
        }
    }

    /// What the core wants done.
    pub(super) fn carry_out(&mut self, action: &Action) {
        match action {
            Action::Spawn(order) => self.spawn(order),
            Action::Command { worker, command } => self.command(*worker, command),
            Action::Signal { worker, signal } => self.signal(*worker, *signal),
            Action::MeasureMemory => {
                for worker in self.processes.keys().copied() {
                    let grown = !self.calm && self.dice.one_in(20);
                    let bytes = if grown { 2 << 30 } else { 1 << 20 };
                    self.inbox.push_back(Event::Memory { worker, bytes });
                }
            }
            Action::MeasureTraffic => {
                let (served, refused) = &mut self.traffic;
                *served += u64::from(self.dice.one_in(12));
                *refused += u64::from(self.dice.one_in(5));
                let (served, refused) = self.traffic;
                self.inbox.push_back(Event::Traffic { served, refused });
            }
            Action::SetPhase(_)
            | Action::SetPodHealthy(_)
            | Action::TurnAway
            | Action::CloseListeners
            | Action::Tell(_)
            | Action::Exit(_) => {}
        }
    }

    fn spawn(&mut self, order: &Order) {
        let temper = self.tempers[&order.generation];
        let own = !self.calm && self.dice.one_in(6);
        let fault = temper
            .fault
            .or_else(|| own.then(|| self.dice.pick(&FAULTS)));
        let worker = order.worker;
        let failure = match fault {
            Some(Fault::NotStarted) => Some(SpawnFailure::System("no process left".into())),
            Some(Fault::NoApp) => Some(SpawnFailure::App("no such file".into())),
            Some(Fault::NoConfig) => Some(SpawnFailure::Config("a hook failed".into())),
            _ => None,
        };
        let process = Process {
            temper,
            fault,
            max_requests: order.max_requests,
            greeted: false,
            told: false,
        };
        if let Some(failure) = failure {
            self.inbox.push_back(Event::SpawnFailed { worker, failure });
        } else {
            self.processes.insert(worker, process);
            self.boot(worker, &temper, fault);
        }
    }

    fn boot(&mut self, worker: WorkerId, temper: &Temper, fault: Option<Fault>) {
        let boot = Duration::from_millis(10) + self.dice.up_to(Duration::from_secs(4));
        let (death, late) = match fault {
            Some(Fault::CrashesInBoot) => (Some(Death::Exited(1)), false),
            Some(Fault::CannotLoadTheApp) => (Some(Death::Exited(4)), false),
            Some(Fault::SaysFatalInBoot) => {
                self.later(worker, boot, Deed::Lie(Report::Fatal("why".into())));
                (Some(Death::Exited(1)), false)
            }
            Some(Fault::NeverReady) => (None, true),
            _ => (None, false),
        };
        if temper.kind == Level::Native {
            self.later(worker, boot / 10, Deed::Greet);
        }
        if temper.kind != Level::Plain && self.dice.one_in(2) {
            self.later(worker, boot / 2, Deed::Ping);
        }
        if let Some(death) = death {
            self.later(worker, boot, Deed::Die(death));
        } else if fault == Some(Fault::Slow) {
            let length = Duration::from_secs(1 + self.dice.below(90));
            let plea = Report::ExtendTimeout(length);
            self.later(worker, boot, Deed::Say(plea));
            self.later(worker, boot + length * 9 / 10, Deed::GetReady);
        } else if !late {
            self.later(worker, boot, Deed::GetReady);
        }
    }

    /// A worker serves: what will happen in its life?
    fn live(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get(&worker) else {
            return;
        };
        let (fault, max_requests) = (process.fault, process.max_requests);
        let life = self.dice.up_to(Duration::from_secs(600));
        match fault {
            Some(Fault::DiesWhenReady) => {
                let moment = self.dice.up_to(Duration::from_millis(500));
                self.later(worker, moment, Deed::Die(Death::Exited(1)));
            }
            Some(Fault::DiesLater) => self.later(worker, life, Deed::Die(killed(SEGV))),
            Some(Fault::Hangs) => self
                .agenda
                .retain(|_, (who, deed)| *who != worker || !matches!(deed, Deed::Ping)),
            Some(Fault::SaysFatal) => {
                self.later(worker, life, Deed::Lie(Report::Fatal("why".into())));
                self.later(worker, life, Deed::Die(Death::Exited(1)));
            }
            Some(Fault::Stops) => {
                self.later(worker, life, Deed::Say(Report::Stopping));
                self.later(worker, life, Deed::Finish);
            }
            Some(Fault::Lies) => {
                for _ in 0..5 {
                    let lie = self.lie();
                    let moment = self.dice.up_to(Duration::from_secs(60));
                    self.later(worker, moment, Deed::Lie(lie));
                }
            }
            _ => {}
        }
        if max_requests > 0 {
            self.later(worker, life, Deed::Lie(Report::Served(max_requests)));
        }
    }

    pub(super) fn lie(&mut self) -> Report {
        let length = self.dice.pick(&[0, 1, 100, 1 << 40]);
        match self.dice.below(12) {
            0 => Report::Hello { version: 9 },
            1 => Report::Ready,
            2 => Report::Status("all is well".into()),
            3 => Report::Unhealthy,
            4 => Report::Drained {
                served: u64::MAX,
                aborted: length,
            },
            5 => Report::Served(u64::MAX),
            6 => Report::Watchdog,
            7 | 8 => Report::ExtendTimeout(Duration::from_secs(length)),
            9 => Report::Stopping,
            10 => Report::Hung,
            _ => Report::Fatal("the end is near".into()),
        }
    }

    /// Somebody says something that was not foreseen.
    pub(super) fn lie_of(&mut self, worker: WorkerId) -> Event {
        let report = self.lie();
        let mut event = self.reported(worker, report);
        if let Event::Reported { carrier, .. } = &mut event
            && self.dice.one_in(4)
        {
            *carrier = Carrier::Notify;
        }
        event
    }

    /// Somebody dies for no reason.
    pub(super) fn accident(&mut self, worker: WorkerId) {
        let death = self
            .dice
            .pick(&[killed(SEGV), killed(KILL), Death::Exited(0)]);
        self.later(worker, Duration::ZERO, Deed::Die(death));
    }

    fn soon(&mut self, worker: WorkerId, deed: Deed) {
        let moment = self.dice.up_to(Duration::from_millis(5));
        self.later(worker, moment, deed);
    }

    fn later(&mut self, worker: WorkerId, wait: Duration, deed: Deed) {
        self.deeds += 1;
        self.agenda
            .insert((self.now + wait, self.deeds), (worker, deed));
    }
}
