//! One connection: what it waits for, and how it ends without losing a request or an answer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use worker_api::{ConnectionGuard, Drain, Health, InFlight, InFlightGuard, Settings, Stage};

use crate::http::{self, Parsed, Request};

/// How long a body may take to come, and an answer to be taken.
const TRANSFER: Duration = Duration::from_secs(60);
/// How long a half-closed connection may take to be closed by its client too.
const LINGER: Duration = Duration::from_secs(1);
/// The same once the worker drains, and the chance of a new connection's first byte then.
const LINGER_IN_DRAIN: Duration = Duration::from_millis(75);
const DAY: Duration = Duration::from_secs(86_400);
const TEXT: &str = "text/plain";

/// What a connection needs from the worker.
pub(crate) struct App {
    pub(crate) drain: Drain,
    pub(crate) in_flight: InFlight,
    pub(crate) health: Health,
    pub(crate) settings: Settings,
}

pub(crate) struct Connection {
    stream: TcpStream,
    state: State,
    deadline: Instant,
    input: Vec<u8>,
    output: Vec<u8>,
    /// From a request's head being read to its answer being written.
    request: Option<InFlightGuard>,
    status: u16,
    /// It was a HEAD request.
    bodiless: bool,
    /// The client was told, or said itself, that this is the last answer.
    last: bool,
    /// Not a byte has come yet.
    fresh: bool,
    _open: ConnectionGuard,
}

