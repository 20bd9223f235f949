//! One pod, from its start to its exit.

use std::collections::BTreeMap;
use std::time::Duration;

use worker_api::scoreboard::PodPhase;

use super::dice::Dice;
use super::ledger::{Before, Ledger, Step, Verdict};
use super::world::World;
use crate::fleet::{Action, Event, Fleet, Generation, Moment, Notice, Policy, Worker, WorkerId};

/// Steps within which a shutdown must be over, and a calm world settled.
const PATIENCE: u32 = 20_000;

pub(super) struct Life {
    world: World,
    fleet: Fleet,
    ledger: Ledger,
    policy: Policy,
    generation: Generation,
    steps_left: u32,
    /// Nothing unforeseen happens any more.
    calm: bool,
    aloud: bool,
    tally: Tally,
}

impl Life {
    pub(super) fn new(mut dice: Dice, steps: u32, aloud: bool) -> Self {
        let policy = dice.policy();
        let generation = Generation(1);
        let bad = dice.one_in(8);
        let fleet = Fleet::new(generation, policy.clone(), dice.below(u64::MAX));
        let mut world = World::new(dice);
        world.introduce(generation, &policy, bad);
        Self {
            world,
            fleet,
            ledger: Ledger::new(&policy),
            policy,
            generation,
            steps_left: steps,
            calm: false,
            aloud,
            tally: Tally::default(),
        }
    }

    pub(super) fn steps_left(&self) -> u32 {
        self.steps_left
    }

    /// Start, serve, perhaps come to rest, shut down, exit.
    pub(super) fn run(&mut self, tally: &mut Tally) -> Verdict {
        if self.aloud {
            println!("--- a pod: {:?}", self.policy);
        }
        self.tell(Event::Started)?;
        let span = self.world.dice.pick(&[20, 100, 100, 400, 3000]);
        let restless = self.world.dice.below(span);
        for _ in 0..restless {
            if self.is_over() || self.steps_left == 0 {
                break;
            }
            self.step()?;
        }
        if self.world.dice.one_in(2) && self.fleet.phase() <= PodPhase::Ready {
            self.come_to_rest()?;
        }
        self.shut_down()?;
        self.stay_silent()?;
        tally.add(&self.tally);
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.ledger.exited.is_some()
    }

    /// Something happens: the next thing that is due, or anything.
    fn step(&mut self) -> Verdict {
        if let Some(event) = self.world.inbox.pop_front() {
            return self.tell(event);
        }
        let deadline = self.fleet.next_deadline();
        let deed = self.world.next_deed();
        let next = deadline.into_iter().chain(deed).min();
        if !self.calm && (next.is_none() || self.world.dice.one_in(25)) {
            let pause = next.map_or(Duration::from_secs(3600), |next| next - self.world.now);
            let wait = self.world.dice.up_to(pause.min(Duration::from_secs(3600)));
            self.world.now = self.world.now + wait;
            let event = self.anything();
            return event.map_or(Ok(()), |event| self.tell(event));
        }
        let Some(next) = next else {
            return Err("nothing will ever happen again".into());
        };
        self.sleep_until(next);
        let due = deadline.is_some_and(|due| due <= self.world.now);
        if due && (deed.is_none_or(|deed| deed > self.world.now) || self.world.dice.one_in(2)) {
            return self.tell(Event::Tick);
        }
        self.world
            .do_next()
            .map_or(Ok(()), |event| self.tell(event))
    }

    /// Mostly to the point, sometimes a little late, now and then by hours.
    fn sleep_until(&mut self, next: Moment) {
        let dice = &mut self.world.dice;
        let late = if self.calm {
            Duration::ZERO
        } else if dice.one_in(400) {
            dice.up_to(Duration::from_secs(6 * 3600))
        } else if dice.one_in(10) {
            dice.up_to(Duration::from_millis(3))
        } else {
            Duration::ZERO
        };
        self.ledger.overslept(late);
        self.world.now = self.world.now.max(next) + late;
    }

    /// What an operator, a worker or bad luck may come up with at any time.
    fn anything(&mut self) -> Option<Event> {
        let somebody = self.world.anyone();
        let event = match self.world.dice.below(40) {
            0..=4 => self.reload(),
            5 => Event::ReloadRefused {
                reason: "line 7".into(),
            },
            6..=10 if self.fleet.target() < 12 => Event::ScaleOut,
            6..=14 => Event::ScaleIn,
            15 => Event::RetireAll,
            16 => Event::Terminate,
            17 if self.fleet.phase() > PodPhase::Ready => Event::Interrupt,
            18 if self.fleet.phase() > PodPhase::Lameduck => Event::Quit,
            19..=24 => {
                self.world.accident(somebody?);
                return None;
            }
            25..=33 => self.world.lie_of(somebody?),
            34 => self.world.lie_of(WorkerId(u64::MAX)),
            35 => Event::Memory {
                worker: somebody?,
                bytes: 2 << 30,
            },
            36 => Event::Traffic {
                served: self.world.dice.below(3),
                refused: self.world.dice.below(30),
            },
            _ => Event::Tick,
        };
        Some(event)
    }

