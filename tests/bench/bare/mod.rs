//! The servers that the workers are held against. The bench itself is one of them when it is started
//! as such: each in a process of its own, with nothing beside it.

mod epoll;
mod hyper;

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};

/// The argument that makes the bench a server; its name follows.
const BE: &str = "--be-the-server";

/// What answers each request with `hello`, and does no more.
#[derive(Clone, Copy)]
pub(crate) enum Bare {
    /// hyper on one tokio thread, as in hyper's own example.
    Hyper,
    /// The least that a server can do: one read, the same bytes written, no parser.
    Loop,
}

/// A bare server that runs. Dropping it ends it.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// Serves, in a process that was started for it; else returns at once.
pub(crate) fn serve_if_asked() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some(BE) {
        return;
    }
    let serve = match args.next().as_deref() {
        Some("hyper") => hyper::serve,
        _ => epoll::serve,
    };
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    println!("{}", listener.local_addr().unwrap());
    io::stdout().flush().unwrap();
    serve(listener).unwrap();
}

impl Bare {
    fn name(self) -> &'static str {
        match self {
            Bare::Hyper => "hyper",
            Bare::Loop => "loop",
        }
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(self) -> Running {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([BE, self.name()]).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut said).unwrap();
        let address = said.trim().parse().unwrap();
        Running { child, address }
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
