//! One worker, as the ledger sees it: when it may be ended by force, and when
//! it must be.

use std::collections::BTreeMap;
use std::time::Duration;

use worker_api::message::Report;
use worker_api::scoreboard::PodPhase;

use super::{Verdict, must};
use crate::fleet::{Cause, Level, Moment, Order, Policy, WorkerId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Booting,
    Ready,
    Leaving,
    Drained,
    Aborting,
    Killed,
}

#[derive(Debug)]
pub(super) struct Account {
    pub(super) stage: Stage,
    slot: usize,
    /// Nothing is done by force before that.
    due: Option<Moment>,
    /// When it was forced last.
    pub(super) since: Option<Moment>,
    was_ready: bool,
    hang_timeout: Option<Duration>,
    pings: bool,
    pub(super) term_immediately: bool,
    pub(super) greeted: bool,
    pub(super) told_lameduck: bool,
    pub(super) told_to_stop: bool,
    pub(super) kill_sent: bool,
}

impl Account {
    pub(super) fn is_leaving(&self) -> bool {
        !matches!(self.stage, Stage::Booting | Stage::Ready)
    }

    /// It may have requests to lose.
    pub(super) fn has_work(&self) -> bool {
        self.was_ready && self.stage != Stage::Drained
    }

    pub(super) fn get_ready(&mut self, now: Moment) {
        self.stage = Stage::Ready;
        self.was_ready = true;
        self.due = None;
        if self.pings {
            self.ping(now);
        }
    }

    fn ping(&mut self, now: Moment) {
        self.pings = true;
        if self.stage == Stage::Ready {
            self.due = self.hang_timeout.map(|timeout| now + timeout);
        }
    }

    fn hangs(&mut self, now: Moment) {
        if self.stage == Stage::Ready {
            self.due = Some(now);
        }
    }

    fn extend(&mut self, until: Moment, drain_until: Option<Moment>) {
        if let Some(due) = &mut self.due {
            match self.stage {
                Stage::Booting | Stage::Ready => *due = (*due).max(until),
                Stage::Leaving => {
                    let latest = drain_until.map_or(until, |end| end.min(until));
                    *due = (*due).max(latest);
                }
                Stage::Drained | Stage::Aborting | Stage::Killed => {}
            }
        }
    }

    pub(super) fn retire(
        &mut self,
        cause: Cause,
        level: Option<Level>,
        policy: &Policy,
        now: Moment,
    ) -> Verdict {
        must!(!self.is_leaving(), "retired a second time: {self:?}");
        let drain_timeout = policy.shutdown.drain_timeout;
        let patience = match (cause, self.stage, level) {
            (Cause::OwnWill, ..) => drain_timeout,
            (_, Stage::Booting, _) => policy.shutdown.abort_grace(),
            (_, _, Some(Level::Native)) => policy.retire_bound + drain_timeout,
            _ => drain_timeout,
        };
        self.due = Some(now + patience);
        self.stage = Stage::Leaving;
        Ok(())
    }

    pub(super) fn drained(&mut self) -> Verdict {
        must!(
            matches!(self.stage, Stage::Leaving | Stage::Aborting),
            "drained for no reason: {self:?}"
        );
        self.stage = Stage::Drained;
        Ok(())
    }

    fn drain(&mut self, end: Moment, brief: Moment) {
        self.told_to_stop |= self.is_leaving();
        self.due = match self.stage {
            Stage::Booting => Some(brief.min(end)),
            Stage::Ready => Some(end),
            Stage::Leaving | Stage::Drained => self.due.map(|due| due.min(end)),
            Stage::Aborting | Stage::Killed => return,
        };
        if self.stage != Stage::Drained {
            self.stage = Stage::Leaving;
        }
    }

