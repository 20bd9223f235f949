//! The core's actions, as syscalls.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use nix::libc::{SIGABRT, SIGKILL, SIGTERM};
use rustix::process::Pid;
use tracing::{debug, warn};
use worker_api::message::Command;
use worker_api::scoreboard::{PodPhase, monotonic_now};

use crate::fleet::{Action, Death, Event, Level, Notice, Order, Signal, SpawnFailure, WorkerId};
use crate::ops::Counts;
use crate::sys::process::{self, End};

use super::crew::{Board, Process, Source, last_patience};
use super::host::Gone;
use super::narrate::{Subject, in_words, narrate};
use super::{EventLoop, view};

/// Messages of a dead worker that are still read.
const LAST_WORDS: usize = 256;

impl EventLoop {
    pub(super) fn carry_out(&mut self, action: Action) {
        match action {
            Action::Spawn(order) => self.spawn(&order),
            Action::Command { worker, command } => match self.crew.get_mut(worker) {
                Some(process) => process.command(command),
                None => self.command_unborn(worker, &command),
            },
            Action::Signal { worker, signal } => self.signal(worker, signal),
            Action::SetPhase(phase) => self.board.set_phase(phase),
            Action::SetPodHealthy(healthy) => {
                self.pod_healthy = healthy;
                self.board.set_pod_healthy(healthy);
            }
            Action::TurnAway => self.turn_away(),
            Action::CloseListeners => self.close_listeners(),
            Action::MeasureMemory => self.measure_memory(),
            Action::MeasureTraffic => {
                let (served, refused) = view::traffic(&mut self.crew);
                let asked: u64 = self.ops().map(|ops| ops.answered_unready()).sum();
                let refused = refused + asked;
                self.inbox.push_back(Event::Traffic { served, refused });
            }
            Action::Tell(notice) => self.narrate(&notice),
            Action::Exit(status) => {
                self.exit = Some(status);
                self.dismiss_hosts();
                if let Some(evaluation) = self.evaluation.take() {
                    evaluation.stop();
                }
            }
        }
    }

    fn spawn(&mut self, order: &Order) {
        let Some(spec) = self.specs.get(&order.generation) else {
            let failure = SpawnFailure::System(format!("generation {} is gone", order.generation));
            self.inbox.push_back(Event::SpawnFailed {
                worker: order.worker,
                failure,
            });
            return;
        };
        self.board.restore(self.fleet.phase(), self.pod_healthy);
        if spec.is_hosted() {
            return self.order_from_host(order);
        }
        let board = Board {
            memory: &self.board,
            fd: self.board_fd.as_fd(),
        };
        match self.crew.start(order, spec, &board, self.poll.registry()) {
            Ok(pid) => {
                debug!(slot = order.slot, pid = Pid::as_raw(Some(pid)), generation = %order.generation, "worker started");
            }
            Err(failure) => self.inbox.push_back(Event::SpawnFailed {
                worker: order.worker,
                failure,
            }),
        }
    }

    fn signal(&mut self, worker: WorkerId, signal: Signal) {
        let Some(process) = self.crew.get_mut(worker) else {
            return self.signal_unborn(worker, signal);
        };
        let sent = match signal {
            Signal::Stop => process.stop(process.stop_signal),
            Signal::Term => process.stop(SIGTERM),
            Signal::Abort => process.signal(SIGABRT),
            Signal::Kill => process.kill(),
        };
        if let Err(error) = sent {
            warn!(
                pid = Pid::as_raw(Some(process.pid)),
                ?signal,
                "a worker could not be signalled: {error}"
            );
        }
    }

    /// A worker is dead: hear its last words, end what it left behind, reap it.
    pub(super) fn reap_worker(&mut self, id: WorkerId) {
        self.hear(id, Source::Control, LAST_WORDS);
        self.hear(id, Source::Notify, LAST_WORDS);
        let Some(process) = self.crew.get_mut(id) else {
            return;
        };
        let pid = process.pid;
        if process.outlived.is_some() || self.has_survivors(id) {
            return;
        }
        if let Err(error) = crate::sys::signals::kill_group(pid) {
            warn!(
                pid = Pid::as_raw(Some(pid)),
                "what a worker left behind could not be killed: {error}"
            );
        }
        if let Some(end) = process::reap(pid) {
            self.bury(id, end);
        }
    }

