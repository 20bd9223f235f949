//! HTTP for gracefork workers: hyper's protocol on a connection that knows how to drain.
//!
//! [`tokio::serve`] takes an axum router, or any tower service, and does what a worker owes its
//! pod: it accepts on the sockets it inherited, counts its work on the scoreboard, announces
//! `Connection: close` once it is told to leave, keeps idle connections until it drains, serves
//! what came at the last moment, and reports drained. [`serve`] does the same for a plain function
//! that may block, on threads of its own.
//!
//! Reading order: [`lifecycle`] is the state machine of a connection, pure, as one table;
//! [`conn`] runs hyper under its rule, on any runtime; two drivers accept and poll: [`tokio`] and
//! [`baton`].
#![forbid(unsafe_code)]

pub mod baton;
pub mod checks;
pub mod conn;
pub mod lifecycle;
pub mod tokio;

mod accept;
mod access;
mod clock;
mod error;
mod hints;
mod intake;
mod introduce;
mod io;
mod linger;
mod link;
mod scratch;
mod service;
mod setup;
mod waiter;

pub use baton::hosted;
pub use baton::{
    Body, Gone, Handler, Patience, Reply, Request, RequestBody, Response, Streaming, Surroundings,
    Upgraded, serve, serve_within, stack_size,
};
pub use checks::Client;
pub use error::ServeError;
pub use hints::{EarlyHints, HintsTooLong};
pub use http;
pub use hyper::ext::ReasonPhrase;
pub use introduce::{Introduction, RawTarget};
pub use io::Socket;
pub use service::App;
pub use setup::Setup;
