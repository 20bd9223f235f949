//! What the loop does with hosts.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc::{SIGABRT, SIGKILL, SIGTERM};
use rustix::process::Pid;
use tracing::{debug, error, info, warn};
use worker_api::message::{Command, MAX_MESSAGE};

use crate::fleet::{self, Death, Event, Generation, Signal, SpawnFailure, WorkerId};
use crate::sys::channel::{Channel, Received};
use crate::sys::process::{self, End};
use crate::sys::spawn::{Child, Launch, end, spawn};

use super::super::EventLoop;
use super::super::crew::{Board, Process, failure};
use super::super::narrate::{describe, seconds};
use super::message::{Order, Report};
use super::{Asked, Fork, Host, HostNumber, HostSource, State};

/// Messages of one host that are read before others get their turn.
const FAIR_SHARE: usize = 256;

/// How long a host that is not needed any more may take to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// The exit status by which a host says that the app cannot be loaded (gunicorn's).
const APP_LOAD_STATUS: i32 = 4;

/// And the one for its configuration: the config file, a hook.
const CONFIG_STATUS: i32 = 1;

/// What a host executes; the package brings it.
const MODULE: [&str; 2] = ["-m", "gracefork._host"];

impl EventLoop {
    /// Have a host fork a worker, and start the host if it is the first.
    pub(in super::super) fn order_from_host(&mut self, order: &fleet::Order) {
        if self.hosts.of(order.generation).is_none()
            && let Err(failure) = self.start_host(order.generation)
        {
            let worker = order.worker;
            self.inbox.push_back(Event::SpawnFailed { worker, failure });
            return;
        }
        if let Some(host) = self.hosts.of(order.generation) {
            let number = host.number;
            host.asked.push(Asked {
                order: *order,
                fork: None,
            });
            self.send_forks(number);
        }
    }

    fn start_host(&mut self, generation: Generation) -> Result<(), SpawnFailure> {
        let system = |error: std::io::Error| SpawnFailure::System(error.to_string());
        let Some(spec) = self.specs.get(&generation) else {
            return Err(SpawnFailure::System(format!(
                "generation {generation} is gone"
            )));
        };
        let (channel, host_end) = Channel::pair().map_err(system)?;
        let is_first = self.hosts.started == 0;
        let child = spawn(&Launch {
            program: &spec.program,
            args: &MODULE.map(str::to_owned),
            env: spec.host_environment(generation.0, spec.first_free_fd(), is_first),
            chdir: &spec.config.app.chdir,
            inherit: &spec.descriptors([host_end.as_fd(), self.board_fd.as_fd()]),
            death_signal: Some(SIGKILL),
            umask: spec.config.security.umask,
            output: None,
        })
        .map_err(|error| failure(&error, &spec.program))?;
        let host = Host {
            number: HostNumber(self.hosts.started),
            generation,
            state: State::Booting,
            started: self.now(),
            ready_at: None,
            asked: Vec::new(),
            child,
            channel: Some(channel),
            unsent: Default::default(),
            dismissed: false,
            killed: false,
            fatal: None,
            greeted: false,
            garbled: false,
        };
        if let Err(error) = host.register(self.poll.registry()) {
            host.deregister(self.poll.registry());
            end(host.child.pid);
            return Err(system(error));
        }
        self.hosts.started += 1;
        let pid = Pid::as_raw(Some(host.child.pid));
        debug!(pid, %generation, "host started");
        self.hosts.hosts.push(host);
        Ok(())
    }

    /// Tell a host that is Ready whom to fork.
    fn send_forks(&mut self, number: HostNumber) {
        let board = Board {
            memory: &self.board,
            fd: self.board_fd.as_fd(),
        };
        let Some(host) = self
            .hosts
            .get(number)
            .filter(|host| host.state == State::Ready)
        else {
            return;
        };
        for asked in host.asked.iter_mut().filter(|asked| asked.fork.is_none()) {
            let worker = asked.order.worker;
            let (channel, worker_end) = match Channel::pair() {
                Ok(pair) => pair,
                Err(error) => {
                    let failure = SpawnFailure::System(error.to_string());
                    self.inbox.push_back(Event::SpawnFailed { worker, failure });
                    continue;
                }
            };
            asked.fork = Some(Fork {
                channel,
                row: board.row_for(&asked.order),
                signals: Vec::new(),
            });
            let fork = Order::Fork {
                worker,
                slot: asked.order.slot,
                max_requests: asked.order.max_requests,
            };
            host.unsent.push_back((fork.encode(), Some(worker_end)));
        }
        host.asked.retain(|asked| asked.fork.is_some());
        host.flush();
    }

