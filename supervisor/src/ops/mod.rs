//! The ops listener: `/livez`, `/readyz`, `/status` and `/metrics`, answered by the master itself,
//! in every phase and to the last moment.
//!
//! It lives in the master's mio loop and must never hold it up: every call is non-blocking, a
//! client has 5 s for its whole exchange, there are at most 64 at once, and a new one pushes out
//! the oldest that has not even asked. Idle, it has no timer, no buffer and no connection.
//!
//! - `mod.rs`: the listener, its connections, their deadlines
//! - `conn.rs`: one connection
//! - `respond.rs`: pure: request bytes in, answer bytes out
//! - `view.rs`, `metrics.rs`: what is told

mod conn;
mod counts;
mod metrics;
mod respond;
mod view;

#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

pub use counts::Counts;
pub use metrics::Metrics;
pub use view::{Depth, HostView, ReloadView, RequestView, View, WorkerView};

use conn::Conn;

/// Connections at once.
const MAX_CONNECTIONS: usize = 64;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 128;

/// What a client has for its whole exchange, from accept to close.
const EXCHANGE: Duration = Duration::from_secs(5);

/// How long accept is left alone when the kernel cannot give a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts in one go; then the rest of the loop has its turn.
const ACCEPT_BURST: usize = 128;

/// The master's own HTTP listener. See the [module](self).
pub struct OpsServer {
    listener: TcpListener,
    address: SocketAddr,
    tokens: Range<usize>,
    /// The connection of token `tokens.start + 1 + index`. Grows to the most that were ever open.
    conns: Vec<Option<Conn>>,
    accepted: u64,
    /// Set while the listener may hold connections that could not be accepted.
    accept_again_at: Option<Instant>,
    /// Whether the last accept failed: only the first failure of a row is logged.
    accept_failed: bool,
    answered_unready: u64,
}

impl OpsServer {
    /// How many tokens a server can use: the listener's and one for each connection.
    pub const TOKENS: usize = 1 + MAX_CONNECTIONS;

    /// Listens on `addr` and asks `registry` for its events. Of `tokens`, the first is the
    /// listener's and each other one allows a connection, up to [`OpsServer::TOKENS`] in all.
    ///
    /// # Errors
    ///
    /// What socket, bind and listen say (`AddrInUse`, `PermissionDenied`, ...), or `InvalidInput`
    /// if there are fewer than two tokens.
    pub fn bind(
        addr: SocketAddr,
        registry: &Registry,
        tokens: Range<usize>,
    ) -> io::Result<OpsServer> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        OpsServer::from_listener(socket.into(), registry, tokens)
    }

    /// The same on a socket that listens already, such as one that was kept across a reload or
    /// inherited. It is made non-blocking and close-on-exec.
    ///
    /// # Errors
    ///
    /// What the kernel says if `listener` is not a TCP listener, or `InvalidInput` if there are
    /// fewer than two tokens.
    pub fn from_listener(
        listener: std::net::TcpListener,
        registry: &Registry,
        tokens: Range<usize>,
    ) -> io::Result<OpsServer> {
        if tokens.len() < 2 {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "the ops listener needs at least two tokens",
            ));
        }
        listener.set_nonblocking(true)?;
        SockRef::from(&listener).set_cloexec(true)?;
        let address = listener.local_addr()?;
        let mut listener = TcpListener::from_std(listener);
        listener.register(registry, Token(tokens.start), Interest::READABLE)?;
        Ok(OpsServer {
            listener,
            address,
            tokens,
            conns: Vec::new(),
            accepted: 0,
            accept_again_at: None,
            accept_failed: false,
            answered_unready: 0,
        })
    }

    /// The address it listens on, with the port that the kernel chose where port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Whether an event with this token is for [`OpsServer::ready`].
    pub fn owns(&self, token: Token) -> bool {
        self.tokens.contains(&token.0)
    }

    /// How many `/readyz` answers were 503 and handed to the kernel as a whole.
    pub fn answered_unready(&self) -> u64 {
        self.answered_unready
    }

    /// Does what an event with one of its tokens allows, until the sockets would block. `view` is
    /// asked once for each answer that shows the pod.
    pub fn ready(
        &mut self,
        token: Token,
        registry: &Registry,
        now: Instant,
        metrics: &Metrics,
        view: &mut dyn FnMut(Depth) -> View,
    ) {
        let mut respond = |head: &[u8], ended| respond::respond(head, ended, metrics, view);
        match token.0.checked_sub(self.tokens.start) {
            Some(0) => self.accept(registry, now, &mut respond),
            Some(place) => self.advance(place - 1, &mut respond),
            None => {}
        }
    }

    /// When [`OpsServer::expire`] is due; none while no client is connected.
    pub fn next_deadline(&self) -> Option<Instant> {
        let conns = self.conns.iter().flatten().map(|conn| conn.deadline);
        conns.chain(self.accept_again_at).min()
    }

    /// Cuts off the clients whose time is over at `now`, and tries again to accept where that
    /// was put off.
    pub fn expire(&mut self, now: Instant, registry: &Registry) {
        for slot in &mut self.conns {
            slot.take_if(|conn| conn.deadline <= now);
        }
        if self.accept_again_at.is_some_and(|due| due <= now) {
            self.wake_listener(registry, now);
        }
    }

    /// The last chance before the master exits: blocks until every answer that was begun is
    /// written, at most until `deadline`, then closes every connection. Returns how many clients
    /// did not get their whole answer. Where clients read at all this does not wait.
    pub fn flush(&mut self, deadline: Instant) -> usize {
        loop {
            for index in 0..self.conns.len() {
                if self.conns[index].as_ref().is_some_and(Conn::has_asked) {
                    self.advance(index, &mut |_, _| None);
                }
            }
            let pending = self
                .conns
                .iter()
                .flatten()
                .filter(|conn| conn.is_answering());
            let mut pending: Vec<PollFd<'_>> = pending
                .map(|conn| PollFd::new(conn, PollFlags::OUT))
                .collect();
            if pending.is_empty() || !wait_for_any(&mut pending, deadline) {
                let given_up = pending.len();
                self.conns.clear();
                return given_up;
            }
        }
    }
}

