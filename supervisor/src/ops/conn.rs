//! One client: read a request head, write the answer, close so that the answer arrives.
//!
//! Only non-blocking calls, and each stage works until the socket would block, as edge-triggered
//! readiness asks for. The clock is the server's: a connection only knows its deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::respond::{Answer, MAX_HEAD};

/// How much a client may still send after its answer before it is cut off, in bytes.
const LINGER_BYTES: usize = 1024 * 1024;

/// What a call of [`Conn::advance`] led to.
pub(super) struct Progress {
    /// Whether the connection goes on; if not it is to be dropped.
    pub(super) open: bool,
    /// Whether an answer "not ready" was handed to the kernel as a whole.
    pub(super) told_unready: bool,
}

/// A client's connection. Dropping it closes it.
pub(super) struct Conn {
    stream: TcpStream,
    /// When it is cut off, whatever its stage.
    pub(super) deadline: Instant,
    /// Its place among all that were ever accepted: the smaller, the older.
    pub(super) number: u64,
    stage: Stage,
}

/// Each says what is awaited of the client.
enum Stage {
    /// The rest of its request head; this has come.
    Asking { head: Vec<u8> },
    /// That it takes the rest of its answer.
    Answering { answer: Answer, sent: usize },
    /// That it closes. Until then what it sends is thrown away: to close a socket that holds
    /// unread bytes, or gets more, resets it, and a reset can destroy the answer on its way.
    Lingering { budget: usize },
}

enum Step {
    Blocked,
    Asked(Answer),
    Answered,
    Gone,
}

impl Conn {
    pub(super) fn new(stream: TcpStream, deadline: Instant, number: u64) -> Conn {
        let stage = Stage::Asking { head: Vec::new() };
        Conn {
            stream,
            deadline,
            number,
            stage,
        }
    }

    /// Asks for events under `token`.
    ///
    /// # Errors
    ///
    /// What epoll says, such as that its watches are used up.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.stream.register(registry, token, interest)
    }

    /// Goes as far as the socket allows. `respond` gets the head so far and whether it has ended.
    pub(super) fn advance(
        &mut self,
        respond: &mut dyn FnMut(&[u8], bool) -> Option<Answer>,
    ) -> Progress {
        let mut told_unready = false;
        loop {
            let step = match &mut self.stage {
                Stage::Asking { head } => ask(&mut self.stream, head, respond),
                Stage::Answering { answer, sent } => write(&mut self.stream, answer, sent),
                Stage::Lingering { budget } => discard(&mut self.stream, budget),
            };
            self.stage = match step {
                Step::Asked(answer) => Stage::Answering { answer, sent: 0 },
                Step::Answered => {
                    told_unready |= self.tells_unready();
                    Stage::Lingering {
                        budget: LINGER_BYTES,
                    }
                }
                Step::Blocked | Step::Gone => {
                    let open = matches!(step, Step::Blocked);
                    return Progress { open, told_unready };
                }
            };
        }
    }

    /// Whether a whole request has come.
    pub(super) fn has_asked(&self) -> bool {
        !matches!(self.stage, Stage::Asking { .. })
    }

    /// Whether a part of the answer is still to be written.
    pub(super) fn is_answering(&self) -> bool {
        matches!(self.stage, Stage::Answering { .. })
    }

    fn tells_unready(&self) -> bool {
        matches!(&self.stage, Stage::Answering { answer, .. } if answer.unready)
    }
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Reads up to the longest head, then looks at it once.
fn ask(
    stream: &mut TcpStream,
    head: &mut Vec<u8>,
    respond: &mut dyn FnMut(&[u8], bool) -> Option<Answer>,
) -> Step {
    let mut chunk = [0; 2048];
    let ended = loop {
        let room = chunk.len().min(MAX_HEAD - head.len());
        if room == 0 {
            break false;
        }
        match stream.read(&mut chunk[..room]) {
            Ok(0) => break true,
            Ok(count) => head.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Step::Gone,
        }
    };
    if head.is_empty() {
        return if ended { Step::Gone } else { Step::Blocked };
    }
    respond(head, ended).map_or(Step::Blocked, Step::Asked)
}

/// Writes, and at the end says with a half-close that nothing follows.
fn write(stream: &mut TcpStream, answer: &Answer, sent: &mut usize) -> Step {
    while *sent < answer.bytes.len() {
        match stream.write(&answer.bytes[*sent..]) {
            Ok(0) => return Step::Gone,
            Ok(count) => *sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Blocked,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Step::Gone,
        }
    }
    match stream.shutdown(Shutdown::Write) {
        Ok(()) => Step::Answered,
        Err(_) => Step::Gone,
    }
}

/// Reads and forgets, until the client closes or has sent too much.
fn discard(stream: &mut TcpStream, budget: &mut usize) -> Step {
    let mut chunk = [0; 8 * 1024];
    while *budget > 0 {
        match stream.read(&mut chunk) {
            Ok(0) => return Step::Gone,
            Ok(count) => *budget = budget.saturating_sub(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Blocked,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Step::Gone,
        }
    }
    Step::Gone
}
