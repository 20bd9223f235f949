//! What the scenarios share: a running server, clients that count what is lost, and a clean end.
//!
//! Reading order: `builder` (what to start), `server` (a running one, and what can be awaited on
//! it), `http` and `load` (clients), `balancer` (the readiness probe that turns traffic away),
//! `process` (pids seen from outside), `programs` (what there is to start).

pub(crate) mod balancer;
pub(crate) mod builder;
pub(crate) mod command;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod rude;
pub(crate) mod schedule;
mod selftest;
pub(crate) mod server;
pub(crate) mod skip;
pub(crate) mod status;
pub(crate) mod wait;

pub(crate) use balancer::{LoadBalancer, Prober};
pub(crate) use builder::Builder;
pub(crate) use http::{Conn, Target};
pub(crate) use load::Load;
pub(crate) use rustix::process::Signal;
pub(crate) use server::{Exit, Server};
pub(crate) use wait::{LIMIT, eventually};
