//! WebSocket frames on a connection that has switched to them: tungstenite's, polled.
//!
//! tungstenite, since it needs no runtime, passes Autobahn's tests, and lets one poll it through
//! `Read` and `Write` that say "would block". It has no permessage-deflate: see `deflate`.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};
use worker_http::hosted::Switched;

use super::deflate::{Inflow, squeezed};

/// Read at once, at most.
const READ: usize = 8 << 10;
/// Messages are read ahead of the app, so that pings are answered and a close is seen, until there
/// are so many of them,
const MESSAGES: usize = 32;
/// or so many bytes.
const BYTES: usize = 1 << 20;

/// See the module.
pub(super) struct Frames {
    socket: WebSocket<Polled>,
    inbox: VecDeque<Message>,
    /// Bytes in it.
    size: usize,
    /// How it ends, once that is known.
    end: Option<Close>,
    /// The peer was asked whether it is there, and nothing has come since.
    asked: bool,
    /// We have said that it ends.
    said: bool,
    /// Both have, or the connection is lost.
    is_over: bool,
}

/// Why a WebSocket was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Close {
    pub(super) code: u16,
    pub(super) reason: String,
}

/// What comes of an attempt to receive.
pub(super) enum Came {
    Message(Message),
    Close(Close),
    Nothing,
}

impl Frames {
    /// Messages may be `limit` bytes long, and compressed, if the peers have agreed on that. The waker
    /// is woken when there is something to [pump](Self::pump).
    pub(super) fn new(switched: Switched, waker: Waker, limit: usize, deflates: bool) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(0)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        let polled = Polled {
            switched,
            waker,
            inflow: deflates.then(|| Inflow::new(limit)),
            heard: false,
            blocked: false,
        };
        Self {
            socket: WebSocket::from_raw_socket(polled, Role::Server, Some(config)),
            inbox: VecDeque::new(),
            size: 0,
            end: None,
            asked: false,
            said: false,
            is_over: false,
        }
    }

    /// Reads what has come and writes what is waiting. `false` if no more will come or go.
    pub(super) fn pump(&mut self) -> bool {
        while !self.is_over && self.has_room() {
            match self.socket.read() {
                Ok(Message::Close(frame)) => self.end_with(close_of(frame)),
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                    // What comes after our close nobody waits for.
                    if self.end.is_none() {
                        self.size += message.len();
                        self.inbox.push_back(message);
                    }
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => self.fail(&error),
            }
        }
        self.flush();
        !self.is_over
    }

    /// The next message, in its turn, or how it ended.
    pub(super) fn receive(&mut self) -> Came {
        if self.inbox.is_empty() {
            self.pump();
        }
        if let Some(message) = self.inbox.pop_front() {
            self.size -= message.len();
            return Came::Message(message);
        }
        match &self.end {
            Some(close) => Came::Close(close.clone()),
            None => Came::Nothing,
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The WebSocket was closed.
    pub(super) fn send(&mut self, message: Message) -> io::Result<()> {
        if self.end.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let deflates = self.socket.get_ref().inflow.is_some();
        let message = if deflates { squeezed(message) } else { message };
        match self.socket.write(message) {
            Ok(()) => {}
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                self.fail(&error);
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        self.flush();
        Ok(())
    }

    /// Whether all that was sent has left. If not, it is when the waker was woken and this was
    /// pumped often enough.
    pub(super) fn flush(&mut self) -> bool {
        if self.is_over {
            return true;
        }
        match self.socket.flush() {
            Ok(()) => true,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                self.fail(&error);
                true
            }
        }
    }

    /// Some time has passed: asks the peer whether it is there, if it was silent, and took nothing
    /// of what waits for it. `false` if it was asked that the last time, and there was nothing since.
    pub(super) fn beat(&mut self) -> bool {
        // Nobody may have read since the app was behind.
        self.pump();
        let heard = std::mem::take(&mut self.socket.get_mut().heard);
        // While the app is behind, nothing is read.
        if heard || self.end.is_some() || !self.has_room() {
            self.asked = false;
            return true;
        }
        if std::mem::replace(&mut self.asked, true) {
            return false;
        }
        match self.socket.write(Message::Ping(Bytes::new())) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.fail(&error),
            Ok(()) => {}
        }
        self.flush();
        true
    }

    fn has_room(&self) -> bool {
        self.inbox.len() < MESSAGES && self.size < BYTES
    }

    /// Says that it ends; the peer says so as well when it has heard.
    pub(super) fn close(&mut self, close: Close) {
        if std::mem::replace(&mut self.said, true) {
            return;
        }
        let is_told = !matches!(close.code, 1005 | 1006 | 1015);
        let frame = is_told.then(|| CloseFrame {
            code: CloseCode::from(close.code),
            reason: close.reason.as_str().into(),
        });
        // A failure is found by the next read.
        let _ = self.socket.close(frame);
        self.end_with(close);
        self.flush();
    }

    /// Whether all that came was received.
    pub(super) fn is_read(&self) -> bool {
        self.inbox.is_empty()
    }

    /// Ends it without another word; tells how it does.
    pub(super) fn end_at_once(&mut self) -> Close {
        self.is_over = true;
        self.end.clone().unwrap_or_else(|| Close::new(1006, ""))
    }

    fn end_with(&mut self, close: Close) {
        self.end.get_or_insert(close);
    }

    fn fail(&mut self, error: &Error) {
        let code = match error {
            Error::ConnectionClosed => 1005,
            Error::Capacity(CapacityError::MessageTooLong { .. }) => 1009,
            Error::Utf8(_) => 1007,
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => 1006,
            Error::Protocol(_) | Error::AttackAttempt => 1002,
            _ => 1006,
        };
        if matches!(code, 1002 | 1007 | 1009) {
            self.close(Close::new(code, ""));
        }
        self.end_with(Close::new(code, ""));
        self.is_over = true;
    }
}

impl Close {
    pub(super) fn new(code: u16, reason: &str) -> Self {
        let reason = reason.to_owned();
        Self { code, reason }
    }
}

fn close_of(frame: Option<CloseFrame>) -> Close {
    match frame {
        Some(frame) => Close::new(frame.code.into(), &frame.reason),
        None => Close::new(1005, ""),
    }
}

/// The connection, as tungstenite takes it.
struct Polled {
    switched: Switched,
    waker: Waker,
    /// Where messages may be compressed.
    inflow: Option<Inflow>,
    /// Something has come, or was taken of what waited.
    heard: bool,
    /// Something waits for the peer to take what was written before.
    blocked: bool,
}

impl Polled {
    fn read_raw(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut cx = Context::from_waker(&self.waker);
        let read = or_would_block(self.switched.poll_read(&mut cx, buf));
        self.heard |= matches!(read, Ok(1..));
        read
    }
}

impl Read for Polled {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match &mut self.inflow {
                None => return self.read_raw(buf),
                Some(inflow) => match inflow.give(buf) {
                    0 => {}
                    len => return Ok(len),
                },
            }
            let mut raw = [0; READ];
            let len = self.read_raw(&mut raw)?;
            match &mut self.inflow {
                Some(inflow) if len > 0 => inflow.take(&raw[..len]),
                _ => return Ok(0),
            }
        }
    }
}

impl Write for Polled {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut cx = Context::from_waker(&self.waker);
        let written = or_would_block(self.switched.poll_write(&mut cx, buf));
        match &written {
            Ok(1..) => self.heard |= std::mem::take(&mut self.blocked),
            Err(error) => self.blocked |= error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => {}
        }
        written
    }

    /// Nothing is kept here.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn or_would_block<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}
