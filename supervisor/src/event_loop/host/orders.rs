//! Workers that a host is to fork: ordered, waited for, told before they are there.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use nix::libc::{SIGABRT, SIGKILL, SIGTERM};
use rustix::process::Pid;
use tracing::{debug, warn};
use worker_api::message::Command;

use crate::config;
use crate::fleet::{self, Death, Event, Generation, Signal, SpawnFailure, WorkerId};
use crate::sys::channel::Channel;
use crate::sys::spawn::{Launch, end, spawn};

use super::super::EventLoop;
use super::super::crew::{Board, failure};
use super::message::Order;
use super::{Asked, Fork, Host, HostNumber, PATIENCE, State};

/// What a host executes; the package brings it.
const MODULE: &str = "_host";

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
        let is_first = !self.hosts.has_been_ready;
        let mut args = config::run_module(MODULE).to_vec();
        // For those who look at processes.
        args.push(spec.config.app.program.clone());
        let child = spawn(&Launch {
            program: &spec.program,
            args: &args,
            env: spec.host_environment(generation.0, spec.first_free_fd(), is_first),
            chdir: &spec.config.app.chdir,
            inherit: &spec.descriptors([host_end.as_fd(), self.board_fd.as_fd()]),
            death_signal: Some(SIGKILL),
            umask: spec.config.security.umask,
            // Its workers become somebody else, once the hooks have been called as in gunicorn.
            owner: None,
            output: None,
        })
        .map_err(|error| failure(&error, &spec.program, &spec.config.app.chdir, None))?;
        let host = Host {
            number: HostNumber(self.hosts.started),
            generation,
            state: State::Booting,
            started: self.now(),
            ready_at: None,
            asked: Vec::new(),
            child,
            channel: Some(channel),
            unsent: VecDeque::new(),
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
    pub(super) fn send_forks(&mut self, number: HostNumber) {
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
        let now = self.now();
        let Some((host, at)) = self.hosts.asked_for(worker) else {
            return;
        };
        let takes_orders = host.takes_orders();
        match (signal, &mut host.asked[at].fork) {
            (Signal::Stop | Signal::Term, Some(fork)) => fork.signals.push(SIGTERM),
            (Signal::Stop | Signal::Term, None) => {
                host.asked.remove(at);
                self.inbox.push_back(never_born(worker));
            }
            // Only once: the second SIGABRT would cut the traceback short.
            (Signal::Abort, _) if !takes_orders => {}
            (Signal::Abort, _) => {
                host.state = State::Leaving {
                    kill_at: now + PATIENCE,
                };
                let pid = Pid::as_raw(Some(host.child.pid));
                warn!(pid, "host told to abort: it did not fork a worker in time");
                if let Err(error) = crate::sys::signals::send(&host.child.pidfd, SIGABRT) {
                    warn!(pid, "a host could not be signalled: {error}");
                }
            }
            (Signal::Kill, _) => host.kill(),
        }
    }
}

/// A worker that was told to leave before it was forked.
pub(super) fn never_born(worker: WorkerId) -> Event {
    Event::Exited {
        worker,
        death: Death::Exited(0),
    }
}
