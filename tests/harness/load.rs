//! Load: keep-alive clients that send until they are told to stop, and count what is lost.
//!
//! A client is what a load balancer's upstream connection is: it sends on a connection that was not
//! announced to close, without looking first whether it still stands, and never sends twice.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::http::{Conn, Lost, Response, Stage, Target};

/// The clients of every requirement that speaks of load.
pub(crate) const CLIENTS: usize = 32;

/// What the clients send.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) clients: usize,
    /// The longest pause between two requests of one client; each is drawn at random.
    pub(crate) pause: Duration,
    /// One request in so many is `GET /slow/0.1`.
    pub(crate) slow_every: Option<u64>,
    /// One request in so many is `POST /echo`.
    pub(crate) echo_every: Option<u64>,
    /// One request in so many is the last on its connection, by the client's choice.
    pub(crate) fresh_every: Option<u64>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            clients: CLIENTS,
            pause: Duration::from_millis(10),
            slow_every: None,
            echo_every: None,
            fresh_every: None,
        }
    }
}

/// Clients at work.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

/// Stops the clients from elsewhere: what a load balancer does when it takes a pod out.
#[derive(Clone)]
pub(crate) struct Route(Arc<Shared>);

/// What the clients saw.
pub(crate) struct Report {
    pub(crate) sent: u64,
    pub(crate) ok: u64,
    pub(crate) lost: Vec<Lost>,
    pub(crate) last_response_at: Option<Instant>,
    /// When the clients were told to stop.
    pub(crate) stopped_at: Option<Instant>,
    started: Instant,
}

struct Shared {
    target: Target,
    plan: Plan,
    stop: AtomicBool,
    sent: AtomicU64,
    ok: AtomicU64,
    seen: Mutex<Seen>,
    started: Instant,
}

#[derive(Default)]
struct Seen {
    lost: Vec<Lost>,
    last_response_at: Option<Instant>,
    stopped_at: Option<Instant>,
}

impl Load {
    /// [`CLIENTS`] clients of `GET /`.
    pub(crate) fn start(target: &Target) -> Load {
        Load::with(target, Plan::default())
    }

    pub(crate) fn with(target: &Target, plan: Plan) -> Load {
        let shared = Arc::new(Shared {
            target: target.clone(),
            plan,
            stop: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            ok: AtomicU64::new(0),
            seen: Mutex::default(),
            started: Instant::now(),
        });
        let clients = (0..shared.plan.clients).map(|number| {
            let shared = Arc::clone(&shared);
            let name = format!("client-{number}");
            thread::Builder::new()
                .name(name)
                .spawn(move || client(&shared, number))
                .unwrap()
        });
        let clients = clients.collect();
        Load { shared, clients }
    }

    /// Waits until `more` further requests have been answered, so that the load is known to flow.
    pub(crate) fn wait_for(&self, more: u64) {
        let goal = self.shared.ok.load(Ordering::Relaxed) + more;
        super::eventually(&format!("{more} more answers to the load"), || {
            self.shared.ok.load(Ordering::Relaxed) >= goal || !self.shared.lock().lost.is_empty()
        });
    }

    /// How far the requests came that are lost so far.
    pub(crate) fn lost_stages(&self) -> Vec<Stage> {
        self.shared
            .lock()
            .lost
            .iter()
            .map(|lost| lost.stage)
            .collect()
    }

    /// Whether the clients were told to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.shared.stopped()
    }

    pub(crate) fn route(&self) -> Route {
        Route(Arc::clone(&self.shared))
    }

    /// Lets every client finish its request and waits for that.
    pub(crate) fn stop(self) -> Report {
        self.route().take_out();
        for client in self.clients {
            client.join().expect("a client panicked");
        }
        let seen = std::mem::take(&mut *self.shared.lock());
        Report {
            sent: self.shared.sent.load(Ordering::Relaxed),
            ok: self.shared.ok.load(Ordering::Relaxed),
            lost: seen.lost,
            last_response_at: seen.last_response_at,
            stopped_at: seen.stopped_at,
            started: self.shared.started,
        }
    }
}

impl Route {
    /// No new request from now on. Again is no error.
    pub(crate) fn take_out(&self) {
        let mut seen = self.0.lock();
        seen.stopped_at.get_or_insert_with(Instant::now);
        self.0.stop.store(true, Ordering::Release);
    }
}

impl Report {
    /// The requirement: nothing lost (and something sent, else this would prove nothing).
    #[track_caller]
    pub(crate) fn assert_none_lost(&self) {
        assert!(
            self.ok > 0,
            "the load had not one answer: {}",
            self.describe()
        );
        assert!(self.lost.is_empty(), "{}", self.describe());
        assert_eq!(self.sent, self.ok, "requests sent and answered");
    }

    /// Counts, and the first of what was lost with the second it happened.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!(
            "{} sent, {} answered, {} lost",
            self.sent,
            self.ok,
            self.lost.len()
        );
        for lost in self.lost.iter().take(12) {
            let at = lost
                .at
                .saturating_duration_since(self.started)
                .as_secs_f64();
            let _ = write!(text, "\n  {at:.3} s after the load began: {lost}");
        }
        text
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

fn client(shared: &Shared, number: usize) {
    let mut connection = None;
    let mut random = Random::new(number);
    let mut turn = number as u64;
    while !shared.stopped() {
        turn += 1;
        shared.sent.fetch_add(1, Ordering::Relaxed);
        match exchange(shared, &mut connection, turn) {
            Ok(response) => {
                let mut seen = shared.lock();
                seen.last_response_at = seen.last_response_at.max(Some(response.at));
                drop(seen);
                shared.ok.fetch_add(1, Ordering::Relaxed);
            }
            Err(lost) => {
                connection = None;
                shared.lock().lost.push(Lost {
                    client: number,
                    ..lost
                });
                // A refused connection fails in microseconds; the record needs no million of them.
                thread::sleep(Duration::from_millis(20));
            }
        }
        thread::sleep(random.below(shared.plan.pause));
    }
}

fn exchange(shared: &Shared, kept: &mut Option<Conn>, turn: u64) -> Result<Response, Lost> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Conn::open(&shared.target)?,
    };
    let due = |every: Option<u64>| every.is_some_and(|every| turn.is_multiple_of(every));
    let response = if due(shared.plan.slow_every) {
        connection.get("/slow/0.1")?
    } else if due(shared.plan.echo_every) {
        connection.post("/echo", b"what comes back")?
    } else {
        connection.get("/")?
    };
    if response.status != 200 {
        return Err(Lost::new(Stage::Status, &response.status));
    }
    if !connection.told_close() && !due(shared.plan.fresh_every) {
        *kept = Some(connection);
    }
    Ok(response)
}

/// A small generator: the pauses only have to differ.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: usize) -> Random {
        Random(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed as u64 + 1))
    }

    /// A duration from zero up to `limit`.
    pub(crate) fn below(&mut self, limit: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let share = f64::from(u32::try_from(self.0 >> 32).unwrap()) / f64::from(u32::MAX);
        limit.mul_f64(share)
    }
}