    /// Tell a worker that is not there yet.
    pub(in super::super) fn command_unborn(&mut self, worker: WorkerId, command: &Command) {
        if let Some((host, at)) = self.hosts.asked_for(worker)
            && let Some(fork) = &host.asked[at].fork
        {
            // Nobody reads yet, and there is room for more than is ever said before.
            let _ = fork.channel.send(command);
        }
    }

    /// Signal a worker that is not there yet: it gets it when it is. One that
    /// only waits for the host is not born at all; one that should be there by
    /// now is late because the host is.
    pub(in super::super) fn signal_unborn(&mut self, worker: WorkerId, signal: Signal) {
        let Some((host, at)) = self.hosts.asked_for(worker) else {
            return;
        };
        match (signal, &mut host.asked[at].fork) {
            (Signal::Stop | Signal::Term, Some(fork)) => fork.signals.push(SIGTERM),
            (Signal::Stop | Signal::Term, None) => {
                host.asked.remove(at);
                self.inbox.push_back(never_born(worker));
            }
            (Signal::Abort, _) => {
                let pid = Pid::as_raw(Some(host.child.pid));
                warn!(pid, "host told to abort: it did not fork a worker in time");
                if let Err(error) = crate::sys::signals::send(&host.child.pidfd, SIGABRT) {
                    warn!(pid, "a host could not be signalled: {error}");
                }
            }
            (Signal::Kill, _) => host.kill(),
        }
    }

    pub(in super::super) fn host_event(
        &mut self,
        number: HostNumber,
        source: HostSource,
        writable: bool,
    ) {
        match source {
            HostSource::Life => self.reap_host(number),
            HostSource::Channel => {
                if self.hear_host(number, FAIR_SHARE) {
                    self.reap_all();
                }
                if let Some(host) = self.hosts.get(number).filter(|_| writable) {
                    host.flush();
                }
            }
        }
        self.work_off();
    }

    /// Hear what hosts have said: a child that is not known may be in it.
    pub(in super::super) fn hear_hosts(&mut self) {
        for number in self.hosts.numbers() {
            self.hear_host(number, FAIR_SHARE);
        }
    }

    /// Whether a child may be there that no host has told of yet.
    pub(in super::super) fn hosts_owe_an_answer(&self) -> bool {
        self.hosts.owe_an_answer()
    }

    /// Hear what a host has to say, but not for ever; whether it answered an order.
    fn hear_host(&mut self, number: HostNumber, most: usize) -> bool {
        let mut answered = false;
        let now = self.now();
        for _ in 0..most {
            let Some(host) = self.hosts.get(number) else {
                return answered;
            };
            let Some(channel) = &host.channel else {
                return answered;
            };
            let mut buffer = [0; MAX_MESSAGE];
            let decoded = match channel.receive(&mut buffer) {
                Received::Nothing => return answered,
                Received::End => {
                    // It is on its way out, or else of no use without its channel.
                    if host.takes_orders() {
                        host.state = State::Leaving {
                            kill_at: now + PATIENCE,
                        };
                    }
                    return answered;
                }
                Received::TooLong => Err(format!("longer than {MAX_MESSAGE} bytes")),
                Received::Frame(frame) => Report::decode(frame).map_err(|error| error.to_string()),
            };
            match decoded {
                Ok(reports) => {
                    for report in reports {
                        answered |= self.hear_report(number, report);
                    }
                }
                Err(reason) if !host.garbled => {
                    host.garbled = true;
                    let pid = Pid::as_raw(Some(host.child.pid));
                    warn!(
                        pid,
                        "a host's message is ignored, and all like it: {reason}"
                    );
                }
                Err(_) => {}
            }
        }
        // There may be more: have the poll say so again.
        if let Some(host) = self.hosts.get(number) {
            host.deregister(self.poll.registry());
            if let Err(error) = host.register(self.poll.registry()) {
                warn!("a host is not heard any more: {error}");
            }
        }
        answered
    }