    /// A worker is dead and reaped.
    pub(super) fn bury(&mut self, id: WorkerId, end: End) {
        let Some(process) = self.crew.get_mut(id) else {
            return;
        };
        let (pid, ours) = (process.pid, process.killed);
        let hosted = process
            .is_hosted
            .then_some((process.slot, process.generation));
        let death = self.death_of(end, ours);
        // Before the core hears of it: it may fill the row anew.
        if let Some(last) = self.crew.get_mut(id).and_then(Process::close_row) {
            let cut_off = last.aborted.saturating_add(u64::from(last.in_flight));
            self.metrics.retired_counts(&Counts {
                requests: last.requests,
                responses: last.responses,
                aborted: cut_off,
                received_bytes: last.received_bytes,
                sent_bytes: last.sent_bytes,
                latency: last.latency,
                log_lines_dropped: last.log_lines_dropped,
                refused: last.refused,
            });
            if last.log_lines_dropped > 0 {
                let (pid, lines) = (Pid::as_raw(Some(pid)), last.log_lines_dropped);
                warn!(pid, lines, "the worker dropped lines of the access log");
            }
        }
        // Before the core hears of it, since it may be the last one; but after
        // that where a host has to come first.
        let gone = hosted.map(|(slot, generation)| Gone {
            slot,
            generation,
            pid,
            end,
        });
        let at_once = gone.iter().any(|gone| self.has_host_for(gone.generation));
        gone.iter()
            .filter(|_| at_once)
            .for_each(|gone| self.report_exit(id, gone));
        self.tell(Event::Exited { worker: id, death });
        gone.iter()
            .filter(|_| !at_once)
            .for_each(|gone| self.report_exit(id, gone));
        self.crew.remove(id, self.poll.registry());
        self.talkative.retain(|(worker, _)| *worker != id);
        self.forget_unused_specs();
    }

