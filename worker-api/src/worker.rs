//! The worker itself: made once at the start, asked for everything else.

use std::io;
use std::net::TcpListener;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::access_log::AccessLog;
use crate::channel::Channel;
use crate::control::{Control, Source};
use crate::drain::{Drain, Stage};
use crate::health::{Health, Link};
use crate::hooks::{Hooks, NoHooks, WorkerInfo};
use crate::in_flight::{Connections, InFlight};
use crate::inherit::{self, Env, Handover, InheritError, Inherited, Supervised};
use crate::listener::Listener;
use crate::message::{PROTOCOL_VERSION, Report};
use crate::scoreboard::{
    Load, PodPhase, RequestUnderway, Scoreboard, ScoreboardError, WorkerState,
};
use crate::settings::Settings;
use crate::signals::{self, Signals};

/// How long a worker that has drained waits for its access log.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Why a worker could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// What the process was started with is not in order, or it has a worker already.
    #[error(transparent)]
    Inherit(#[from] InheritError),
    /// The scoreboard that the master gave cannot be used.
    #[error(transparent)]
    Scoreboard(#[from] ScoreboardError),
    /// The master's scoreboard has no row for this worker's slot.
    #[error("slot {slot} is not on the scoreboard, which has {slots}")]
    Slot {
        /// The worker's slot.
        slot: usize,
        /// How many the scoreboard has.
        slots: usize,
    },
    /// Without a master: the address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The access log cannot be opened.
    #[error("the access log {target} cannot be opened: {source}")]
    AccessLog {
        /// Where it was to be.
        target: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The kernel refused memory, a thread, a descriptor or a signal handler.
    #[error("cannot set the worker up: {0}")]
    Io(#[from] io::Error),
}

/// This process, as a worker. A clone is another handle on the same worker.
///
/// ```
/// use worker_api::Worker;
///
/// // Under gracefork the address does not matter: the master's sockets are used.
/// let worker = Worker::builder().standalone_bind("127.0.0.1:0").init()?;
/// let listeners = worker.take_listeners();
/// assert_eq!(listeners.len(), 1);
/// assert!(!worker.is_supervised());
/// worker.ready();
/// # Ok::<(), worker_api::InitError>(())
/// ```
#[derive(Clone)]
pub struct Worker {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) info: WorkerInfo,
    pub(crate) hooks: Box<dyn Hooks>,
    pub(crate) settings: Settings,
    pub(crate) link: Arc<Link>,
    pub(crate) health: Health,
    pub(crate) drain: Drain,
    in_flight: InFlight,
    connections: Connections,
    pub(crate) access_log: Option<AccessLog>,
    listeners: Mutex<Vec<Listener>>,
    begun_to_drain: AtomicBool,
    /// A replacement was asked for.
    asked: AtomicBool,
    said_ready: AtomicBool,
    said_drained: AtomicBool,
}

/// What differs between a worker with a master and one without.
pub(crate) struct Start {
    pub(crate) link: Link,
    pub(crate) slot: usize,
    pub(crate) generation: u64,
    pub(crate) source: Source,
}

/// Makes a [`Worker`] with hooks, or with an address for the time without a master.
#[must_use = "a builder does nothing until `init`"]
pub struct WorkerBuilder {
    hooks: Box<dyn Hooks>,
    standalone_bind: Option<String>,
    forked: Option<Forked>,
}

/// What a worker that was forked by a fork server is told, see [`WorkerBuilder::forked`].
#[derive(Debug)]
pub struct Forked {
    /// What the fork server was handed; its numbers are the same in every child.
    pub handover: Handover,
    /// The worker's end of its control channel.
    pub control: OwnedFd,
    /// Its place among the workers.
    pub slot: usize,
    /// Its generation.
    pub generation: u64,
    /// After so many requests it asks to be recycled.
    pub max_requests: Option<NonZeroU64>,
}

impl WorkerBuilder {
    /// The app's hooks; the default ones otherwise.
    pub fn hooks(mut self, hooks: impl Hooks) -> Self {
        self.hooks = Box::new(hooks);
        self
    }

    /// Where to listen when there is no master: `host:port`. Otherwise 127.0.0.1 with the port
    /// that `PORT` names, or 8000.
    pub fn standalone_bind(mut self, address: impl Into<String>) -> Self {
        self.standalone_bind = Some(address.into());
        self
    }

    /// Makes the worker of this process, which a fork server has forked. What the environment says
    /// of a single worker does not count then; its settings do.
    ///
    /// Call `init` in the child, before it starts threads: the one that hears the master is started
    /// there, and no thread outlives a fork.
    pub fn forked(mut self, forked: Forked) -> Self {
        self.forked = Some(forked);
        self
    }

    /// Makes the worker, as [`Worker::init`] does.
    ///
    /// # Errors
    /// See [`InitError`].
    pub fn init(self) -> Result<Worker, InitError> {
        if let Some(forked) = self.forked {
            let Handover {
                listeners,
                scoreboard,
                mut settings,
            } = forked.handover;
            settings.max_requests = forked.max_requests;
            let start = Start::supervised(Supervised {
                slot: forked.slot,
                generation: forked.generation,
                control: forked.control,
                scoreboard,
            })?;
            return start_worker(self.hooks, settings, listeners, start);
        }
        inherit::claim()?;
        let env = Env::OfProcess;
        let settings = Settings::from_env(&env)?;
        let Inherited {
            mut listeners,
            master,
        } = inherit::take(&env)?;
        if master.is_none() && listeners.is_empty() {
            let port = env.number::<u16>("PORT")?.unwrap_or(8000);
            listeners.push(bind(
                self.standalone_bind.unwrap_or(format!("127.0.0.1:{port}")),
            )?);
        }
        let start = match master {
            Some(master) => Start::supervised(master)?,
            None => Start::standalone()?,
        };
        start_worker(self.hooks, settings, listeners, start)
    }
}

impl Start {
    fn supervised(master: Supervised) -> Result<Self, InitError> {
        // Before HELLO: from then on the master may send signals. The end of the channel tells of
        // its death; a master that did not know yet what this worker is asked the kernel for a
        // signal as well, which could be one that ends it.
        signals::survive()?;
        rustix::process::set_parent_process_death_signal(None).map_err(io::Error::from)?;
        let Supervised {
            slot,
            generation,
            control,
            scoreboard,
        } = master;
        let board = Scoreboard::attach(scoreboard)?;
        let slots = board.slots();
        let row = board.row(slot).ok_or(InitError::Slot { slot, slots })?;
        row.set_pid(std::process::id());
        let link = Link {
            board,
            row,
            channel: Some(Channel::new(control)),
        };
        Ok(Self {
            link,
            slot,
            generation,
            source: Source::Master,
        })
    }

    fn standalone() -> Result<Self, InitError> {
        let source = Source::Signals(Signals::install()?);
        let board = Scoreboard::private()?;
        let row = board.row(0).ok_or(InitError::Slot { slot: 0, slots: 0 })?;
        row.reset(std::process::id(), 0);
        let link = Link {
            board,
            row,
            channel: None,
        };
        Ok(Self {
            link,
            slot: 0,
            generation: 0,
            source,
        })
    }
}

impl Worker {
    /// Makes this process a worker: takes over what the master handed down, or, started by hand,
    /// binds an address of its own and serves without a master.
    ///
    /// Call it first in `main`, before the program opens descriptors or starts threads. SIGTERM
    /// and SIGINT no longer kill the process; handlers that the app has are kept and called.
    ///
    /// # Errors
    /// See [`InitError`]. A second call in one process is an error.
    pub fn init() -> Result<Self, InitError> {
        Self::builder().init()
    }

    #[cfg(test)]
    pub(crate) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.inner.link)
    }

    /// To give hooks, or an address for the time without a master.
    pub fn builder() -> WorkerBuilder {
        WorkerBuilder {
            hooks: Box::new(NoHooks),
            standalone_bind: None,
            forked: None,
        }
    }

    /// Its place among the workers, from 0; 0 without a master.
    #[must_use]
    pub fn slot(&self) -> usize {
        self.inner.info.slot
    }

    /// Its generation, which goes up at each reload; 0 without a master.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.info.generation
    }

    /// Slot, generation and process id.
    #[must_use]
    pub fn info(&self) -> &WorkerInfo {
        &self.inner.info
    }

    /// Whether there is a master (or was, when the worker started).
    #[must_use]
    pub fn is_supervised(&self) -> bool {
        self.inner.link.channel.is_some()
    }

    /// What the config says.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The app's hooks, for a driver that calls those of requests.
    #[must_use]
    pub fn hooks(&self) -> &dyn Hooks {
        &*self.inner.hooks
    }

    /// The listening sockets, in the config's order; an empty list the second time.
    #[must_use]
    pub fn take_listeners(&self) -> Vec<Listener> {
        let mut listeners = self
            .inner
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut listeners)
    }

    /// The health of this worker.
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner.health.clone()
    }

    /// The phase of the pod, as the master says; `Boot` or later without one.
    #[must_use]
    pub fn pod_phase(&self) -> PodPhase {
        self.inner.link.board.phase()
    }

    /// How far this worker's way out has come.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.inner.drain.clone()
    }

    /// The requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        self.inner.in_flight.clone()
    }

    /// The open connections.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.inner.connections.clone()
    }

    /// The log of requests, if there is to be one: for whoever sees how they end.
    #[must_use]
    pub fn access_log(&self) -> Option<&AccessLog> {
        self.inner.access_log.as_ref()
    }

    /// What the other workers that serve have to do, as they say themselves. Each number is a
    /// claim, see [`scoreboard`](crate::scoreboard).
    pub fn others(&self) -> impl Iterator<Item = Load> {
        let Inner { link, info, .. } = &*self.inner;
        link.board.loads_beside(info.slot)
    }

    /// Reports that this worker serves; runs `post_worker_init` before. Doing it again does
    /// nothing.
    pub fn ready(&self) {
        if self.inner.said_ready.swap(true, Ordering::AcqRel) {
            return;
        }
        self.inner.hooks.post_worker_init(&self.inner.info);
        self.inner.link.row.raise_state(WorkerState::Ready);
        self.inner.link.report(&Report::Ready);
    }

    /// One line for humans, shown in the pod's status; cut at
    /// [`MAX_TEXT`](crate::message::MAX_TEXT) bytes.
    pub fn status(&self, text: &str) {
        self.inner.link.report(&Report::Status(text.to_owned()));
    }

    /// A sign of life.
    pub fn watchdog(&self) {
        self.inner.link.report(&Report::Watchdog);
    }

    /// This worker wants to leave by itself. While the pod serves it asks the master for a
    /// replacement, goes on serving, and is retired when that is Ready: so no request is lost.
    /// Otherwise it reports that it stops, and drains. Doing it again, or when it drains anyway, does
    /// nothing.
    pub fn leave(&self) {
        if self.inner.has_begun_to_drain() {
            return;
        }
        if self.is_supervised() && self.pod_phase() == PodPhase::Ready {
            if !self.inner.asked.swap(true, Ordering::AcqRel) {
                self.inner.link.report(&Report::Replace);
            }
            return;
        }
        self.inner.link.report(&Report::Stopping);
        self.inner.begin_to_drain();
    }

    /// Reports that a call of the app hangs, so that the master ends this worker, by SIGABRT first,
    /// and replaces it.
    pub fn hung(&self) {
        self.inner.link.report(&Report::Hung);
    }

    /// The requests that are in flight, as far as the scoreboard has room for their names.
    #[must_use]
    pub fn underway(&self) -> Vec<RequestUnderway> {
        self.inner.link.row.oldest()
    }

    /// Reports that this worker cannot work and that a replacement could not either. The process
    /// should end next.
    pub fn fatal(&self, reason: &str) {
        tracing::error!(reason, "fatal");
        self.inner.link.report(&Report::Fatal(reason.to_owned()));
    }

    /// Reports that nothing is in flight and nothing will come, with the totals; runs `on_drained`
    /// before and `worker_exit` after. Return from `main` next. Doing it again does nothing.
    pub fn drained(&self) {
        if self.inner.said_drained.swap(true, Ordering::AcqRel) {
            return;
        }
        let Inner {
            hooks,
            info,
            link,
            in_flight,
            access_log,
            ..
        } = &*self.inner;
        hooks.on_drained(info);
        if let Some(log) = access_log
            && !log.flush(LAST_LINES)
        {
            tracing::warn!("the access log takes no more lines; leaving with some of them");
        }
        link.row.raise_state(WorkerState::Drained);
        let (served, aborted) = (in_flight.served(), in_flight.aborted());
        link.report(&Report::Drained { served, aborted });
        hooks.worker_exit(info);
    }
}

