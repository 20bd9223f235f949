//! What all connections of a worker have in common.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use worker_api::{Connections, Drain, Health, InFlight, Worker};

use crate::accept::{Gate, Open};
use crate::access::Access;
use crate::checks::{Peer, Rules};
use crate::clock::{Clock, Hand};
use crate::intake::Intake;
use crate::lifecycle::Limits;

/// An app on an event loop can hear that its client has gone, and stop: so it is told soon. A client
/// that has only said all and still listens has its answer by then, or never.
const SOON: Duration = Duration::from_millis(200);

/// So many fields hyper takes without being asked, and without a vector for each request.
const HYPERS_FIELDS: usize = 100;

/// What all connections of a worker have in common; a driver makes it once, see [`Setup::new`].
#[derive(Debug)]
pub struct Setup {
    pub(crate) worker: Worker,
    pub(crate) drain: Drain,
    pub(crate) health: Health,
    pub(crate) in_flight: InFlight,
    pub(crate) connections: Connections,
    pub(crate) gate: Arc<Gate>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) access: Option<Access>,
    pub(crate) rules: Rules,
    pub(crate) http: http1::Builder,
    /// When requests begin and end.
    pub(crate) clock: Clock,
}

impl Setup {
    /// Limits and counters as `worker` has them.
    pub fn new(worker: &Worker) -> Arc<Self> {
        Self::with(worker, None, Clock::Kernel, None)
    }

    /// The same for the baton driver; with `threads` if it calls the app on threads of its own, on
    /// so many at once, and without where the app runs on an event loop.
    pub(crate) fn of_baton(
        worker: &Worker,
        threads: Option<NonZeroUsize>,
        hand: &Hand,
    ) -> Arc<Self> {
        let half_closed = threads.is_none().then_some(SOON);
        Self::with(worker, threads, Clock::Turn(hand.clone()), half_closed)
    }

    fn with(
        worker: &Worker,
        threads: Option<NonZeroUsize>,
        clock: Clock,
        half_closed: Option<Duration>,
    ) -> Arc<Self> {
        let settings = worker.settings();
        let mut http = http1::Builder::new();
        // One timer for each connection, and it is the connection's: hyper's own would count the
        // time between two requests as part of the second one's head.
        http.header_read_timeout(None);
        // Whether a peer leaves while it is answered, the connection sees itself.
        http.half_close(true);
        let unless_zero = |time: Duration| Some(time).filter(|time| !time.is_zero());
        let usual = Limits::new(settings.keep_alive, settings.header_timeout);
        let limits = Limits {
            body_timeout: unless_zero(settings.body_timeout),
            write_timeout: unless_zero(settings.write_timeout),
            half_closed: half_closed.unwrap_or(usual.half_closed),
            ..usual
        };
        let rules = Rules::new(settings);
        if rules.fields() > HYPERS_FIELDS {
            http.max_headers(rules.fields());
        }
        Arc::new(Self {
            drain: worker.drain(),
            health: worker.health(),
            in_flight: worker.in_flight(),
            connections: worker.connections(),
            gate: Gate::new(worker, threads),
            limits: Arc::new(limits),
            access: Access::of(worker),
            rules,
            http,
            clock,
            worker: worker.clone(),
        })
    }

    /// Counts a connection that was accepted.
    pub(crate) fn open(&self) -> Open {
        self.gate.open()
    }

    /// What stands between hyper and a socket with this peer.
    pub(crate) fn intake(&self, peer: Peer) -> Intake {
        let settings = self.worker.settings();
        let trusts = peer.is_believed(&settings.forwarded_allow_ips);
        let names_clients = peer.is_believed(&settings.proxy_allow_ips);
        let proxy = settings.proxy_protocol.then_some(names_clients);
        Intake::new(self.rules, trusts, proxy)
    }

    /// Whether an answer that goes out now is the last one of its connection.
    pub(crate) fn announces_close(&self) -> bool {
        self.drain.stage().announces_close() || self.limits.keep_alive.is_zero()
    }

    /// Whether the worker itself answers requests for `path`.
    pub(crate) fn is_health_path(&self, path: &str) -> bool {
        self.worker.settings().health_path.as_deref() == Some(path)
    }
}
