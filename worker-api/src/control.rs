//! The control thread: hears the master (or, without one, signals) and moves the worker along.
//!
//! It blocks in poll without a time-out unless something is due, so an idle worker never wakes
//! up. It blocks all signals: handlers of the app run on the app's threads.

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;

use crate::channel::{Incoming, wait};
use crate::drain::Stage;
use crate::message::Command;
use crate::scoreboard::{PodPhase, WorkerState};
use crate::signals::Signals;
use crate::worker::Inner;

/// How long after the force a worker without a master may still live.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// Where the orders come from.
pub(crate) enum Source {
    Master,
    Signals(Signals),
    /// The master is gone; only what is due counts.
    Nobody,
}

/// The thread's state.
pub(crate) struct Control {
    worker: Arc<Inner>,
    source: Source,
    due: Option<(Instant, Due)>,
    told_lameduck: bool,
    told_quit: bool,
}

/// What is to be done at a moment ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The retire deadline: idle connections were waited for long enough.
    Drain,
    /// The drain time-out, where no master keeps it.
    Force,
    /// A worker without a master has had its last chance.
    Die,
}

impl Control {
    pub(crate) fn new(worker: Arc<Inner>, source: Source) -> Self {
        Self {
            worker,
            source,
            due: None,
            told_lameduck: false,
            told_quit: false,
        }
    }

    /// A worker may start when the pod is on its way out already: then it is as if just told.
    pub(crate) fn catch_up(&mut self) {
        match self.worker.link.board.phase() {
            PodPhase::Boot | PodPhase::Ready => {}
            PodPhase::Lameduck => self.obey(&Command::Lameduck),
            PodPhase::Drain | PodPhase::Exit => self.obey(&Command::Drain),
            PodPhase::Force => self.obey(&Command::Quit),
        }
    }

    /// Starts the thread, with every signal blocked from its first instruction on.
    pub(crate) fn spawn(self) -> io::Result<()> {
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let thread = std::thread::Builder::new().name("gracefork-control".into());
        let spawned = thread.spawn(move || self.run());
        before.thread_set_mask()?;
        spawned.map(drop)
    }

    fn run(mut self) {
        loop {
            if matches!(self.source, Source::Nobody) && self.due.is_none() {
                return;
            }
            let left = self
                .due
                .map(|(at, _)| at.saturating_duration_since(Instant::now()));
            match (left, self.due) {
                (Some(Duration::ZERO), Some((_, due))) => self.act(due),
                _ => self.listen(left),
            }
        }
    }

    fn listen(&mut self, timeout: Option<Duration>) {
        match &self.source {
            Source::Master => {
                let Some(channel) = &self.worker.link.channel else {
                    return;
                };
                wait(&mut [PollFd::new(channel, PollFlags::IN)], timeout);
                match channel.receive() {
                    Incoming::Commands(commands) => commands.iter().for_each(|it| self.obey(it)),
                    Incoming::Garbage(error) => {
                        tracing::warn!(%error, "the master sent a frame that makes no sense");
                    }
                    Incoming::Nothing => {}
                    Incoming::Closed => self.orphaned(),
                }
            }
            Source::Signals(signals) => {
                let (terminated, interrupted) = signals.wait(timeout);
                if terminated || interrupted {
                    self.stop_alone(interrupted);
                }
            }
            Source::Nobody => wait(&mut [], timeout),
        }
    }

    fn obey(&mut self, command: &Command) {
        tracing::debug!(?command, "command");
        match command {
            Command::Lameduck => self.lameduck(),
            Command::Drain => self.drain(),
            Command::Retire { deadline } => self.retire(*deadline),
            Command::Quit => self.force(),
            Command::Reopen => {
                if let Some(log) = &self.worker.access_log {
                    log.reopen();
                }
                self.hook("reopen_logs", |it| it.hooks.reopen_logs(&it.info));
            }
        }
    }

    fn lameduck(&mut self) {
        if !std::mem::replace(&mut self.told_lameduck, true) {
            self.hook("on_term", |it| it.hooks.on_term(&it.info, &it.health));
        }
        self.worker.drain.advance(Stage::Lameduck);
    }

    fn retire(&mut self, deadline: Duration) {
        if self.worker.drain.stage() >= Stage::Draining {
            return;
        }
        self.due = Instant::now()
            .checked_add(deadline)
            .map(|at| (at, Due::Drain));
        self.worker.link.row.raise_state(WorkerState::Retiring);
        self.worker.drain.advance(Stage::Retiring);
    }

    fn drain(&mut self) {
        self.due = None;
        self.worker.begin_to_drain();
    }

    fn force(&mut self) {
        if std::mem::replace(&mut self.told_quit, true) {
            return;
        }
        self.due = None;
        self.hook("worker_abort", |it| it.hooks.worker_abort(&it.info));
        self.worker.link.row.raise_state(WorkerState::Draining);
        self.worker.drain.advance(Stage::Forced);
    }

    /// The master died: nobody will tell this worker anything, replace it or count it.
    fn orphaned(&mut self) {
        tracing::error!("the master is gone; this worker drains and ends");
        self.source = Source::Nobody;
        self.worker.health.mark_unhealthy();
        self.drain();
        self.force_later();
    }

    /// Without a master: SIGTERM and SIGINT drain, a SIGINT after that forces.
    fn stop_alone(&mut self, interrupted: bool) {
        if self.worker.has_begun_to_drain() {
            if interrupted {
                self.force();
            }
            return;
        }
        self.worker.link.board.set_pod_healthy(false);
        self.worker.link.board.set_phase(PodPhase::Drain);
        self.worker.health.mark_unhealthy();
        self.drain();
        self.force_later();
    }

    fn force_later(&mut self) {
        if !self.told_quit {
            let at = Instant::now().checked_add(self.worker.settings.drain_timeout);
            self.due = at.map(|at| (at, Due::Force));
        } else if matches!(self.source, Source::Nobody) {
            self.due = Some((Instant::now() + LAST_BREATH, Due::Die));
        }
    }

    fn act(&mut self, due: Due) {
        self.due = None;
        match due {
            Due::Drain => self.drain(),
            Due::Force => {
                self.force();
                self.force_later();
            }
            Due::Die => {
                tracing::error!("no master, and the worker does not end: it kills itself");
                let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
                // Only PID 1 of its namespace survives that.
                std::process::abort();
            }
        }
    }

    fn hook(&self, name: &'static str, hook: impl FnOnce(&Inner)) {
        self.worker.hook(name, hook);
    }
}
