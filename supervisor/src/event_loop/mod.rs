//! The master's loop: events in, actions out; it decides nothing.
//!
//! Everything that happens (a signal, a word of a worker, a death, a deadline)
//! is told to the [`Fleet`], and what the fleet answers is carried out in
//! order. Nothing runs when nothing is due.

mod carry_out;
mod crew;
mod host;
mod narrate;
mod reload;
pub mod spec;
mod survivors;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

use mio::{Events, Interest, Poll, Token};
use rustix::process::Pid;
use signal_hook::consts::{
    SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};
use tracing::{debug, warn};
use worker_api::memory::release_file_pages;
use worker_api::message::{MAX_MESSAGE, Report};
use worker_api::scoreboard::{PodPhase, Scoreboard};

use crate::config::Sources;
use crate::evaluate::Evaluation;
use crate::fleet::{Carrier, Event, ExitStatus, Fleet, Generation, MAX_ROWS, Moment, WorkerId};
use crate::logging::LogControl;
use crate::ops::{Metrics, OpsServer};
use crate::sys::cgroup::OomWatch;
use crate::sys::channel::Received;
use crate::sys::listener::Inherited;
use crate::sys::process;
use crate::sys::service::Service;
use crate::sys::signals::{self, Signals};

use crew::{Crew, FIRST_TOKEN, Source};
use host::{HostSource, Hosts};
use reload::Surroundings;
use spec::Spec;

const SIGNALS: Token = Token(0);
const EVALUATION: Token = Token(1);
const FIRST_OPS_TOKEN: usize = 2;
/// The ops listener in use, one that a reload under way has bound, and one of the next reload.
const OPS_PLACES: usize = 3;
const _: () = assert!(FIRST_OPS_TOKEN + OPS_PLACES * OpsServer::TOKENS <= FIRST_TOKEN);

/// Messages of one worker that are read before others get their turn.
const FAIR_SHARE: usize = 32;

/// When nothing has happened for so long after a start or a reload, it is over.
const QUIET: Duration = Duration::from_secs(1);

/// What the loop starts with.
pub struct Setup {
    /// Where the configuration comes from, to read it again at a reload.
    pub sources: Sources,
    /// The first generation.
    pub spec: Spec,
    /// The master's signals; subscribed before anything that takes time.
    pub signals: Signals,
    /// Listening sockets that were handed to the master and are not used yet.
    pub inherited: Inherited,
    /// How to reopen the log.
    pub log: LogControl,
}

/// The master.
pub struct EventLoop {
    poll: Poll,
    signals: Signals,
    start: Instant,
    fleet: Fleet,
    specs: BTreeMap<Generation, Spec>,
    last_generation: Generation,
    crew: Crew,
    hosts: Hosts,
    /// Workers to keep, when that was told last.
    last_target: usize,
    board: Scoreboard,
    board_fd: OwnedFd,
    /// What the scoreboard is to say.
    pod_healthy: bool,
    surroundings: Surroundings,
    /// Those of the generation that is being rolled out.
    upcoming: Option<Surroundings>,
    metrics: Metrics,
    service: Service,
    oom: OomWatch,
    sources: Sources,
    inherited: Inherited,
    log: LogControl,
    /// A config file that is being evaluated for a reload.
    evaluation: Option<Evaluation>,
    /// Another reload was asked for meanwhile.
    reload_again: bool,
    /// What a start or a reload took is over, and still mapped.
    has_just_loaded: bool,
    /// Children that the master did not start.
    strangers: Vec<Pid>,
    /// Events that came up while actions were carried out.
    inbox: VecDeque<Event>,
    /// Workers that may have more to say than their fair share.
    talkative: BTreeSet<(WorkerId, u8)>,
    exit: Option<ExitStatus>,
}

