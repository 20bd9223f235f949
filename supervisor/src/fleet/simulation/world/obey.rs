//! How processes take what the core says and sends.

use std::time::Duration;

use worker_api::message::{Command, Report};

use super::{Deed, Fault, KILL, TERM, World, killed};
use crate::fleet::{Death, Level, Signal, WorkerId};

const ABRT: i32 = 6;

impl World {
    pub(super) fn command(&mut self, worker: WorkerId, command: &Command) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        let deaf = matches!(process.fault, Some(Fault::Deaf | Fault::Hangs));
        if process.temper.kind != Level::Native || deaf {
            return;
        }
        match command {
            Command::Drain | Command::Retire { .. } if !process.greeted => process.told = true,
            Command::Drain => self.wind_down(worker, Duration::from_secs(20)),
            Command::Retire { deadline } => self.wind_down(worker, *deadline),
            Command::Quit => {
                let aborted = self.dice.below(3);
                let last = Report::Drained { served: 7, aborted };
                self.soon(worker, Deed::Say(last));
                self.later(
                    worker,
                    Duration::from_millis(20),
                    Deed::Die(Death::Exited(0)),
                );
            }
            Command::Lameduck | Command::Reopen => {}
        }
    }

    pub(super) fn signal(&mut self, worker: WorkerId, signal: Signal) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        let deaf = matches!(process.fault, Some(Fault::Deaf | Fault::Hangs));
        let native = process.temper.kind == Level::Native;
        match signal {
            Signal::Kill => self.soon(worker, Deed::Die(killed(KILL))),
            _ if deaf => {}
            Signal::Abort => self.soon(worker, Deed::Die(killed(ABRT))),
            Signal::Stop | Signal::Term if native && !process.greeted => {
                self.soon(worker, Deed::Die(killed(TERM)));
            }
            Signal::Stop | Signal::Term if native => {}
            Signal::Term if process.temper.term_immediately => {}
            Signal::Stop | Signal::Term => self.wind_down(worker, Duration::from_secs(20)),
        }
    }

    /// A worker finishes what it has.
    pub(super) fn wind_down(&mut self, worker: WorkerId, within: Duration) {
        let work = self.dice.up_to(within);
        self.later(worker, work, Deed::Finish);
    }
}
