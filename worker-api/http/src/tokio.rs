//! The tokio driver: accepts on every inherited listener, polls the connections, sees the worker
//! out.

mod accept;
mod boxed;
mod socket;
mod visit;
mod watched;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use ::tokio::sync::watch;
use ::tokio::task::JoinSet;
use ::tokio::{select, time};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::service::TowerToHyperService;
use worker_api::{Drain, Stage, Worker};

use self::accept::Door;
use self::visit::Spawner;
pub use crate::error::ServeError;
use crate::service::App;
use crate::setup::Setup;

/// So long a forced end waits for connections whose app does not give the thread back: half of what the
/// master gives at most, so that it hears how many were aborted.
const FORCED_END: Duration = Duration::from_millis(500);

/// Serves an axum router, or any tower service, as this worker until it has drained.
///
/// Says [`Worker::ready`] once it accepts, and [`Worker::drained`] before it returns: after that,
/// return from `main`. In between it follows the worker's [`Stage`]:
///
/// - from lameduck on, every response says `Connection: close`; idle connections are kept,
/// - retiring, it serves what waits in the accept queue, accepts no more, and returns when the last
///   connection is gone,
/// - draining, it does so too, serves what has come on idle connections, closes those on which
///   nothing came, and returns after the last response,
/// - forced, it drops the requests that still run and counts them as aborted.
///
/// Requests that ask for another protocol (WebSocket) may have it. The drain waits for such a
/// connection; the app is to end it, and sees the time in [`Worker::drain`].
///
/// Dropping the future stops the accepting; open connections go on in their tasks.
///
/// ```no_run
/// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
/// use std::convert::Infallible;
/// use http_body_util::Full;
/// use hyper::{Request, Response, body::{Bytes, Incoming}};
///
/// # #[derive(Clone)] struct Tower;
/// # impl tower_service::Service<Request<Incoming>> for Tower {
/// #     type Response = Response<Full<Bytes>>;
/// #     type Error = Infallible;
/// #     type Future = std::future::Ready<Result<Self::Response, Infallible>>;
/// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> { std::task::Poll::Ready(Ok(())) }
/// #     fn call(&mut self, _: Request<Incoming>) -> Self::Future { std::future::ready(Ok(Response::default())) }
/// # }
/// # let router = Tower;
/// let worker = worker_api::Worker::init()?;
/// worker_http::tokio::serve(worker, router).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// See [`ServeError`]. What happens to a single connection is no error here.
///
/// # Panics
/// Outside a tokio runtime with I/O and time enabled.
pub async fn serve<S, B>(worker: Worker, service: S) -> Result<(), ServeError>
where
    S: tower_service::Service<Request<Incoming>, Response = Response<B>>,
    S: Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    serve_hyper(worker, TowerToHyperService::new(service)).await
}

/// Serves a hyper service, for example of [`hyper::service::service_fn`], or any other [`App`];
/// otherwise as [`serve`].
///
/// ```no_run
/// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
/// use std::convert::Infallible;
/// use http_body_util::Full;
/// use hyper::{Response, body::Bytes, service::service_fn};
///
/// let hello = service_fn(|_request| async {
///     Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("hello"))))
/// });
/// let worker = worker_api::Worker::init()?;
/// worker_http::tokio::serve_hyper(worker, hello).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`serve`].
///
/// # Panics
/// As [`serve`].
pub async fn serve_hyper<S>(worker: Worker, service: S) -> Result<(), ServeError>
where
    S: App<Answer: Send, Future: Send> + Clone + Send + 'static,
{
    let setup = Setup::new(&worker);
    let doors = take_listeners(&worker, &setup)?;
    let drain = worker.drain();
    let guests = Arc::new(watch::Sender::new(()));
    let spawner = Spawner::new(setup, service, Arc::clone(&guests));

    // A set ends its tasks when this future is dropped.
    let mut accepting = JoinSet::new();
    for door in doors {
        accepting.spawn(door.serve(spawner.clone(), drain.clone()));
    }
    worker.ready();

    // Every connection has a receiver of `guests`: when the last one is dropped, it is closed.
    // Each accepting task gives its door back once the worker retires or drains: no connection can
    // appear after that but from here.
    // What waits in a queue then is served here: if a reload has removed the address, by nobody else.
    let mut emptying = JoinSet::new();
    for door in accepting.join_all().await {
        emptying.spawn(door.empty(spawner.clone()));
    }
    emptying.join_all().await;
    select! {
        () = guests.closed() => {}
        () = forced_end(&drain) => tracing::warn!("a request holds its thread; leaving without it"),
    }
    worker.drained();
    Ok(())
}

fn take_listeners(worker: &Worker, setup: &Setup) -> Result<Vec<Door>, ServeError> {
    let doors = worker
        .take_listeners()
        .into_iter()
        .map(|listener| {
            let name = listener.name().to_owned();
            Door::new(setup, listener).map_err(|source| ServeError::Register { name, source })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if doors.is_empty() {
        return Err(ServeError::NoListener);
    }
    Ok(doors)
}

/// Done when connections had time to see that the end is forced.
async fn forced_end(drain: &Drain) {
    drain.reached(Stage::Forced).await;
    time::sleep(FORCED_END).await;
}
