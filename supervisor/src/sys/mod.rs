//! The system: processes, signals, sockets, memory. Decides nothing.
//!
//! Each syscall is wrapped once and gives owned descriptors. All `unsafe` of
//! this crate is in `spawn` (between fork and exec), `process` (waiting) and
//! `listener` (taking over inherited descriptors).

pub mod cgroup;
pub mod channel;
pub mod inquiry;
pub mod listener;
pub mod log_file;
pub mod notify;
pub mod pidfile;
pub mod process;
pub mod run_directory;
pub mod service;
pub mod signals;
pub mod spawn;
