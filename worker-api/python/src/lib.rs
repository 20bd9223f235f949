//! gracefork's native Python module: a worker's life, WSGI and ASGI on `worker-http`.
//!
//! `gracefork/_worker.py` is its only caller: it makes a [`Worker`](worker::Worker) in a process
//! that the fork server has forked, loads the app, and serves it.

mod asgi;
mod gil;
mod hooks;
mod log;
mod peers;
mod text;
mod tokens;
mod worker;
mod wsgi;

use pyo3::prelude::*;

/// The module as Python imports it.
#[pymodule]
mod _gracefork {
    #[pymodule_export]
    use super::asgi::{Runner, serve_asgi};
    #[pymodule_export]
    use super::worker::{Worker, inherit, release_file_pages};
    #[pymodule_export]
    use super::wsgi::serve_wsgi;
}
