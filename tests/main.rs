//! End to end: the real binary, real workers, real sockets. One scenario a test, named as a
//! sentence; `harness` hides the processes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "these are tests"
)]

mod harness;

mod accounting;
mod asgi;
mod balance;
mod config;
mod confined;
mod contract;
mod crash;
mod examples;
mod foreign;
mod handshake;
mod host;
mod idle;
mod misbehaviour;
mod ops;
mod owner;
mod pid1;
mod pidfile;
mod python;
mod recycle;
mod reload;
mod rude;
mod scale;
mod shutdown;
mod signals;
mod soak;
mod sockets;
mod stubborn;
mod wsgi;
