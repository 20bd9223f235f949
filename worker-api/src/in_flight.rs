//! Counts what a worker is doing: requests in flight and open connections.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::health::Link;
use crate::message::Report;
use crate::oldest::{Oldest, Place};
use crate::scoreboard::{Noted, monotonic_now};
use crate::waiters::{Key, Waiters};

/// Counts requests, here and in the scoreboard. A clone counts into the same place.
///
/// ```
/// # let worker = worker_api::Worker::builder().standalone_bind("127.0.0.1:0").init()?;
/// let in_flight = worker.in_flight();
/// let request = in_flight.enter();
/// assert_eq!(in_flight.count(), 1);
/// request.finish(200);
/// in_flight.wait_idle();
/// assert_eq!(in_flight.served(), 1);
/// # Ok::<(), worker_api::InitError>(())
/// ```
#[derive(Clone)]
pub struct InFlight {
    shared: Arc<Shared>,
}

struct Shared {
    link: Arc<Link>,
    max_requests: Option<NonZeroU64>,
    /// Held for a few instructions, at the begin and at the end of a request: that costs less than
    /// an atomic addition for each of the counters.
    account: Mutex<Account>,
    /// A copy, for those who ask.
    now: AtomicUsize,
    idle: Waiters,
}

/// What is written down, here and in the row, by one thread at a time.
struct Account {
    now: usize,
    begun: u64,
    served: u64,
    aborted: u64,
    oldest: Oldest,
    /// Somebody waits for `now` to be 0.
    awaited: bool,
}

/// One request in flight. Say how it ended with [`finish`](Self::finish) or
/// [`abort`](Self::abort); a guard that is merely dropped ends the request without a class (the
/// client went away, for example).
#[must_use = "the request is over as soon as its guard is dropped"]
pub struct InFlightGuard {
    shared: Arc<Shared>,
    end: End,
    /// On the clock of [`monotonic_now`].
    began: Duration,
    /// If it was said.
    ended: Option<Duration>,
    place: Place,
}

/// How a request ended.
enum End {
    /// Without a word.
    Dropped,
    /// Answered with this status.
    Answered(u16),
    Aborted,
}

/// Waits until nothing is in flight; of [`InFlight::idle`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Idle {
    shared: Arc<Shared>,
    key: Key,
}

impl InFlight {
    pub(crate) fn new(link: Arc<Link>, max_requests: Option<NonZeroU64>) -> Self {
        let shared = Shared {
            link,
            max_requests,
            account: Mutex::new(Account {
                now: 0,
                begun: 0,
                served: 0,
                aborted: 0,
                oldest: Oldest::new(),
                awaited: false,
            }),
            now: AtomicUsize::new(0),
            idle: Waiters::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A request has begun: call it when its head is read, keep the guard until the last byte of
    /// the answer is written. The request that reaches `max_requests` asks the master to recycle
    /// this worker.
    pub fn enter(&self) -> InFlightGuard {
        self.begin(monotonic_now(), None)
    }

    /// The same for a request that the pod's status and log may name while it is in flight: by its
    /// method and its path. What follows a `?` is not kept.
    pub fn enter_request(&self, method: &str, path: &str) -> InFlightGuard {
        self.enter_request_at(method, path, monotonic_now())
    }

    /// As [`enter_request`](Self::enter_request), for a loop that looks at the clock once a turn:
    /// the request began at `now`, on the clock of
    /// [`monotonic_now`](crate::scoreboard::monotonic_now).
    pub fn enter_request_at(&self, method: &str, path: &str, now: Duration) -> InFlightGuard {
        self.begin(now, Some(&Noted::new(method, path, now)))
    }

    fn begin(&self, began: Duration, request: Option<&Noted>) -> InFlightGuard {
        let shared = &self.shared;
        let row = &shared.link.row;
        let (place, begun) = {
            let mut account = shared.account();
            // The row first, so that whoever sees `now` above 0 knows that `busy_since` is fresh.
            row.request_began(account.now == 0, began);
            account.now += 1;
            shared.now.store(account.now, Ordering::Release);
            account.begun += 1;
            let oldest = &mut account.oldest;
            let place = request.map_or(Place::Nowhere, |request| oldest.enter(row, request));
            (place, account.begun)
        };
        if shared.max_requests.is_some_and(|max| max.get() == begun) {
            shared.link.report(&Report::Served(begun));
        }
        InFlightGuard {
            shared: Arc::clone(shared),
            end: End::Dropped,
            began,
            ended: None,
            place,
        }
    }

    /// How many requests are in flight now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.now.load(Ordering::Acquire)
    }

    /// How many requests got an answer so far.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.shared.account().served
    }

