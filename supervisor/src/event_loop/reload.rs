//! Reading the configuration again, and what it changes in the master itself.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use mio::Interest;
use rustix::process::Pid;
use tracing::{info, warn};
use worker_api::scoreboard::PodPhase;

use crate::config::{self, BindAddress, Config, Log, Sources};
use crate::evaluate::Evaluation;
use crate::fleet::{Event, Generation};
use crate::ops::OpsServer;

use super::crew::register;
use super::spec::{Spec, prepare};
use super::{EVALUATION, EventLoop, FIRST_OPS_TOKEN, OPS_PLACES};

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
        if self.evaluation.is_some() {
            // What is being read may be out of date already.
            self.reload_again = true;
            return;
        }
        info!("reload: reading the configuration");
        match Evaluation::begin(&self.sources) {
            Ok(None) => self.reload_from(&self.sources.clone()),
            Ok(Some(evaluation)) => self.wait_for(evaluation),
            Err(reason) => self.tell(Event::ReloadRefused { reason }),
        }
    }

    /// A config file that is a program takes its time; the master does not wait.
    fn wait_for(&mut self, evaluation: Evaluation) {
        let registry = self.poll.registry();
        let readable = Interest::READABLE;
        let heard = (evaluation.sources())
            .try_for_each(|source| register(&source, EVALUATION, readable, registry));
        if let Err(error) = heard {
            evaluation.stop();
            let reason = format!("the config file cannot be read: {error}");
            return self.tell(Event::ReloadRefused { reason });
        }
        self.evaluation = Some(evaluation);
    }

    /// There may be news of the config file.
    pub(super) fn go_on_with_reload(&mut self) {
        let Some(outcome) = self.evaluation.as_mut().and_then(Evaluation::advance) else {
            return;
        };
        self.evaluation = None;
        if self.fleet.phase() > PodPhase::Ready {
            warn!("reload ignored: the pod is shutting down");
            return;
        }
        if std::mem::take(&mut self.reload_again) {
            return self.reload();
        }
        match outcome {
            Ok((evaluated, said)) => {
                for line in said.lines() {
                    info!("config file: {line}");
                }
                let sources = Sources {
                    evaluated: Some(evaluated),
                    ..self.sources.clone()
                };
                self.reload_from(&sources);
            }
            Err(reason) => self.tell(Event::ReloadRefused { reason }),
        }
    }

    pub(super) fn expire_evaluation(&mut self) {
        let due = self.evaluation.as_ref().and_then(Evaluation::deadline);
        if due.is_some_and(|due| due <= Instant::now()) {
            self.go_on_with_reload();
        }
    }

    fn reload_from(&mut self, sources: &Sources) {
        match self.next_generation(sources) {
            Ok((spec, surroundings)) => {
                let generation = Generation(self.last_generation.0 + 1);
                self.last_generation = generation;
                self.upcoming = Some(surroundings);
                let policy = Box::new(spec.policy());
                self.specs.insert(generation, spec);
                self.tell_hosts_reload();
                self.tell(Event::Reload { generation, policy });
                self.forget_unused_specs();
            }
            Err(reason) => self.tell(Event::ReloadRefused { reason }),
        }
    }

    fn next_generation(&mut self, sources: &Sources) -> Result<(Spec, Surroundings), String> {
        let spec = self.next_spec(sources)?;
        let address = spec.config.health.listen;
        let bound = self.upcoming.as_mut().filter(|it| it.address == address);
        let ops = match bound.and_then(|it| it.ops.take()) {
            None if self.surroundings.address != address => self
                .bind_ops(&spec.config)
                .map_err(|error| error.to_string())?,
            // By the reload that this one overtakes.
            bound => bound,
        };
        let surroundings = Surroundings {
            address,
            ops,
            log: spec.config.log.clone(),
        };
        Ok((spec, surroundings))
    }

    fn next_spec(&mut self, sources: &Sources) -> Result<Spec, String> {
        let loaded = config::load(sources).map_err(|problems| problems.to_string())?;
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        let newest = self.specs.values().next_back();
        if newest.is_some_and(|newest| newest.config.pidfile != loaded.config.pidfile) {
            warn!("`pidfile` has changed: that takes effect at the next start");
        }
        if newest.is_some_and(|newest| changes_unix_sockets(&newest.config, &loaded.config)) {
            warn!(
                "the owner or the mode of unix sockets has changed (`security`): those that are kept stay as they are until the next start"
            );
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
        if let Some(spec) = self.specs.values().next_back() {
            for listener in &spec.listeners {
                if let Err(error) = listener.renew(&spec.config.listen) {
                    warn!(
                        "the backlog of {} stays as it is: {error}",
                        listener.describe()
                    );
                }
            }
        }
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
        let Some(address) = config.health.listen else {
            return Ok(None);
        };
        // At a change the old server still has its tokens, and one that a reload under way has bound.
        let mut places = (0..OPS_PLACES).map(|place| FIRST_OPS_TOKEN + place * OpsServer::TOKENS);
        let first = places
            .find(|first| !self.ops().any(|ops| ops.owns(mio::Token(*first))))
            .unwrap_or(FIRST_OPS_TOKEN);
        let tokens = first..first + OpsServer::TOKENS;
        let server = OpsServer::bind(address, self.poll.registry(), tokens).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("the ops listener cannot listen on {address} (`health.listen`): {error}"),
            )
        })?;
        info!(address = %server.local_addr(), "ops listener: /livez /readyz /status /metrics");
        Ok(Some(server))
    }

    /// A generation that nobody can be of any more is forgotten, its listeners with it.
    pub(super) fn forget_unused_specs(&mut self) {
        let fleet = &self.fleet;
        let kept =
            |generation: &Generation| fleet.generations_in_use().any(|used| used == *generation);
        self.specs.retain(|generation, _| kept(generation));
        self.dismiss_unused_hosts();
    }

    /// Say once where the master is and what it serves.
    pub(super) fn introduce(&self, spec: &Spec) {
        let pid = Pid::as_raw(Some(rustix::process::getpid()));
        let addresses: Vec<String> = spec
            .listeners
            .iter()
            .map(|listener| listener.describe())
            .collect();
        let what = match spec.is_hosted() {
            true => format!(
                "{} with {}",
                spec.config.app.program,
                spec.program.display()
            ),
            false => spec.program.display().to_string(),
        };
        info!(
            pid,
            version = env!("CARGO_PKG_VERSION"),
            workers = self.fleet.target(),
            listening = addresses.join(" "),
            "gracefork starts {what}"
        );
    }
}

/// Whether a Unix socket that both have would be made with another owner or mode.
fn changes_unix_sockets(before: &Config, after: &Config) -> bool {
    let mut both =
        (after.listen.bind.iter()).filter(|address| before.listen.bind.contains(address));
    before.security != after.security && both.any(|it| matches!(it, BindAddress::Unix(_)))
}
