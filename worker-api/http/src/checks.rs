//! What is refused before the app sees it, and why: no I/O and no clock.
//!
//! hyper reads HTTP generously, as a library for everybody must. Behind a proxy that reads it in
//! another way, what one of the two takes for the body of a request is the next request for the
//! other. So a [`Watcher`] reads the bytes first, strictly, by gunicorn's rules and limits. It
//! holds back what is not complete, and hyper never gets to see what is wrong.
//! `tests/corpus` has an example of all that is refused, and with which status.

pub mod proxy;

mod chars;
mod chunk;
mod coding;
mod forwarded;
mod head;
mod lines;
mod quick;
mod refusal;
mod rules;
mod target;
mod trailers;
mod watcher;

pub use forwarded::{Client, Peer};
pub use refusal::Refusal;
pub use rules::Rules;
pub use watcher::{Fault, Oddity, Wait, Watcher};

#[cfg(test)]
mod tests;
