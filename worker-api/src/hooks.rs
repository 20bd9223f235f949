//! What an app may do at the turning points of a worker's life.

use crate::health::Health;

/// The names are gunicorn's and puma's where those have one. Each hook does nothing unless it
/// says otherwise.
///
/// Hooks from [`on_term`](Self::on_term) on run on the control thread (on the thread that calls
/// for what says so), so they must be short: while one runs, no further command is heard. A hook
/// that panics there is logged and the worker goes on. A worker that starts when the pod is on its
/// way out runs them before its `init` returns.
///
/// ```
/// use worker_api::{Health, Hooks, Worker, WorkerInfo};
///
/// struct Mine;
///
/// impl Hooks for Mine {
///     fn on_term(&self, worker: &WorkerInfo, health: &Health) {
///         println!("worker {} stops soon", worker.slot);
///         health.mark_unhealthy();
///     }
/// }
///
/// let worker = Worker::builder().hooks(Mine).standalone_bind("127.0.0.1:0").init()?;
/// # Ok::<(), worker_api::InitError>(())
/// ```
pub trait Hooks: Send + Sync + 'static {
    /// The worker stands, its descriptors are taken over; nothing was reported yet. On the thread
    /// that makes the worker.
    fn post_fork(&self, _worker: &WorkerInfo) {}

    /// The app is loaded: runs in [`Worker::ready`](crate::Worker::ready), before it is reported.
    fn post_worker_init(&self, _worker: &WorkerInfo) {}

    /// The pod was told to stop (`LAMEDUCK`). By default the worker marks itself unhealthy, unless
    /// the master still holds the pod's health up (`unready_delay`) and will turn it itself.
    /// Serving goes on. It composes with a SIGTERM handler of the app, which runs as well.
    fn on_term(&self, _worker: &WorkerInfo, health: &Health) {
        if !health.is_pod_healthy() {
            health.mark_unhealthy();
        }
    }

    /// The worker begins to drain; before anything that waits for it is woken.
    fn on_drain(&self, _worker: &WorkerInfo) {}

    /// Nothing is in flight any more; before it is reported. On the thread that calls
    /// [`Worker::drained`](crate::Worker::drained).
    fn on_drained(&self, _worker: &WorkerInfo) {}

    /// What is in flight will be aborted.
    fn worker_abort(&self, _worker: &WorkerInfo) {}

    /// The very last: the worker has reported drained. On the thread that calls
    /// [`Worker::drained`](crate::Worker::drained).
    fn worker_exit(&self, _worker: &WorkerInfo) {}

    /// A request's head was read. Called by the HTTP driver, on its thread.
    fn pre_request(&self, _worker: &WorkerInfo, _request: &RequestInfo<'_>) {}

    /// A request was answered with `status`. Called by the HTTP driver, on its thread.
    fn post_request(&self, _worker: &WorkerInfo, _request: &RequestInfo<'_>, _status: u16) {}

    /// Open log files anew (SIGUSR1 at the master).
    fn reopen_logs(&self, _worker: &WorkerInfo) {}
}

/// Who a worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Its place among the workers, from 0; a replacement has the same.
    pub slot: usize,
    /// Goes up at each reload.
    pub generation: u64,
    /// Its process id.
    pub pid: u32,
}

/// What a hook is told of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestInfo<'a> {
    /// The method, as the client wrote it.
    pub method: &'a str,
    /// The request target, as the client wrote it.
    pub target: &'a str,
}

/// Hooks that do nothing more than the defaults.
pub(crate) struct NoHooks;

impl Hooks for NoHooks {}