impl Inner {
    pub(crate) fn has_begun_to_drain(&self) -> bool {
        self.begun_to_drain.load(Ordering::Acquire)
    }

    /// Told by the master or on its own; once.
    pub(crate) fn begin_to_drain(&self) {
        if self.begun_to_drain.swap(true, Ordering::AcqRel) {
            return;
        }
        self.hook("on_drain", |it| it.hooks.on_drain(&it.info));
        self.link.row.raise_state(WorkerState::Draining);
        self.drain.advance(Stage::Draining);
    }

    /// Runs a hook so that its panic does not end the thread which hears the master.
    pub(crate) fn hook(&self, name: &'static str, hook: impl FnOnce(&Inner)) {
        if std::panic::catch_unwind(AssertUnwindSafe(|| hook(self))).is_err() {
            tracing::error!(hook = name, "a hook panicked");
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("info", &self.inner.info)
            .field("stage", &self.inner.drain.stage())
            .finish_non_exhaustive()
    }
}

/// The part of `init` that a test can run more than once in a process.
pub(crate) fn start_worker(
    hooks: Box<dyn Hooks>,
    settings: Settings,
    listeners: Vec<Listener>,
    start: Start,
) -> Result<Worker, InitError> {
    let Start {
        link,
        slot,
        generation,
        source,
    } = start;
    let link = Arc::new(link);
    let access_log = open_access_log(&settings, &link)?;
    let inner = Arc::new(Inner {
        info: WorkerInfo {
            slot,
            generation,
            pid: std::process::id(),
        },
        hooks,
        health: Health::new(Arc::clone(&link)),
        drain: Drain::new(),
        in_flight: InFlight::new(Arc::clone(&link), settings.max_requests),
        connections: Connections::new(Arc::clone(&link)),
        settings,
        link,
        access_log,
        listeners: Mutex::new(listeners),
        begun_to_drain: AtomicBool::new(false),
        asked: AtomicBool::new(false),
        said_ready: AtomicBool::new(false),
        said_drained: AtomicBool::new(false),
    });
    inner.hooks.post_fork(&inner.info);
    inner.link.report(&Report::Hello {
        version: PROTOCOL_VERSION,
    });
    let mut control = Control::new(Arc::clone(&inner), source);
    control.catch_up();
    control.spawn()?;
    Ok(Worker { inner })
}

fn open_access_log(settings: &Settings, link: &Arc<Link>) -> Result<Option<AccessLog>, InitError> {
    let Some(target) = &settings.access_log else {
        return Ok(None);
    };
    let format = settings.access_format.clone();
    let log = AccessLog::start(target, format, Arc::clone(link));
    let target = target.clone();
    log.map(Some)
        .map_err(|source| InitError::AccessLog { target, source })
}

fn bind(address: String) -> Result<Listener, InitError> {
    let listener = TcpListener::bind(&address)
        .and_then(|socket| Listener::from_fd(OwnedFd::from(socket), "standalone".to_owned()));
    listener.map_err(|source| InitError::Bind { address, source })
}
