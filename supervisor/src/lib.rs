//! gracefork, as a library: what the binary is made of.
//!
//! Read in this order: `fleet` decides, `event_loop` carries out, `sys`
//! knows the system; `run` brings them together. `config` and `cli` are what a
//! user wrote, `evaluate` has it run where it is a program, `import` tries the app of a check (each is
//! a `question` to the Python `package`), `ops` is what a probe sees.

pub mod cli;
pub mod config;
pub mod evaluate;
pub mod event_loop;
pub mod fleet;
pub mod import;
pub mod logging;
pub mod ops;
pub mod package;
pub mod question;
pub mod run;
pub mod sys;

#[cfg(test)]
#[path = "../../tests/harness/skip.rs"]
mod skip;