    fn reload(&mut self) -> Event {
        self.generation = Generation(self.generation.0 + 1);
        if self.world.dice.one_in(3) {
            self.policy = self.world.dice.policy();
        }
        let bad = self.world.dice.one_in(3) && !self.calm;
        self.world.introduce(self.generation, &self.policy, bad);
        Event::Reload {
            generation: self.generation,
            policy: Box::new(self.policy.clone()),
        }
    }

    /// Tell the core, do what it answers, and check it.
    fn tell(&mut self, event: Event) -> Verdict {
        self.steps_left = self.steps_left.saturating_sub(1);
        let now = self.world.now;
        let before = Before::of(&self.fleet);
        let actions = self.fleet.handle(event.clone(), now);
        if self.aloud {
            println!("{:>14.6} {event:?}", now.elapsed().as_secs_f64());
            for action in &actions {
                println!("{:>14} -> {action:?}", "");
            }
        }
        for action in &actions {
            self.world.carry_out(action);
            self.tally.count(action);
        }
        self.ledger.check(&Step {
            now,
            event: &event,
            before: &before,
            actions: &actions,
            fleet: &self.fleet,
            alive: self.world.alive(),
        })
    }

    /// With nothing more to go wrong, the fleet becomes what it should be.
    fn come_to_rest(&mut self) -> Verdict {
        self.calm = true;
        self.world.calm_down();
        if self.world.dice.one_in(2) {
            let event = self.reload();
            self.tell(event)?;
        }
        for _ in 0..PATIENCE {
            if self.fleet.phase() > PodPhase::Ready || self.is_settled() {
                self.tally.add_one("came to rest");
                self.calm = false;
                return Ok(());
            }
            self.step()?;
        }
        Err(format!("the fleet does not come to rest: {:?}", self.fleet))
    }

    /// As many workers as wanted, Ready, of the current generation and not
    /// about to be replaced.
    fn is_settled(&self) -> bool {
        let fleet = &self.fleet;
        let fresh = |worker: &&Worker| {
            worker.is_ready() && worker.generation == fleet.current && worker.recycle.is_none()
        };
        let staying = fleet.staying().count();
        let done = fleet.rollout.is_none() || fleet.wanted() == 0;
        let enough = staying == fleet.wanted() && fleet.staying().filter(fresh).count() == staying;
        enough && done && fleet.vacancies.is_empty()
    }

    fn shut_down(&mut self) -> Verdict {
        let order = [
            Event::Terminate,
            Event::Terminate,
            Event::Interrupt,
            Event::Quit,
        ];
        let first = self.world.dice.below(4);
        if !self.is_over() {
            self.tell(order[usize::try_from(first).expect("an index")].clone())?;
        }
        for _ in 0..PATIENCE {
            if self.is_over() {
                return Ok(());
            }
            self.step()?;
        }
        Err("the shutdown does not end".into())
    }

    /// After the exit nothing is done any more, whatever comes.
    fn stay_silent(&mut self) -> Verdict {
        self.world.inbox.clear();
        for _ in 0..5 {
            let Some(event) = self.anything() else {
                continue;
            };
            let actions = self.fleet.handle(event.clone(), self.world.now);
            let acts = |action: &&Action| !matches!(action, Action::Tell(_));
            if let Some(action) = actions.iter().find(acts) {
                return Err(format!("{action:?} after the exit, at {event:?}"));
            }
            if self.fleet.next_deadline().is_some() {
                return Err("something is due after the exit".into());
            }
        }
        Ok(())
    }
}

/// How often things were seen, to know that the simulation is not idle.
#[derive(Default)]
pub(super) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    fn add_one(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    fn add(&mut self, other: &Tally) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    fn count(&mut self, action: &Action) {
        match action {
            Action::SetPhase(PodPhase::Lameduck) => self.add_one("lameduck"),
            Action::SetPhase(PodPhase::Force) => self.add_one("force"),
            Action::Exit(status) => self.add_one(match status.code() {
                0 => "exit 0",
                3 => "exit 3",
                4 => "exit 4",
                _ => "exit 5",
            }),
            Action::Tell(notice) => match notice {
                Notice::WorkerReady { .. } => self.add_one("ready"),
                Notice::WorkerRetired { cause, .. } => self.add_one(cause.name()),
                Notice::Forced { cause, kill, .. } if !kill => self.add_one(cause.name()),
                Notice::Forced { .. } => self.add_one("killed"),
                Notice::ReloadDone { .. } => self.add_one("reloaded"),
                Notice::RolledBack { .. } => self.add_one("rolled back"),
                Notice::Fatal { .. } => self.add_one("fatal"),
                _ => {}
            },
            _ => {}
        }
    }

    pub(super) fn check_that_much_was_seen(&self) {
        for what in [
            "boot_timeout",
            "came to rest",
            "exit 0",
            "exit 3",
            "exit 4",
            "exit 5",
            "fatal",
            "force",
            "hung",
            "killed",
            "lameduck",
            "max_lifetime",
            "max_requests",
            "max_rss",
            "own_will",
            "ready",
            "reload",
            "reloaded",
            "rollback",
            "rolled back",
            "scale_in",
        ] {
            assert!(
                self.0.contains_key(what),
                "never seen: {what}: {:?}",
                self.0
            );
        }
        println!("seen: {:?}", self.0);
    }
}