    /// How many requests were aborted so far.
    #[must_use]
    pub fn aborted(&self) -> u64 {
        self.shared.account().aborted
    }

    /// Blocks this thread until nothing is in flight. New requests may begin right after.
    pub fn wait_idle(&self) {
        self.shared.idle.block(None, || self.shared.is_idle());
    }

    /// A future that is done once nothing is in flight. It needs no runtime.
    pub fn idle(&self) -> Idle {
        Idle {
            shared: Arc::clone(&self.shared),
            key: None,
        }
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InFlight")
            .field("count", &self.count())
            .finish()
    }
}

impl InFlightGuard {
    /// How long it has been in flight.
    #[must_use]
    pub fn age(&self) -> Duration {
        monotonic_now().saturating_sub(self.began)
    }

    /// The request was answered with this HTTP status; its class is counted.
    pub fn finish(mut self, status: u16) {
        self.end = End::Answered(status);
    }

    /// As [`finish`](Self::finish), at a time that the caller knows: see
    /// [`InFlight::enter_request_at`].
    pub fn finish_at(mut self, status: u16, now: Duration) {
        self.ended = Some(now);
        self.finish(status);
    }

    /// The request was cut off by this worker before its answer was complete.
    pub fn abort(mut self) {
        self.end = End::Aborted;
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let shared = &self.shared;
        let row = &shared.link.row;
        let now = self.ended.unwrap_or_else(monotonic_now);
        let took = now.saturating_sub(self.began);
        let is_awaited = {
            let mut account = shared.account();
            account.oldest.leave(row, &self.place);
            let class = match self.end {
                End::Dropped => 0,
                End::Answered(status) => {
                    account.served += 1;
                    usize::from(status / 100)
                }
                End::Aborted => {
                    account.aborted += 1;
                    row.count_aborted();
                    0
                }
            };
            row.request_ended(class, now, took);
            account.now -= 1;
            shared.now.store(account.now, Ordering::Release);
            account.now == 0 && std::mem::take(&mut account.awaited)
        };
        if is_awaited {
            shared.idle.wake_all();
        }
    }
}

impl Shared {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is in flight; if something is, its end wakes those who wait.
    fn is_idle(&self) -> bool {
        let mut account = self.account();
        account.awaited = account.now > 0;
        account.now == 0
    }
}

impl Future for Idle {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { shared, key } = self.get_mut();
        shared.idle.poll(key, context, || shared.is_idle())
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.shared.idle.forget(&mut self.key);
    }
}

/// Counts open connections, here and in the scoreboard. A clone counts into the same place.
#[derive(Clone)]
pub struct Connections {
    shared: Arc<OpenConnections>,
}

struct OpenConnections {
    link: Arc<Link>,
    open: AtomicUsize,
}

/// One open connection; it is closed when this is dropped.
#[must_use = "the connection counts as closed as soon as its guard is dropped"]
pub struct ConnectionGuard {
    shared: Arc<OpenConnections>,
}

