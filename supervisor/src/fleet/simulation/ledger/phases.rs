//! The phases: each in its turn, for a reason, and not too long.

use std::time::Duration;

use worker_api::scoreboard::PodPhase;

use super::{Ledger, Step, Verdict, must};
use crate::fleet::{Action, Event, Level, Moment};

/// How long the world takes to reap what was killed.
const REAPING: Duration = Duration::from_millis(50);

impl Ledger {
    pub(super) fn enter_phase(&mut self, phase: PodPhase, step: &Step<'_>) -> Verdict {
        let now = step.now;
        must!(
            phase > self.phase || (phase == PodPhase::Boot && step.asked(|e| *e == Event::Started)),
            "phase {phase:?} after {:?}",
            self.phase
        );
        let shutdown = self.policy.shutdown;
        let rest = shutdown.drain_timeout + shutdown.kill_margin + REAPING;
        match phase {
            PodPhase::Lameduck => {
                must!(
                    step.asked(|e| *e == Event::Terminate),
                    "lameduck without SIGTERM"
                );
                self.unready_at = Some(now + shutdown.unready_delay);
                self.lameduck_until = Some(now + shutdown.lameduck);
                self.end_by = Some(now + shutdown.lameduck + rest);
            }
            PodPhase::Drain => {
                must!(
                    self.may_drain(step),
                    "drain from {:?} before its time",
                    self.phase
                );
                self.drain_until = Some(now + shutdown.drain_timeout);
                self.end_by.get_or_insert(now + rest);
                self.accounts.drain(&self.policy, now);
            }
            PodPhase::Force => {
                let second = self.interrupts > 1 && step.asked(|e| *e == Event::Interrupt);
                let overdue = self.drain_until.is_some_and(|until| until <= now);
                let quit = step.asked(|e| *e == Event::Quit);
                must!(second || overdue || quit, "force before its time");
                self.end_by.get_or_insert(now + rest);
            }
            PodPhase::Boot | PodPhase::Ready | PodPhase::Exit => {}
        }
        self.phase = phase;
        Ok(())
    }

    /// Whether there is a reason to stop serving.
    fn may_drain(&self, step: &Step<'_>) -> bool {
        let over = self.lameduck_until.is_some_and(|until| until <= step.now);
        let quiet = self.policy.shutdown.lameduck_quiet.is_some()
            && matches!(step.event, Event::Traffic { .. });
        match self.phase {
            _ if step.asked(|e| *e == Event::Interrupt) || self.given_up.is_some() => true,
            PodPhase::Boot => step.asked(|e| *e == Event::Terminate),
            PodPhase::Lameduck => over || quiet || self.accounts.is_empty(),
            _ => false,
        }
    }

    pub(super) fn turn(&mut self, healthy: bool, now: Moment) -> Verdict {
        if healthy {
            must!(self.phase == PodPhase::Ready, "healthy in {:?}", self.phase);
        } else {
            let early =
                self.phase == PodPhase::Lameduck && self.unready_at.is_none_or(|due| now < due);
            must!(
                self.phase > PodPhase::Ready && !early,
                "unhealthy too early"
            );
        }
        self.healthy = healthy;
        Ok(())
    }

    pub(super) fn check_phase(&self, step: &Step<'_>) -> Verdict {
        let now = step.now;
        must!(self.phase == step.fleet.phase(), "the phase was not told");
        let told = step.before.phase == PodPhase::Ready && *step.event == Event::Terminate;
        must!(
            !told || step.did(|action| *action == Action::SetPhase(PodPhase::Lameduck)),
            "no lameduck at SIGTERM"
        );
        let late = |due: Option<Moment>| due.is_some_and(|due| due <= now);
        match self.phase {
            PodPhase::Lameduck => {
                must!(!late(self.lameduck_until), "lameduck does not end");
                must!(
                    !late(self.unready_at) || !self.healthy,
                    "health does not turn"
                );
            }
            PodPhase::Drain => must!(!late(self.drain_until), "drain does not end"),
            _ => {}
        }
        must!(
            self.exited.is_some() || self.end_by.is_none_or(|end| now <= end),
            "the shutdown goes on after the grace period"
        );
        if self.phase == PodPhase::Lameduck && !self.healthy {
            let deaf = step.fleet.workers().iter().find(|worker| {
                worker.is_ready()
                    && worker.level() == Level::Native
                    && !self.accounts.was_told_lameduck(worker.id())
            });
            must!(deaf.is_none(), "not told of lameduck: {deaf:?}");
        }
        if step.did(|action| *action == Action::SetPhase(PodPhase::Drain)) {
            self.accounts.check_all_told()?;
        }
        Ok(())
    }
}
