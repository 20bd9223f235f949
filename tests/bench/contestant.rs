//! The servers that are compared, each as its users run it, in one process that does the work.

use std::net::SocketAddr;

use crate::bare::{self, Bare};
use crate::harness::{Builder, Server, Target};

/// A server to measure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// A plain function on the baton driver, under gracefork.
    Hello,
    /// axum on the tokio driver, under gracefork.
    Axum,
    /// hyper on one tokio thread.
    Hyper,
    /// epoll and fixed bytes.
    Loop,
}

/// One that serves. Dropping it ends all its processes.
pub(crate) enum Running {
    Ours(Server),
    Bare(bare::Running),
}

impl Contestant {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Contestant::Hello => "hello",
            Contestant::Axum => "axum-app",
            Contestant::Hyper => "bare hyper",
            Contestant::Loop => "bare loop",
        }
    }

    /// Starts it with one worker; `set` changes the settings of one that runs under gracefork.
    pub(crate) fn start(self, set: impl FnOnce(Builder) -> Builder) -> Running {
        let ours = |builder: Builder| Running::Ours(set(builder.workers(1)).start());
        match self {
            Contestant::Hello => ours(Builder::hello()),
            Contestant::Axum => ours(Builder::axum()),
            Contestant::Hyper => Running::Bare(Bare::Hyper.start()),
            Contestant::Loop => Running::Bare(Bare::Loop.start()),
        }
    }
}

impl Running {
    /// The process that serves.
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Running::Ours(server) => server.worker_pids()[0],
            Running::Bare(server) => server.pid(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Running::Ours(server) => address(server),
            Running::Bare(server) => server.address,
        }
    }
}

/// Where the app of a server listens.
fn address(server: &Server) -> SocketAddr {
    match &server.target {
        Target::Tcp(address) => *address,
        Target::Unix(path) => panic!("a Unix socket: {}", path.display()),
    }
}