impl AsFd for OpsServer {
    /// The listening socket, to be handed on to another image of the master.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// How a head is answered: [`respond::respond`] with all but the head filled in.
type Respond<'a> = dyn FnMut(&[u8], bool) -> Option<respond::Answer> + 'a;

impl OpsServer {
    fn accept(&mut self, registry: &Registry, now: Instant, respond: &mut Respond<'_>) {
        self.accept_again_at = None;
        for _ in 0..ACCEPT_BURST {
            let error = match self.listener.accept() {
                Ok((stream, _)) => {
                    self.accepted += 1;
                    let conn = Conn::new(stream, now + EXCHANGE, self.accepted);
                    self.admit(conn, registry, respond);
                    continue;
                }
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::WouldBlock => {
                    self.accept_failed = false;
                    return;
                }
                // The client gave up before it was accepted.
                ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                _ if is_out_of_descriptors(&error) && self.drop_oldest_asking() => {}
                _ => {
                    if !std::mem::replace(&mut self.accept_failed, true) {
                        tracing::warn!(%error, "the ops listener cannot accept, will try again");
                    }
                    self.accept_again_at = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        self.wake_listener(registry, now);
    }

    /// Answers at once if the request is there already, as with most probes. What stays open gets
    /// a place, if need be that of another.
    fn admit(&mut self, mut conn: Conn, registry: &Registry, respond: &mut Respond<'_>) {
        let progress = conn.advance(respond);
        self.answered_unready += u64::from(progress.told_unready);
        if !progress.open {
            return;
        }
        let index = self.free_place();
        let token = Token(self.tokens.start + 1 + index);
        match conn.register(registry, token) {
            Ok(()) => self.conns[index] = Some(conn),
            Err(error) => tracing::warn!(%error, "the ops listener cannot watch a connection"),
        }
    }

    fn advance(&mut self, index: usize, respond: &mut Respond<'_>) {
        // An event may be older than the connection that has its place now: then it finds nothing
        // to do. It may also find no connection.
        let Some(slot) = self.conns.get_mut(index) else {
            return;
        };
        let Some(conn) = slot else {
            return;
        };
        let progress = conn.advance(respond);
        self.answered_unready += u64::from(progress.told_unready);
        if !progress.open {
            *slot = None;
        }
    }

    /// An empty place; when all are taken, that of the client that has the least to lose: the
    /// oldest that has not asked, else the oldest that has its answer, else the oldest.
    fn free_place(&mut self) -> usize {
        if let Some(free) = self.conns.iter().position(Option::is_none) {
            return free;
        }
        if self.conns.len() < MAX_CONNECTIONS.min(self.tokens.len() - 1) {
            self.conns.push(None);
            return self.conns.len() - 1;
        }
        let rank = |slot: &Option<Conn>| {
            slot.as_ref()
                .map(|conn| (conn.has_asked(), conn.is_answering(), conn.number))
        };
        let places = 0..self.conns.len();
        let oldest = places.min_by_key(|&index| rank(&self.conns[index]));
        let oldest = oldest.unwrap_or_default();
        self.conns[oldest] = None;
        oldest
    }

    /// Whether there was one.
    fn drop_oldest_asking(&mut self) -> bool {
        let asking = self
            .conns
            .iter_mut()
            .filter(|slot| slot.as_ref().is_some_and(|conn| !conn.has_asked()));
        let oldest = asking.min_by_key(|slot| slot.as_ref().map(|conn| conn.number));
        oldest.is_some_and(|slot| slot.take().is_some())
    }

    /// Makes epoll tell again whether there is something to accept: edge-triggered, it tells of
    /// a connection only once.
    fn wake_listener(&mut self, registry: &Registry, now: Instant) {
        let token = Token(self.tokens.start);
        let woken = self
            .listener
            .reregister(registry, token, Interest::READABLE);
        self.accept_again_at = woken.err().map(|_| now + ACCEPT_PAUSE);
    }
}

/// Blocks until one of `sockets` may go on (true) or `deadline` has passed.
fn wait_for_any(sockets: &mut [PollFd<'_>], deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    match Timespec::try_from(left) {
        Ok(left_spec) if !left.is_zero() => matches!(
            rustix::event::poll(sockets, Some(&left_spec)),
            Ok(1..) | Err(Errno::INTR)
        ),
        _ => false,
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}
