//! What hosts are told besides orders, for the hooks that they run; and their end.

use rustix::process::Pid;
use tracing::warn;

use crate::fleet::{Generation, WorkerId};
use crate::sys::process::End;

use super::super::EventLoop;
use super::message::Order;
use super::{PATIENCE, State};

/// A worker that a host had forked, reaped.
#[derive(Debug)]
pub(in super::super) struct Gone {
    pub(in super::super) slot: usize,
    pub(in super::super) generation: Generation,
    pub(in super::super) pid: Pid,
    pub(in super::super) end: End,
}

impl EventLoop {
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

    /// Log files may have been moved away.
    pub(in super::super) fn have_hosts_reopen(&mut self) {
        for host in &mut self.hosts.hosts {
            host.tell(Order::Reopen);
        }
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
