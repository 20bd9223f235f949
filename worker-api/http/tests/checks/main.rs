//! What is refused, and what gets through: byte streams against a whole connection, polled by
//! hand, whose socket gives them in the pieces that the test wants.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do"
)]

mod case;
mod deadlines;
mod fixtures;
mod groups;
mod lockstep;
mod seeds;
#[path = "../../../../tests/harness/skip.rs"]
mod skip;
mod wire;