    fn turn_away(&self) {
        for listener in self.specs.values().flat_map(|spec| &spec.listeners) {
            let address = listener.describe();
            match listener.turn_away() {
                Ok(()) => {}
                // Newer kernels ask for CAP_NET_ADMIN, which a container does not have.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    debug!(%address, %error, "clients are not turned away: some may be reset");
                }
                Err(error) => {
                    warn!(%address, %error, "clients cannot be turned away: some may be reset");
                }
            }
        }
    }

    /// How a child died; `ours`: we killed it.
    pub(super) fn death_of(&mut self, end: End, ours: bool) -> Death {
        match end {
            End::Exited(status) => Death::Exited(status),
            End::Killed(signal, core) => {
                let oom = signal == SIGKILL && !ours && self.oom.has_struck();
                Death::Killed { signal, core, oom }
            }
        }
    }

    /// The master's copies: what the workers hold of the queues is theirs to empty.
    fn close_listeners(&mut self) {
        for spec in self.specs.values_mut() {
            spec.listeners.clear();
        }
    }

    fn measure_memory(&mut self) {
        let mut measured = Vec::new();
        for (worker, process) in self.crew.iter_mut() {
            let bytes = process::resident_bytes(process.pid);
            measured.extend(bytes.map(|bytes| Event::Memory { worker, bytes }));
        }
        self.inbox.extend(measured);
    }

    fn narrate(&mut self, notice: &Notice) {
        let subject = subject_of(notice).map_or_else(Subject::default, |id| self.subject(id));
        narrate(notice, &subject, &mut self.metrics);
        self.tell_service(notice);
        self.has_just_loaded |= ends_a_load(notice);
        match notice {
            Notice::ReloadDone { .. } => self.adopt_surroundings(),
            Notice::RolledBack { .. } => self.upcoming = None,
            Notice::PhaseChanged {
                phase: PodPhase::Ready,
                ..
            } => self.tell_hosts_ready(),
            Notice::TargetChanged { target } => {
                let before = std::mem::replace(&mut self.last_target, *target);
                self.tell_hosts_target(*target, before);
            }
            _ => {}
        }
        // Nobody is started any more by what was overtaken; its listeners go with it.
        self.forget_unused_specs();
    }

    /// What whoever started the master wants to know.
    fn tell_service(&self, notice: &Notice) {
        let service = &self.service;
        match notice {
            Notice::PhaseChanged { phase, .. } => match phase {
                PodPhase::Boot => {}
                PodPhase::Ready => service.ready(),
                phase => service.stopping(view::phase_name(*phase)),
            },
            Notice::ReloadStarted { .. } => service.reloading(monotonic_now()),
            Notice::ReloadDone { .. } | Notice::RolledBack { .. }
                if self.fleet.phase() == PodPhase::Ready =>
            {
                service.ready();
            }
            // One that has asked for it waits for both words.
            Notice::ReloadRefused { .. } if self.fleet.phase() == PodPhase::Ready => {
                service.reloading(monotonic_now());
                service.ready();
            }
            _ => {}
        }
    }

    fn subject(&self, id: WorkerId) -> Subject {
        let process = self.crew.get(id);
        Subject {
            // One that a host has not forked yet has no process.
            slot: self
                .fleet
                .worker(id)
                .map(crate::fleet::Worker::slot)
                .or(process.map(|process| process.slot)),
            pid: process.map(|process| Pid::as_raw(Some(process.pid))),
            in_flight: process.map_or(0, Process::in_flight),
            requests: process.and_then(|process| in_words(&process.oldest())),
        }
    }

    /// SIGUSR1: log files may have been moved away.
    pub(super) fn reopen_logs(&mut self) {
        match self.log.reopen() {
            Ok(()) => debug!("log reopened"),
            Err(error) => warn!("the log cannot be reopened, the old file is kept: {error}"),
        }
        for spec in self.specs.values() {
            if let Err(error) = spec.renew_access_log() {
                warn!("the access log cannot be made anew: {error}");
            }
        }
        self.have_hosts_reopen();
        let natives = self
            .fleet
            .workers()
            .iter()
            .filter(|worker| worker.level() == Level::Native);
        let natives: Vec<WorkerId> = natives.map(crate::fleet::Worker::id).collect();
        for id in natives {
            if let Some(process) = self.crew.get_mut(id) {
                process.command(Command::Reopen);
            }
        }
    }

    /// Every worker is gone: answer the last probe, leave no process behind.
    pub(super) fn leave(&mut self) {
        let killed = process::kill_children(&self.strangers, last_patience(Instant::now()));
        if killed > 0 {
            warn!(killed, "processes that the workers left behind were killed");
        }
        for ops in self.ops() {
            ops.flush(last_patience(Instant::now()));
        }
    }
}

fn subject_of(notice: &Notice) -> Option<WorkerId> {
    match notice {
        Notice::WorkerReady { worker, .. }
        | Notice::WorkerRetired { worker, .. }
        | Notice::WorkerHealth { worker, .. }
        | Notice::WorkerDrained { worker, .. }
        | Notice::WorkerLeft { worker, .. }
        | Notice::WorkerDied { worker, .. }
        | Notice::SpawnFailed { worker, .. }
        | Notice::Fatal { worker, .. }
        | Notice::Forced { worker, .. } => Some(*worker),
        _ => None,
    }
}

/// Whether a start or a reload is over, however it went.
fn ends_a_load(notice: &Notice) -> bool {
    match notice {
        Notice::PhaseChanged { phase, .. } => *phase == PodPhase::Ready,
        Notice::ReloadDone { .. }
        | Notice::ReloadAbandoned { .. }
        | Notice::ReloadRefused { .. }
        | Notice::RolledBack { .. } => true,
        _ => false,
    }
}