/// What a connection waits for; at its deadline it waits no longer.
#[derive(Clone, Copy, PartialEq)]
enum State {
    /// The first byte of a request.
    Idle,
    /// The rest of a request.
    Reading,
    /// The time that /slow takes.
    Sleeping,
    /// Room for the rest of the answer.
    Writing,
    /// The client's end of file; half-closed.
    Lingering,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, open: ConnectionGuard, app: &App) -> Self {
        let mut connection = Self {
            stream,
            state: State::Idle,
            deadline: Instant::now(),
            input: Vec::new(),
            output: Vec::new(),
            request: None,
            status: 0,
            last: false,
            bodiless: false,
            fresh: true,
            _open: open,
        };
        connection.await_request(app);
        connection
    }

    /// When [`Self::time_is_over`] is to be called.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Goes as far as the socket allows. An error closes the connection; so does the client's end.
    pub(crate) fn advance(&mut self, app: &App) -> io::Result<()> {
        loop {
            let step = match self.state {
                State::Idle | State::Reading => self.serve(app),
                State::Sleeping => return Ok(()),
                State::Writing => self.write(app),
                State::Lingering => self.read(&mut [0; 4096]).map(drop),
            };
            match step.map_err(|error| (error.kind(), error)) {
                Ok(()) | Err((ErrorKind::Interrupted, _)) => {}
                Err((ErrorKind::WouldBlock, _)) if self.state == State::Idle => {
                    return self.settle(app);
                }
                Err((ErrorKind::WouldBlock, _)) => return Ok(()),
                Err((_, error)) => return Err(error),
            }
        }
    }

    /// What this connection waited for has not come.
    pub(crate) fn time_is_over(&mut self, app: &App) -> io::Result<()> {
        match self.state {
            State::Idle => {}
            State::Reading => self.refuse(app, 408),
            State::Sleeping => self.respond(app, 200, TEXT, b"slept\n"),
            State::Writing => {
                self.abort();
                return Err(ErrorKind::TimedOut.into());
            }
            State::Lingering => return Err(ErrorKind::TimedOut.into()),
        }
        self.advance(app)
    }

    /// The drain begins: what waits for a request gets its last look, what lingers is hurried.
    pub(crate) fn drain(&mut self, app: &App) -> io::Result<()> {
        match self.state {
            State::Idle => self.await_request(app),
            State::Lingering => self.wait(State::Lingering, LINGER_IN_DRAIN),
            State::Reading | State::Sleeping | State::Writing => {}
        }
        self.advance(app)
    }

    /// Cuts off whatever goes on.
    pub(crate) fn abort(&mut self) {
        if let Some(request) = self.request.take() {
            request.abort();
        }
    }

    /// Waits for a request: as long as keep-alive says, in drain only for what is there already.
    fn await_request(&mut self, app: &App) {
        if !self.input.is_empty() {
            return self.wait(State::Reading, app.settings.header_timeout);
        }
        let patience = match (app.draining(), self.fresh) {
            (true, true) => LINGER_IN_DRAIN,
            (true, false) => Duration::ZERO,
            (false, true) => app.settings.keep_alive.max(app.settings.header_timeout),
            (false, false) => app.settings.keep_alive,
        };
        self.wait(State::Idle, patience);
    }

    /// Idle, and the socket (asked just now, whatever events said) has nothing: go on waiting, or
    /// give the connection up if its time is over.
    fn settle(&mut self, app: &App) -> io::Result<()> {
        match self.deadline > Instant::now() {
            true => Ok(()),
            false if self.fresh => Err(ErrorKind::TimedOut.into()),
            false => self.half_close(app),
        }
    }

    /// No more answers will come; what still arrives is read and thrown away, because closing a
    /// socket with unread bytes resets it, and the reset may overtake the last answer.
    fn half_close(&mut self, app: &App) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let patience = if app.draining() {
            LINGER_IN_DRAIN
        } else {
            LINGER
        };
        self.wait(State::Lingering, patience);
        Ok(())
    }

    fn wait(&mut self, state: State, patience: Duration) {
        self.state = state;
        self.deadline = Instant::now() + patience.min(DAY);
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(bytes)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            length => Ok(length),
        }
    }

    /// Answers a request that is there, or reads on.
    fn serve(&mut self, app: &App) -> io::Result<()> {
        if self.take_request(app) {
            return Ok(());
        }
        let mut bytes = [0; 16 * 1024];
        let length = self.read(&mut bytes)?;
        self.input.extend_from_slice(&bytes[..length]);
        self.fresh = false;
        if self.state == State::Idle {
            self.wait(State::Reading, app.settings.header_timeout);
        }
        Ok(())
    }

    fn write(&mut self, app: &App) -> io::Result<()> {
        while !self.output.is_empty() {
            let written = self.stream.write(&self.output)?;
            self.output.drain(..written);
        }
        if let Some(request) = self.request.take() {
            request.finish(self.status);
        }
        if self.last {
            return self.half_close(app);
        }
        self.await_request(app);
        Ok(())
    }

    /// Takes a request out of the input and answers it; false if there is none yet.
    fn take_request(&mut self, app: &App) -> bool {
        let parsed = http::parse(&self.input);
        if !matches!(parsed, Parsed::Nothing) && self.request.is_none() {
            self.request = Some(app.in_flight.enter());
            self.wait(State::Reading, TRANSFER);
        }
        match parsed {
            Parsed::Nothing | Parsed::Head => return false,
            Parsed::Refused(status) => self.refuse(app, status),
            Parsed::Request(request, length) => {
                self.input.drain(..length);
                self.last = request.last;
                self.bodiless = request.method == "HEAD";
                self.route(app, &request);
            }
        }
        true
    }

    fn route(&mut self, app: &App, request: &Request) {
        let (method, path) = (request.method.as_str(), request.path.as_str());
        let seconds = path.strip_prefix("/slow/");
        match (method, path) {
            ("GET" | "HEAD", "/") => self.respond(app, 200, TEXT, b"hello"),
            ("GET" | "HEAD", "/health") => {
                let answer = app.health.answer();
                let status = if answer.healthy {
                    200
                } else {
                    app.settings.unhealthy_status
                };
                self.respond(app, status, "application/json", answer.body.as_bytes());
            }
            ("GET" | "HEAD", _) if seconds.is_some() => match seconds.and_then(seconds_of) {
                Some(length) => self.wait(State::Sleeping, length),
                None => self.respond(app, 400, TEXT, b"seconds, as in /slow/0.5"),
            },
            ("POST", "/echo") => self.respond(app, 200, "application/octet-stream", &request.body),
            (_, "/" | "/health" | "/echo") => self.respond(app, 405, TEXT, b"not so"),
            _ => self.respond(app, 404, TEXT, b"not found"),
        }
    }

    /// Answers what is no request, and takes none after it.
    fn refuse(&mut self, app: &App, status: u16) {
        self.last = true;
        self.respond(app, status, TEXT, b"refused\n");
    }

    /// Begins an answer. The client is told here that it is the last one.
    fn respond(&mut self, app: &App, status: u16, kind: &str, body: &[u8]) {
        self.last |= app.drain.stage().announces_close() || app.settings.keep_alive.is_zero();
        self.output = http::answer(status, kind, body, self.last, self.bodiless);
        self.status = status;
        self.wait(State::Writing, TRANSFER);
    }
}

impl App {
    fn draining(&self) -> bool {
        self.drain.stage() >= Stage::Draining
    }
}

fn seconds_of(text: &str) -> Option<Duration> {
    let seconds = Duration::try_from_secs_f64(text.parse().ok()?).ok()?;
    (seconds <= DAY).then_some(seconds)
}