    fn hear_report(&mut self, number: HostNumber, report: Report) -> bool {
        let now = self.now();
        let Some(host) = self.hosts.get(number) else {
            return false;
        };
        match report {
            Report::Hello => host.greeted = true,
            Report::Fatal(reason) => host.fatal = Some(reason),
            Report::Ready if host.state == State::Booting => {
                host.state = State::Ready;
                host.ready_at = Some(now);
                let pid = Pid::as_raw(Some(host.child.pid));
                let after_seconds = seconds(now - host.started);
                info!(pid, generation = %host.generation, after_seconds, "host ready");
                self.send_forks(number);
            }
            Report::Ready => {}
            Report::Forked { worker, pid } => return self.adopt(number, worker, pid),
            Report::Refused { worker, reason } => {
                let Some(at) = host.forks(worker) else {
                    return false;
                };
                host.asked.remove(at);
                host.close_when_answered();
                let failure = SpawnFailure::System(reason);
                self.tell_failure(worker, failure);
                return true;
            }
        }
        false
    }

    /// A host has forked a worker, which is a child of the master now.
    fn adopt(&mut self, number: HostNumber, worker: WorkerId, pid: i32) -> bool {
        let Some(host) = self.hosts.get(number) else {
            return false;
        };
        let Some(at) = host.forks(worker) else {
            return false;
        };
        let Asked { order, fork } = host.asked.remove(at);
        host.close_when_answered();
        let Some(Fork {
            channel,
            row,
            signals,
        }) = fork
        else {
            return false;
        };
        let child = Pid::from_raw(pid)
            .ok_or_else(|| std::io::Error::other("a host told of no process"))
            .and_then(Child::adopt);
        let started = child
            .map_err(|error| SpawnFailure::System(error.to_string()))
            .and_then(|child| {
                let process = Process::forked(child, &order, row, channel);
                for signal in signals {
                    let _ = process.signal(signal);
                }
                self.crew.enlist(worker, process, self.poll.registry())
            });
        match started {
            Ok(_) => {
                debug!(slot = order.slot, pid, generation = %order.generation, "worker forked")
            }
            Err(failure) => self.tell_failure(worker, failure),
        }
        true
    }

    /// A worker does not come. To one that was told to leave that is no failure.
    fn tell_failure(&mut self, worker: WorkerId, failure: SpawnFailure) {
        let leaves = |id| self.fleet.worker(id).is_some_and(fleet::Worker::is_leaving);
        let event = if leaves(worker) {
            never_born(worker)
        } else {
            Event::SpawnFailed { worker, failure }
        };
        self.inbox.push_back(event);
    }

    /// A host is dead: hear its last words, reap it, fail what it has not answered.
    pub(in super::super) fn reap_host(&mut self, number: HostNumber) {
        while self.hear_host(number, FAIR_SHARE) {}
        let Some(host) = self.hosts.get(number) else {
            return;
        };
        let pid = host.child.pid;
        if let Err(error) = crate::sys::signals::kill_group(pid) {
            let pid = Pid::as_raw(Some(pid));
            warn!(pid, "what a host left behind could not be killed: {error}");
        }
        let Some(end) = process::reap(pid) else {
            return;
        };
        let Some(at) = self
            .hosts
            .hosts
            .iter()
            .position(|host| host.number == number)
        else {
            return;
        };
        let host = self.hosts.hosts.remove(at);
        host.deregister(self.poll.registry());
        let death = self.death_of(end, host.killed);
        let failure = host.failure(death);
        self.tell_death(&host, death, &failure);
        for asked in host.asked {
            // One after the other: the first may turn the others away.
            self.tell_failure(asked.order.worker, failure.clone());
            self.work_off();
        }
    }

    fn tell_death(&self, host: &Host, death: Death, failure: &SpawnFailure) {
        let pid = Pid::as_raw(Some(host.child.pid));
        let (end, generation) = (describe(death), host.generation);
        let age_seconds = seconds(self.now() - host.started);
        let told_as_failure = !matches!(failure, SpawnFailure::System(_)) && !host.asked.is_empty();
        if host.dismissed || host.killed || told_as_failure {
            debug!(pid, end, %generation, age_seconds, "host gone");
        } else if host.ready_at.is_some() {
            error!(pid, end, %generation, age_seconds, "host died: the next worker starts a new one");
        } else {
            error!(pid, end, %generation, age_seconds, "host died before it was ready");
        }
    }