impl Connections {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self {
            shared: Arc::new(OpenConnections {
                link,
                open: AtomicUsize::new(0),
            }),
        }
    }

    /// A connection was accepted.
    pub fn open(&self) -> ConnectionGuard {
        self.shared.open.fetch_add(1, Ordering::AcqRel);
        self.shared.link.row.connection_opened();
        ConnectionGuard {
            shared: Arc::clone(&self.shared),
        }
    }

    /// So many bytes were read from one of them.
    pub fn received(&self, bytes: usize) {
        self.shared.link.row.bytes_received(bytes as u64);
    }

    /// So many bytes were written to one of them.
    pub fn sent(&self, bytes: usize) {
        self.shared.link.row.bytes_sent(bytes as u64);
    }

    /// What one of them sent was refused ahead of the app.
    pub fn refused(&self) {
        self.shared.link.row.count_refused();
    }

    /// How many connections are open now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections")
            .field("count", &self.count())
            .finish()
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.shared.link.row.connection_closed();
        self.shared.open.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::NoHooks;
    use crate::scoreboard::monotonic_now;
    use crate::settings::Settings;
    use crate::testing::{patient, supervised};
    use std::task::Waker;

    #[test]
    fn each_end_of_a_request_is_counted_once() {
        let (worker, master) = supervised(NoHooks, patient());
        let in_flight = worker.in_flight();
        for status in [101, 200, 204, 301, 404, 500, 503, 599, 600, 99, 0, u16::MAX] {
            in_flight.enter().finish(status);
        }
        in_flight.enter().abort();
        drop(in_flight.enter());
        let said = master.row.snapshot();
        assert_eq!(said.responses, [1, 2, 1, 1, 3]);
        assert_eq!((said.requests, said.in_flight, said.aborted), (14, 0, 1));
        assert_eq!(
            (in_flight.served(), in_flight.aborted(), in_flight.count()),
            (12, 1, 0)
        );
    }

    #[test]
    fn busy_since_is_there_while_something_is_in_flight_and_moves_with_progress() {
        let (worker, master) = supervised(NoHooks, patient());
        let start = monotonic_now() - std::time::Duration::from_millis(1);
        let since = || master.row.snapshot().busy_since;
        assert_eq!(since(), None);
        let (long, short) = (worker.in_flight().enter(), worker.in_flight().enter());
        let first = since().unwrap();
        assert!(first >= start && first <= monotonic_now());
        while monotonic_now() < first + std::time::Duration::from_micros(10) {}
        short.finish(200);
        assert!(since().unwrap() > first, "an answer is progress");
        long.finish(200);
        assert_eq!(since(), None);
    }

    #[test]
    fn the_request_that_reaches_the_maximum_says_so_once() {
        let settings = Settings {
            max_requests: NonZeroU64::new(3),
            ..patient()
        };
        let (worker, master) = supervised(NoHooks, settings);
        assert!(matches!(master.hear(), Report::Hello { .. }));
        for _ in 0..2 {
            worker.in_flight().enter().finish(200);
        }
        assert!(master.heard_all());
        for _ in 0..5 {
            worker.in_flight().enter().finish(200);
        }
        assert_eq!(master.hear(), Report::Served(3));
        assert!(master.heard_all());
    }

    #[test]
    fn the_time_of_answered_requests_is_counted_and_no_other() {
        let (worker, master) = supervised(NoHooks, patient());
        let in_flight = worker.in_flight();
        let request = in_flight.enter();
        while request.age() < Duration::from_micros(100) {}
        request.finish(200);
        in_flight.enter().finish(500);
        in_flight.enter().abort();
        drop(in_flight.enter());
        let latency = master.row.snapshot().latency;
        assert_eq!(latency.counts.iter().sum::<u64>(), 2);
        assert!(latency.counts[7..].iter().sum::<u64>() >= 1, "{latency:?}");
        assert!(latency.sum >= Duration::from_micros(100));
    }

    #[test]
    fn requests_in_flight_have_a_name_without_their_query() {
        let (worker, master) = supervised(NoHooks, patient());
        let before = monotonic_now();
        let first = worker
            .in_flight()
            .enter_request("GET", "/reset?token=secret");
        let second = worker.in_flight().enter_request("DELETE", "/x#y?z");
        let shown = master.row.oldest();
        let names: Vec<_> = shown.iter().map(|it| (&*it.method, &*it.path)).collect();
        assert_eq!(names.len(), 2);
        assert!(names.contains(&("GET", "/reset")) && names.contains(&("DELETE", "/x")));
        let first_start = shown[0].started + Duration::from_micros(1);
        assert!(first_start > before && shown[1].started <= monotonic_now());
        first.finish(200);
        second.abort();
        assert_eq!(master.row.oldest(), []);
    }

    #[test]
    fn bytes_are_counted_each_way() {
        let (worker, master) = supervised(NoHooks, patient());
        worker.connections().received(7);
        worker.connections().received(1);
        worker.connections().sent(3);
        let said = master.row.snapshot();
        assert_eq!((said.received_bytes, said.sent_bytes), (8, 3));
    }

    /// Not a test: `cargo test -p worker-api --release -- --ignored --nocapture nanoseconds`.
    #[test]
    #[ignore = "a measurement"]
    fn nanoseconds_that_a_request_pays_for_its_account() {
        const REQUESTS: u32 = 2_000_000;
        let (worker, _master) = supervised(NoHooks, patient());
        let (in_flight, connections) = (worker.in_flight(), worker.connections());
        let measure = |what: &str, request: &dyn Fn()| {
            let best = (0..5).map(|_| {
                let start = std::time::Instant::now();
                (0..REQUESTS).for_each(|_| request());
                start.elapsed() / REQUESTS
            });
            println!("{what}: {:?} a request", best.min().unwrap_or_default());
        };
        measure("two looks at the clock", &|| {
            std::hint::black_box((monotonic_now(), monotonic_now()));
        });
        measure("enter, finish", &|| in_flight.enter().finish(200));
        measure("enter_request, finish", &|| {
            in_flight.enter_request("GET", "/items/4711").finish(200);
        });
        measure("the same, and bytes both ways", &|| {
            let request = in_flight.enter_request("GET", "/items/4711");
            connections.received(120);
            connections.sent(140);
            request.finish(200);
        });
        let held: Vec<_> = (0..20)
            .map(|_| in_flight.enter_request("GET", "/slow"))
            .collect();
        measure("the same beside 20 others", &|| {
            let request = in_flight.enter_request("GET", "/items/4711");
            connections.received(120);
            connections.sent(140);
            request.finish(200);
        });
        drop(held);
    }

    #[test]
    fn idle_is_told_to_threads_and_futures() {
        let (worker, _master) = supervised(NoHooks, patient());
        let in_flight = worker.in_flight();
        in_flight.wait_idle();
        let mut context = Context::from_waker(Waker::noop());
        let (one, two) = (in_flight.enter(), in_flight.enter());
        let mut idle = in_flight.idle();
        assert!(Pin::new(&mut idle).poll(&mut context).is_pending());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| in_flight.wait_idle());
            one.finish(200);
            assert!(Pin::new(&mut idle).poll(&mut context).is_pending());
            two.abort();
            waiter.join().unwrap();
        });
        assert!(Pin::new(&mut idle).poll(&mut context).is_ready());
    }

    #[test]
    fn counts_hold_when_many_threads_enter_and_leave() {
        let (worker, master) = supervised(NoHooks, patient());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let _connection = worker.connections().open();
                        worker.in_flight().enter().finish(200);
                    }
                });
            }
        });
        let said = master.row.snapshot();
        assert_eq!((said.requests, said.responses[1]), (4_000, 4_000));
        assert_eq!(
            (
                said.in_flight,
                said.connections,
                worker.connections().count()
            ),
            (0, 0, 0)
        );
    }
}
