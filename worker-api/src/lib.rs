//! What a worker of gracefork is told, and what it reports.
//!
//! gracefork's master holds the listening sockets and forks workers; a worker serves. This crate
//! is the contract between the two, and it is all that a server written by hand needs in order to
//! lose no request when its pod stops or its config is reloaded. It brings no runtime and no
//! protocol: use it from a plain thread, from a poll loop of your own, or from async code (with
//! hyper, axum or tower, `worker-http` does all of the below).
//!
//! # What a worker does
//!
//! 1. It calls [`Worker::init`] first, takes its [listeners](Worker::take_listeners), and when it
//!    serves it calls [`Worker::ready`].
//! 2. It holds a [guard](InFlight::enter) for each request, and one for each
//!    [connection](Connections::open).
//! 3. It answers its health path with [`Health`].
//! 4. It follows [`Drain`]:
//!
//! | [`Stage`] | new connections | idle connections | answers |
//! |---|---|---|---|
//! | [`Serving`](Stage::Serving) | accepted | kept | as ever |
//! | [`Lameduck`](Stage::Lameduck) | accepted | kept | say `Connection: close` |
//! | [`Retiring`](Stage::Retiring) | queue emptied, listener closed | kept | say `Connection: close` |
//! | [`Draining`](Stage::Draining) | queue emptied, listener closed | what has come is served, then closed | say `Connection: close` |
//! | [`Forced`](Stage::Forced) | | closed | cut off, and counted with [`abort`](InFlightGuard::abort) |
//!
//! 5. When it retires or drains and nothing is left it calls [`Worker::drained`], and returns from `main`.
//!
//! Without a master the same program binds an address of its own ([`WorkerBuilder::standalone_bind`])
//! and drains at SIGTERM or Ctrl-C, so it runs by hand as it runs under gracefork.
//!
//! # A worker
//!
//! A thread for each connection, one request each; `examples/mio-app.rs` of the project is the
//! whole thing with keep-alive, on one thread.
//!
//! ```no_run
//! use std::io::{ErrorKind, Read, Write};
//! use rustix::event::{PollFd, PollFlags, poll};
//! use worker_api::{Listener, Worker};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let worker = Worker::init()?;
//!     let (drain, in_flight) = (worker.drain(), worker.in_flight());
//!     let events = drain.subscribe()?;
//!     let Some(Listener::Tcp { socket, .. }) = worker.take_listeners().pop() else {
//!         return Err("no TCP listener".into());
//!     };
//!     worker.ready();
//!     loop {
//!         let accepts = drain.stage().accepts();
//!         match socket.accept() {
//!             Ok((mut client, _)) => {
//!                 let request = in_flight.enter();
//!                 std::thread::spawn(move || {
//!                     let _ = client.read(&mut [0; 4096]);
//!                     let _ = client.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello\n");
//!                     request.finish(200);
//!                 });
//!             }
//!             // Nothing waits any more: now the listener may be closed.
//!             Err(error) if error.kind() == ErrorKind::WouldBlock && !accepts => break,
//!             Err(error) if error.kind() == ErrorKind::WouldBlock => {
//!                 let readable = PollFlags::IN;
//!                 let mut fds = [PollFd::new(&socket, readable), PollFd::new(&events, readable)];
//!                 let _ = poll(&mut fds, None);
//!                 events.clear();
//!             }
//!             Err(error) => return Err(error.into()),
//!         }
//!     }
//!     drop(socket);
//!     in_flight.wait_idle();
//!     worker.drained();
//!     Ok(())
//! }
//! ```
//!
//! # For the master
//!
//! [`message`] is the codec of both directions, [`scoreboard`] the shared memory, [`access_log`]
//! knows which formats there are, [`memory`] gives back what a start needed; the master uses the very
//! same code.

pub mod access_log;
pub mod drain;
pub mod health;
pub mod hooks;
pub mod in_flight;
pub mod memory;
pub mod message;
pub mod scoreboard;

mod allowed;
mod channel;
mod control;
mod inherit;
mod listener;
mod oldest;
mod settings;
mod signals;
#[cfg(test)]
mod testing;
mod waiters;
mod worker;

pub use allowed::{AllowedIps, AllowedIpsError};
pub use drain::{Changed, Drain, DrainEvents, Reached, Stage};
pub use health::{Health, HealthAnswer};
pub use hooks::{Hooks, RequestInfo, WorkerInfo};
pub use in_flight::{ConnectionGuard, Connections, Idle, InFlight, InFlightGuard};
pub use inherit::{Handover, InheritError, duplicate};
pub use listener::Listener;
pub use scoreboard::{
    Latency, Load, PodPhase, RequestUnderway, Row, RowSnapshot, Scoreboard, ScoreboardError,
    WorkerState,
};
pub use settings::Settings;
pub use worker::{Forked, InitError, Worker, WorkerBuilder};
