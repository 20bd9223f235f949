//! A worker written by hand: one thread, a raw mio loop, httparse, and worker-api. No runtime.
//!
//!     cargo run --bin mio-app                        # by itself, on 127.0.0.1:8000; Ctrl-C drains it
//!     gracefork -b 127.0.0.1:8000 target/release/mio-app
//!
//! Routes: GET /, GET /health, GET /slow/{seconds}, POST /echo.
//!
//! What makes it lossless is in four places: `Connection::respond` announces the end of a connection
//! in its last answer, `Server::stop_accepting` empties the accept queue before it closes the
//! listener, `Connection::settle` gives an idle connection up only after a look into its socket, and
//! `Connection::half_close` lingers, so that bytes nobody reads never reset an answer on its way.

#[path = "mio-app/connection.rs"]
mod connection;
#[path = "mio-app/http.rs"]
mod http;

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use worker_api::{Connections, Listener, Stage, Worker};

use connection::{App, Connection};

const DRAIN: Token = Token(usize::MAX);
/// When to try again after accept has failed, for want of descriptors as a rule.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn Error>> {
    let worker = Worker::init()?;
    let mut server = Server::new(&worker)?;
    worker.ready();
    server.run()?;
    worker.drained();
    Ok(())
}

struct Server {
    app: App,
    open: Connections,
    poll: Poll,
    listeners: Vec<TcpListener>,
    connections: HashMap<Token, Connection>,
    timers: BTreeSet<(Instant, Token)>,
    next_token: usize,
    accept_again: Option<Instant>,
}

impl Server {
    fn new(worker: &Worker) -> Result<Self, Box<dyn Error>> {
        let poll = Poll::new()?;
        let mut listeners = Vec::new();
        for listener in worker.take_listeners() {
            let Listener::Tcp { socket, name } = listener else {
                worker.fatal("mio-app serves TCP only");
                return Err("mio-app serves TCP only".into());
            };
            let mut socket = TcpListener::from_std(socket);
            let token = Token(listeners.len());
            let registered = poll
                .registry()
                .register(&mut socket, token, Interest::READABLE);
            registered.map_err(|error| format!("{name}: {error}"))?;
            listeners.push(socket);
        }
        let app = App {
            drain: worker.drain(),
            in_flight: worker.in_flight(),
            health: worker.health(),
            settings: worker.settings().clone(),
        };
        Ok(Self {
            app,
            open: worker.connections(),
            poll,
            next_token: listeners.len(),
            listeners,
            connections: HashMap::new(),
            timers: BTreeSet::new(),
            accept_again: None,
        })
    }

    /// Serves until the worker has been told to leave and nothing is left to do.
    fn run(&mut self) -> io::Result<()> {
        let drain_events = self.app.drain.subscribe()?;
        let mut source = SourceFd(&drain_events.as_raw_fd());
        self.poll
            .registry()
            .register(&mut source, DRAIN, Interest::READABLE)?;
        let mut events = Events::with_capacity(256);
        let mut draining = false;
        loop {
            let timer = self.timers.first().map(|(at, _)| *at);
            let next = timer.into_iter().chain(self.accept_again).min();
            let timeout = next.map(|at| at.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    DRAIN => drain_events.clear(),
                    Token(at) if at < self.listeners.len() => self.accept(at),
                    token => self.drive(token, Connection::advance),
                }
            }
            self.act_on_time();
            let stage = self.app.drain.stage();
            if stage >= Stage::Retiring {
                self.stop_accepting();
            }
            if stage >= Stage::Draining && !draining {
                draining = true;
                self.drain_all();
            }
            if stage == Stage::Forced {
                self.abort_all();
            }
            if stage >= Stage::Retiring && self.connections.is_empty() {
                return Ok(());
            }
        }
    }

    /// Takes every connection that waits; the queue is shared, so there may be none.
    fn accept(&mut self, listener: usize) {
        loop {
            let Some(socket) = self.listeners.get(listener) else {
                return;
            };
            match socket.accept() {
                Ok((stream, _)) => self.add(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // No event will tell of those who wait, unless another one comes.
                Err(_) => {
                    self.accept_again = Some(Instant::now() + ACCEPT_AGAIN);
                    return;
                }
            }
        }
    }

    fn add(&mut self, mut stream: TcpStream) {
        let token = Token(self.next_token);
        self.next_token += 1;
        let both = Interest::READABLE | Interest::WRITABLE;
        // An error here is the client's: it has gone already.
        let registered = self.poll.registry().register(&mut stream, token, both);
        if registered.and_then(|()| stream.set_nodelay(true)).is_err() {
            return;
        }
        let connection = Connection::new(stream, self.open.open(), &self.app);
        self.timers.insert((connection.deadline(), token));
        self.connections.insert(token, connection);
        // A request is often there already.
        self.drive(token, Connection::advance);
    }

    /// Lets a connection go as far as it can; it is closed when its step fails.
    fn drive(&mut self, token: Token, step: impl FnOnce(&mut Connection, &App) -> io::Result<()>) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let before = connection.deadline();
        let result = step(connection, &self.app);
        let after = connection.deadline();
        if result.is_err() {
            self.timers.remove(&(before, token));
            self.connections.remove(&token);
        } else if before != after {
            self.timers.remove(&(before, token));
            self.timers.insert((after, token));
        }
    }

    fn act_on_time(&mut self) {
        let now = Instant::now();
        while let Some((at, token)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.drive(token, Connection::time_is_over);
            // A deadline that was not moved on would come up for ever.
            debug_assert!(!self.timers.contains(&(at, token)));
        }
        if self.accept_again.take_if(|at| *at <= now).is_some() {
            (0..self.listeners.len()).for_each(|at| self.accept(at));
        }
    }

    /// Empties the accept queue, then closes the listeners: whoever connected is served.
    fn stop_accepting(&mut self) {
        (0..self.listeners.len()).for_each(|at| self.accept(at));
        self.listeners.clear();
        self.accept_again = None;
    }

    fn drain_all(&mut self) {
        let tokens: Vec<_> = self.connections.keys().copied().collect();
        for token in tokens {
            self.drive(token, Connection::drain);
        }
    }

    fn abort_all(&mut self) {
        self.connections
            .drain()
            .for_each(|(_, mut connection)| connection.abort());
        self.timers.clear();
    }
}