    pub(super) fn force(
        &mut self,
        kill: bool,
        native: bool,
        all: bool,
        now: Moment,
        grace: Duration,
    ) -> Verdict {
        let due = self.due.is_some_and(|due| due <= now);
        must!(
            due || (all && self.stage != Stage::Aborting),
            "forced too early: {self:?}"
        );
        let (booting, ready) = (self.stage == Stage::Booting, self.stage == Stage::Ready);
        if kill {
            let hung = (booting || ready) && !all;
            must!(!hung, "killed without a chance to leave a trace: {self:?}");
            let unasked = native && self.has_work() && self.stage != Stage::Aborting;
            must!(
                !unasked,
                "killed before it could tell what it aborts: {self:?}"
            );
            self.stage = Stage::Killed;
            self.due = None;
        } else {
            must!(self.stage != Stage::Aborting, "aborted twice: {self:?}");
            self.stage = Stage::Aborting;
            self.due = Some(now + grace);
        }
        self.since = Some(now);
        Ok(())
    }
}

/// Every worker that lives.
#[derive(Default)]
pub(super) struct Accounts {
    open: BTreeMap<WorkerId, Account>,
    last: u64,
}

impl Accounts {
    pub(super) fn open(&mut self, order: &Order, policy: &Policy, now: Moment) -> Verdict {
        must!(order.worker.0 > self.last, "{:?} is not new", order.worker);
        self.last = order.worker.0;
        let taken = self.open.values().find(|other| other.slot == order.slot);
        must!(taken.is_none(), "slot {} is taken by {taken:?}", order.slot);
        let account = Account {
            stage: Stage::Booting,
            slot: order.slot,
            due: Some(now + policy.boot_timeout),
            since: None,
            was_ready: false,
            hang_timeout: policy.hang_timeout,
            pings: false,
            term_immediately: policy.term_immediately,
            greeted: false,
            told_lameduck: false,
            told_to_stop: false,
            kill_sent: false,
        };
        self.open.insert(order.worker, account);
        Ok(())
    }

    pub(super) fn close(&mut self, id: WorkerId) {
        self.open.remove(&id);
    }

    pub(super) fn get(&mut self, id: WorkerId) -> Result<&mut Account, String> {
        let account = self.open.get_mut(&id);
        account.ok_or_else(|| format!("{id:?} is unknown, or gone"))
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn hear(
        &mut self,
        id: WorkerId,
        report: &Report,
        drain_until: Option<Moment>,
        now: Moment,
    ) {
        if let Some(account) = self.open.get_mut(&id) {
            match report {
                Report::Watchdog => account.ping(now),
                Report::Hung => account.hangs(now),
                Report::Hello { .. } => account.greeted = true,
                Report::ExtendTimeout(length) => account.extend(now + *length, drain_until),
                _ => {}
            }
        }
    }

    pub(super) fn drain(&mut self, policy: &Policy, now: Moment) {
        let end = now + policy.shutdown.drain_timeout;
        let brief = now + policy.shutdown.abort_grace();
        for account in self.open.values_mut() {
            account.drain(end, brief);
        }
    }

    pub(super) fn was_told_lameduck(&self, id: WorkerId) -> bool {
        self.open
            .get(&id)
            .is_some_and(|account| account.told_lameduck)
    }

    pub(super) fn check_all_told(&self) -> Verdict {
        let deaf = self.open.iter().find(|(_, account)| !account.told_to_stop);
        must!(deaf.is_none(), "not told to drain: {deaf:?}");
        Ok(())
    }

    /// Nobody boots, leaves, or has to send a sign of life.
    pub(super) fn all_serve_on(&self) -> bool {
        self.open
            .values()
            .all(|account| account.stage == Stage::Ready && account.due.is_none())
    }

    pub(super) fn check_nothing_missed(&self, now: Moment, phase: PodPhase) -> Verdict {
        let overdue = |account: &Account| account.due.is_some_and(|due| due < now);
        let missed = self.open.iter().find(|(_, account)| overdue(account));
        must!(
            missed.is_none(),
            "a deadline was missed in {phase:?}: {missed:?}"
        );
        Ok(())
    }
}
