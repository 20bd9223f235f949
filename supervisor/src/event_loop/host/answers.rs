//! What hosts say, and what their deaths say.

use rustix::process::Pid;
use tracing::{debug, error, info, warn};
use worker_api::message::MAX_MESSAGE;

use crate::fleet::{self, Death, Event, SpawnFailure, WorkerId};
use crate::sys::channel::Received;
use crate::sys::process;
use crate::sys::spawn::Child;

use super::super::EventLoop;
use super::super::crew::Process;
use super::super::narrate::{describe, seconds};
use super::message::Report;
use super::orders::never_born;
use super::{Asked, Fork, Host, HostNumber, HostSource, PATIENCE, State};

/// Messages of one host that are read before others get their turn.
const FAIR_SHARE: usize = 256;

/// The exit status by which a host says that the app cannot be loaded (gunicorn's).
const APP_LOAD_STATUS: i32 = 4;

/// And the one for its configuration: the config file, a hook.
const CONFIG_STATUS: i32 = 1;

impl EventLoop {
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
                self.hosts.has_been_ready = true;
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
                    "Python cannot import gracefork._host: install the package gracefork for this interpreter",
                ))
            }
            Death::Exited(CONFIG_STATUS) if self.ready_at.is_none() => {
                SpawnFailure::Config(reason("see the host's output above"))
            }
            _ => SpawnFailure::System(format!("its host died: {}", describe(death))),
        }
    }
}