impl EventLoop {
    /// Everything in place, no worker yet.
    ///
    /// # Errors
    /// When the system gives no descriptor or memory, or the ops listener
    /// cannot be bound.
    pub fn new(setup: Setup) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut signals = setup.signals;
        poll.registry()
            .register(&mut signals, SIGNALS, Interest::READABLE)?;
        let (board, board_fd) = Scoreboard::create(MAX_ROWS)?;
        let generation = Generation(1);
        let spec = setup.spec;
        let mut this = Self {
            fleet: Fleet::new(generation, spec.policy(), process::chance()),
            poll,
            signals,
            start: Instant::now(),
            specs: BTreeMap::new(),
            last_generation: generation,
            crew: Crew::new(),
            hosts: Hosts::default(),
            last_target: 0,
            board,
            board_fd,
            pod_healthy: false,
            surroundings: Surroundings {
                address: spec.config.health.listen,
                ops: None,
                log: spec.config.log.clone(),
            },
            upcoming: None,
            metrics: Metrics::new(SystemTime::now(), &narrate::RESTART_REASONS),
            service: Service::of(std::env::var("NOTIFY_SOCKET").ok().as_deref()),
            oom: OomWatch::start(),
            sources: setup.sources,
            inherited: setup.inherited,
            log: setup.log,
            evaluation: None,
            reload_again: false,
            has_just_loaded: false,
            strangers: process::children(),
            inbox: VecDeque::new(),
            talkative: BTreeSet::new(),
            exit: None,
        };
        this.last_target = this.fleet.target();
        this.surroundings.ops = this.bind_ops(&spec.config)?;
        this.introduce(&spec);
        this.specs.insert(generation, spec);
        Ok(this)
    }

    /// Run until every worker is gone.
    ///
    /// # Errors
    /// When the kernel refuses to poll.
    pub fn run(mut self) -> io::Result<ExitStatus> {
        self.tell(Event::Started);
        let mut events = Events::with_capacity(256);
        loop {
            if let Some(status) = self.exit.filter(|_| self.hosts.are_gone()) {
                self.leave();
                return Ok(status);
            }
            self.wait(&mut events)?;
            for event in &events {
                self.dispatch(event.token(), event.is_writable());
            }
            self.hear_the_talkative();
            if self
                .fleet
                .next_deadline()
                .is_some_and(|due| due <= self.now())
            {
                self.tell(Event::Tick);
            }
            self.look_after_survivors();
            self.expire_ops();
            self.expire_hosts();
            self.expire_evaluation();
        }
    }

    /// Waits until something happens or is due.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let mut timeout = self.timeout();
        let may_forget = self.has_just_loaded && self.fleet.phase() == PodPhase::Ready;
        if may_forget && timeout.is_none_or(|time| time > QUIET) {
            if !self.poll(events, Some(QUIET))? || !events.is_empty() {
                return Ok(());
            }
            timeout = timeout.map(|time| time.saturating_sub(QUIET));
            // Last of all: what runs after it is mapped again.
            self.forget();
        }
        self.poll(events, timeout).map(drop)
    }

    /// `false` if a signal has cut it short: it is among the next events.
    fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<bool> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            polled => polled.map(|()| true),
        }
    }

    /// Gives back what a start or a reload took: most of the program reads a configuration or brings
    /// up workers, and it may be long until the next time.
    fn forget(&mut self) {
        self.has_just_loaded = false;
        let bytes = release_file_pages();
        debug!(bytes, "what the start or the reload took is unmapped");
    }

    fn now(&self) -> Moment {
        view::moment(self.start)
    }

    /// Until something is due; for ever when nothing is.
    fn timeout(&self) -> Option<Duration> {
        if !self.talkative.is_empty() {
            return Some(Duration::ZERO);
        }
        let due = [self.fleet.next_deadline(), self.hosts.next_deadline()];
        let due = due.into_iter().flatten().map(|due| due - self.now());
        let now = Instant::now();
        let both = [Some(&self.surroundings), self.upcoming.as_ref()];
        let servers = both.into_iter().flatten().filter_map(|of| of.ops.as_ref());
        let ops = servers.filter_map(OpsServer::next_deadline);
        let ops = ops.map(|due| due.saturating_duration_since(now)).min();
        let evaluation = self.evaluation.as_ref().and_then(Evaluation::deadline);
        let evaluation = evaluation.map(|due| due.saturating_duration_since(now));
        due.chain(ops).chain(evaluation).min()
    }

    fn dispatch(&mut self, token: Token, writable: bool) {
        if token == SIGNALS {
            self.take_signals();
        } else if token == EVALUATION {
            self.go_on_with_reload();
        } else if let Some((host, source)) = HostSource::of(token) {
            self.host_event(host, source, writable);
        } else if let Some((worker, source)) = Source::of(token) {
            match source {
                Source::Life => self.reap_worker(worker),
                Source::Control | Source::Notify => self.hear(worker, source, FAIR_SHARE),
            }
            if let Some(process) = self.crew.get_mut(worker).filter(|_| writable) {
                process.flush();
            }
        } else {
            self.answer_probes(token);
        }
    }

    fn answer_probes(&mut self, token: Token) {
        let (fleet, crew, healthy) = (&self.fleet, &self.crew, self.pod_healthy);
        let (hosts, start) = (&self.hosts, self.start);
        let mut view = |depth| view::view(fleet, crew, hosts, healthy, depth, view::moment(start));
        let next = self.upcoming.as_mut().and_then(|next| next.ops.as_mut());
        let mut servers = self.surroundings.ops.as_mut().into_iter().chain(next);
        if let Some(ops) = servers.find(|ops| ops.owns(token)) {
            let registry = self.poll.registry();
            ops.ready(token, registry, Instant::now(), &self.metrics, &mut view);
        }
    }

    fn expire_ops(&mut self) {
        let next = self.upcoming.as_mut().and_then(|next| next.ops.as_mut());
        for ops in self.surroundings.ops.as_mut().into_iter().chain(next) {
            ops.expire(Instant::now(), self.poll.registry());
        }
    }

    fn take_signals(&mut self) {
        let pending: Vec<i32> = self.signals.pending().collect();
        for signal in pending {
            debug!(signal = signals::name(signal), "signal");
            match signal {
                SIGTERM => self.tell(Event::Terminate),
                SIGINT => self.tell(Event::Interrupt),
                SIGQUIT => self.tell(Event::Quit),
                SIGTTIN => self.tell(Event::ScaleOut),
                SIGTTOU => self.tell(Event::ScaleIn),
                // A terminal sends it at each change of its size.
                SIGWINCH if process::has_terminal() => {
                    debug!("SIGWINCH ignored: it comes from the terminal")
                }
                SIGWINCH => self.tell(Event::RetireAll),
                SIGHUP => self.reload(),
                SIGUSR1 => self.reopen_logs(),
                SIGUSR2 => warn!(
                    "SIGUSR2 ignored: the upgrade in place is not supported yet; SIGHUP reloads"
                ),
                SIGCHLD => self.reap_all(),
                _ => {}
            }
        }
    }

    /// Hear what a worker has to say, but not for ever.
    fn hear(&mut self, id: WorkerId, source: Source, most: usize) {
        let key = (id, source as u8);
        self.talkative.remove(&key);
        for _ in 0..most {
            let Some(process) = self.crew.get_mut(id) else {
                return;
            };
            let mut buffer = [0; MAX_MESSAGE];
            let (received, carrier) = match (source, &process.notify) {
                (Source::Notify, Some(socket)) => (socket.receive(&mut buffer), Carrier::Notify),
                _ => (process.channel.receive(&mut buffer), Carrier::Control),
            };
            let decoded = match received {
                Received::Nothing | Received::End => return,
                Received::TooLong => Err(format!("longer than {MAX_MESSAGE} bytes")),
                Received::Frame(frame) => Report::decode(frame).map_err(|error| error.to_string()),
            };
            match decoded {
                Ok(reports) => {
                    for report in reports {
                        self.tell(Event::Reported {
                            worker: id,
                            carrier,
                            report,
                        });
                    }
                }
                Err(reason) if !process.garbled => {
                    process.garbled = true;
                    let (slot, pid) = (process.slot, Pid::as_raw(Some(process.pid)));
                    warn!(
                        slot,
                        pid, "a worker's message is ignored, and all like it: {reason}"
                    );
                }
                Err(_) => {}
            }
        }
        self.talkative.insert(key);
    }

    fn hear_the_talkative(&mut self) {
        for (worker, source) in self.talkative.clone() {
            let source = if source == Source::Notify as u8 {
                Source::Notify
            } else {
                Source::Control
            };
            self.hear(worker, source, FAIR_SHARE);
        }
    }

    /// SIGCHLD: reap until none remain, orphans included. A worker that a host
    /// has forked looks like one of them until the host has told of it.
    fn reap_all(&mut self) {
        self.hear_hosts();
        self.work_off();
        if self.hosts_owe_an_answer() {
            // Those who are known have their pidfds.
            return;
        }
        while let Some(pid) = process::next_dead() {
            if let Some(worker) = self.crew.by_pid(pid) {
                self.reap_worker(worker);
            } else if let Some(host) = self.hosts.by_pid(pid) {
                self.reap_host(host);
            } else if self.evaluation.as_ref().is_some_and(|of| of.pid() == pid) {
                self.go_on_with_reload();
            } else {
                let end = process::reap(pid);
                debug!(pid = Pid::as_raw(Some(pid)), ?end, "orphan reaped");
            }
        }
    }

    /// Tell the core, and do what it answers.
    fn tell(&mut self, event: Event) {
        self.inbox.push_back(event);
        self.work_off();
    }

    /// Tell the core what has come up, and do what it answers.
    fn work_off(&mut self) {
        while let Some(event) = self.inbox.pop_front() {
            let actions = self.fleet.handle(event, self.now());
            for action in actions {
                self.carry_out(action);
            }
        }
    }
}
