//! Reading the configuration again, and what it changes in the master itself.

use std::io;
use std::net::SocketAddr;

use rustix::process::Pid;
use tracing::{info, warn};
use worker_api::scoreboard::PodPhase;

use crate::config::{self, Config, Log};
use crate::fleet::{Event, Generation};
use crate::ops::OpsServer;

use super::spec::{Spec, prepare};
use super::{EventLoop, FIRST_OPS_TOKEN};

/// What of a configuration concerns the master itself. A rollout that fails
/// leaves it as it was.
pub(super) struct Surroundings {
    /// Where probes ask, as configured.
    pub(super) address: Option<SocketAddr>,
    pub(super) ops: Option<OpsServer>,
    pub(super) log: Log,
}

impl EventLoop {
    /// SIGHUP: a configuration that does not hold changes nothing.
    pub(super) fn reload(&mut self) {
        if self.fleet.phase() > PodPhase::Ready {
            warn!("reload ignored: the pod is shutting down");
            return;
        }
        info!("reload: reading the configuration");
        match self.next_generation() {
            Ok((spec, surroundings)) => {
                let generation = Generation(self.last_generation.0 + 1);
                self.last_generation = generation;
                self.upcoming = Some(surroundings);
                let policy = Box::new(spec.policy());
                self.specs.insert(generation, spec);
                self.tell(Event::Reload { generation, policy });
                self.forget_unused_specs();
            }
            Err(reason) => self.tell(Event::ReloadRefused { reason }),
        }
    }

    fn next_generation(&mut self) -> Result<(Spec, Surroundings), String> {
        let spec = self.next_spec()?;
        let moved = self.surroundings.address != spec.config.health.listen;
        let ops = if moved {
            self.bind_ops(&spec.config)
                .map_err(|error| error.to_string())?
        } else {
            None
        };
        let surroundings = Surroundings {
            address: spec.config.health.listen,
            ops,
            log: spec.config.log.clone(),
        };
        Ok((spec, surroundings))
    }

    fn next_spec(&mut self) -> Result<Spec, String> {
        let loaded = config::load(&self.sources).map_err(|problems| problems.to_string())?;
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        let before = self
            .specs
            .values()
            .flat_map(|spec| &spec.listeners)
            .cloned()
            .collect::<Vec<_>>();
        prepare(loaded, &before, &mut self.inherited).map_err(|error| error.to_string())
    }

    /// The rollout is done: what surrounds the workers follows.
    pub(super) fn adopt_surroundings(&mut self) {
        let Some(mut next) = self.upcoming.take() else {
            return;
        };
        if next.address == self.surroundings.address {
            next.ops = self.surroundings.ops.take();
        }
        self.surroundings = next;
        if let Err(error) = self.log.change(&self.surroundings.log) {
            warn!("the log stays where it is: {error}");
        }
    }

    /// Both ops listeners, while a reload moves it.
    pub(super) fn ops(&mut self) -> impl Iterator<Item = &mut OpsServer> {
        let next = self.upcoming.as_mut().and_then(|next| next.ops.as_mut());
        self.surroundings.ops.as_mut().into_iter().chain(next)
    }

    /// The ops listener of a configuration, where it has one.
    pub(super) fn bind_ops(&mut self, config: &Config) -> io::Result<Option<OpsServer>> {
        // One that an overtaken reload has bound is not wanted any more.
        self.upcoming = None;
        let Some(address) = config.health.listen else {
            return Ok(None);
        };
        let half = OpsServer::TOKENS;
        // Two places for tokens: at a change the old server still has its own.
        let first = match &self.surroundings.ops {
            Some(ops) if ops.owns(mio::Token(FIRST_OPS_TOKEN)) => FIRST_OPS_TOKEN + half,
            _ => FIRST_OPS_TOKEN,
        };
        let server = OpsServer::bind(address, self.poll.registry(), first..first + half).map_err(
            |error| {
                io::Error::new(
                    error.kind(),
                    format!(
                        "the ops listener cannot listen on {address} (`health.listen`): {error}"
                    ),
                )
            },
        )?;
        info!(address = %server.local_addr(), "ops listener: /livez /readyz /status /metrics");
        Ok(Some(server))
    }

    /// A generation that nobody can be of any more is forgotten, its listeners with it.
    pub(super) fn forget_unused_specs(&mut self) {
        let fleet = &self.fleet;
        let kept =
            |generation: &Generation| fleet.generations_in_use().any(|used| used == *generation);
        self.specs.retain(|generation, _| kept(generation));
    }

    /// Say once where the master is and what it serves.
    pub(super) fn introduce(&self, spec: &Spec) {
        let pid = Pid::as_raw(Some(rustix::process::getpid()));
        let addresses: Vec<String> = spec
            .listeners
            .iter()
            .map(|listener| listener.describe())
            .collect();
        info!(
            pid,
            version = env!("CARGO_PKG_VERSION"),
            workers = self.fleet.target(),
            listening = addresses.join(" "),
            "gracefork starts {}",
            spec.program.display()
        );
    }
}
