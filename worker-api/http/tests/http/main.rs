//! Each driver as a worker process of its own, with the test as its master: the real control
//! channel, the real scoreboard, real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::duplicate_mod, reason = "once for each driver")]

mod app;
mod blocking;
mod blocking_app;
mod by_hand;
mod client;
mod looped;
mod looped_app;
mod on_baton;
mod on_loop;
mod on_tokio;
mod pod;