    /// A worker that a host had forked is reaped: `child_exit`. By now there may
    /// be another host, and it is the one with the hooks of today.
    pub(in super::super) fn report_exit(&mut self, worker: WorkerId, gone: &Gone) {
        let current = self.fleet.generation();
        let order = Order::Exited {
            worker,
            slot: gone.slot,
            pid: Pid::as_raw(Some(gone.pid)),
            status: gone.end.raw(),
        };
        let own = self.hosts.of(gone.generation).map(|host| host.number);
        let number = own.or_else(|| self.hosts.of(current).map(|host| host.number));
        if let Some(host) = number.and_then(|number| self.hosts.get(number)) {
            host.tell(order);
        }
    }

    /// Whether a host would hear now of a worker's end.
    pub(in super::super) fn has_host_for(&mut self, generation: Generation) -> bool {
        let current = self.fleet.generation();
        self.hosts.of(generation).is_some() || self.hosts.of(current).is_some()
    }

    /// The pod is ready: `when_ready`.
    pub(in super::super) fn tell_hosts_ready(&mut self) {
        self.tell_current_host(Order::WhenReady);
    }

    /// The number of workers changed: `nworkers_changed`.
    pub(in super::super) fn tell_hosts_target(&mut self, now: usize, before: usize) {
        self.tell_current_host(Order::Workers { now, before });
    }

    /// A new generation begins: `on_reload`, while the old one is still the current one.
    pub(in super::super) fn tell_hosts_reload(&mut self) {
        self.tell_current_host(Order::Reload);
    }

    fn tell_current_host(&mut self, order: Order) {
        let current = self.fleet.generation();
        if let Some(host) = self.hosts.of(current) {
            host.tell(order);
        }
    }

    /// Hosts of generations that nobody can be of any more go.
    pub(in super::super) fn dismiss_unused_hosts(&mut self) {
        let now = self.now();
        for host in &mut self.hosts.hosts {
            if !self.specs.contains_key(&host.generation) {
                host.dismiss(None, PATIENCE, now);
            }
        }
    }

    /// Every worker is gone, and so go the hosts; the current one runs `on_exit`.
    pub(in super::super) fn dismiss_hosts(&mut self) {
        let (now, current) = (self.now(), self.fleet.generation());
        let spec = self.specs.get(&current);
        let margin = spec.map_or(PATIENCE, |spec| spec.config.shutdown.kill_margin / 2);
        for host in &mut self.hosts.hosts {
            let last = (host.generation == current).then_some(Order::Quit);
            host.dismiss(last, margin, now);
        }
    }

    /// Kill the hosts that did not end in time.
    pub(in super::super) fn expire_hosts(&mut self) {
        let now = self.now();
        for host in &mut self.hosts.hosts {
            if matches!(host.state, State::Leaving { kill_at } if kill_at <= now) {
                warn!(
                    pid = Pid::as_raw(Some(host.child.pid)),
                    "host killed: it did not end in time"
                );
                host.kill();
            }
        }
    }
}

/// A worker that a host had forked, reaped.
#[derive(Debug)]
pub(in super::super) struct Gone {
    pub(in super::super) slot: usize,
    pub(in super::super) generation: Generation,
    pub(in super::super) pid: Pid,
    pub(in super::super) end: End,
}

/// A worker that was told to leave before it was forked.
fn never_born(worker: WorkerId) -> Event {
    Event::Exited {
        worker,
        death: Death::Exited(0),
    }
}

impl Host {
    /// Where in `asked` a worker is that the host was told to fork.
    fn forks(&self, worker: WorkerId) -> Option<usize> {
        let told = |asked: &Asked| asked.order.worker == worker && asked.fork.is_some();
        self.asked.iter().position(told)
    }

    /// What its death says to those who wait for it.
    fn failure(&self, death: Death) -> SpawnFailure {
        let reason = |what: &str| match &self.fatal {
            Some(reason) => reason.clone(),
            None => format!("{what} ({})", describe(death)),
        };
        match death {
            Death::Exited(APP_LOAD_STATUS) if self.ready_at.is_none() => {
                SpawnFailure::App(reason("see the host's output above"))
            }
            Death::Exited(CONFIG_STATUS) if self.ready_at.is_none() && !self.greeted => {
                SpawnFailure::Config(reason(
                    "Python cannot run gracefork._host: install the package gracefork for this interpreter",
                ))
            }
            Death::Exited(CONFIG_STATUS) if self.ready_at.is_none() => {
                SpawnFailure::Config(reason("see the host's output above"))
            }
            _ => SpawnFailure::System(format!("its host died: {}", describe(death))),
        }
    }
}
