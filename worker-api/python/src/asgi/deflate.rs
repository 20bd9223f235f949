//! permessage-deflate (RFC 7692) around tungstenite, which has none: what comes compressed is made
//! plain before it reads it, and what goes is compressed before it writes it.
//!
//! No context is kept from message to message, in neither direction: a connection that is silent
//! costs nothing then. flate2, in Rust alone, since what it reads comes from strangers.

use std::cell::RefCell;
use std::io::Cursor;

use bytes::{Buf, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use http::{HeaderMap, header};
use tungstenite::Message;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};

/// What is agreed on.
pub(super) const AGREED: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// A shorter message is sent as it is.
const WORTH: usize = 512;
/// What a message is compressed to ends so, and it is left out (section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// No frame is like it: each bit that is reserved is set.
const WRONG: [u8; 6] = [0xf1, 0x80, 0, 0, 0, 0];

/// Whether one of the client's offers can be agreed to: any but those that want a window smaller
/// than ours (section 7.1).
pub(super) fn is_offered(fields: &HeaderMap) -> bool {
    let all = fields.get_all(header::SEC_WEBSOCKET_EXTENSIONS);
    let all = all.iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).any(|offer| {
        let mut words = offer.split(';').map(str::trim);
        words.next() == Some("permessage-deflate") && words.all(is_known)
    })
}

fn is_known(parameter: &str) -> bool {
    let (name, value) = match parameter.split_once('=') {
        Some((name, value)) => (name.trim_end(), Some(value.trim_start().trim_matches('"'))),
        None => (parameter, None),
    };
    let is_window = |value: &str| matches!(value.parse(), Ok(8..=15)) && !value.starts_with('0');
    match name {
        "server_no_context_takeover" | "client_no_context_takeover" => value.is_none(),
        "client_max_window_bits" => value.is_none_or(is_window),
        "server_max_window_bits" => value == Some("15"),
        _ => false,
    }
}

/// The message as it is to be sent: compressed, where that is worth it.
pub(super) fn squeezed(message: Message) -> Message {
    let (kind, data) = match &message {
        Message::Text(text) => (Data::Text, text.as_bytes()),
        Message::Binary(data) => (Data::Binary, &data[..]),
        _ => return message,
    };
    let Some(small) = squeeze(data) else {
        return message;
    };
    let mut frame = Frame::message(small, OpCode::Data(kind), true);
    frame.header_mut().rsv1 = true;
    Message::Frame(frame)
}

/// Nothing, if it would not be smaller.
fn squeeze(data: &[u8]) -> Option<Vec<u8>> {
    thread_local! {
        static TOOL: RefCell<Option<Compress>> = const { RefCell::new(None) };
    }
    if data.len() < WORTH {
        return None;
    }
    TOOL.with_borrow_mut(|tool| {
        let tool = tool.get_or_insert_with(|| Compress::new(Compression::fast(), false));
        tool.reset();
        let mut small = Vec::with_capacity(data.len());
        tool.compress_vec(data, &mut small, FlushCompress::Sync)
            .ok()?;
        // Where there was no room left, there may be more to come.
        let is_whole = tool.total_in() == data.len() as u64 && small.len() < data.len();
        let len = small.strip_suffix(&TAIL)?.len();
        small.truncate(len);
        is_whole.then_some(small)
    })
}

/// What comes, on its way to tungstenite. Frames that are not compressed pass as they are, and so
/// does what is wrong with them.
pub(super) struct Inflow {
    /// Bytes of a message, at most.
    limit: usize,
    raw: BytesMut,
    plain: BytesMut,
    /// Bytes of a frame that passes.
    passing: u64,
    /// A compressed message, until its last frame.
    message: Option<Inflating>,
    /// The frame of it that is under way.
    piece: Option<Piece>,
    /// What follows is not read any more.
    is_wrong: bool,
}

struct Inflating {
    kind: OpCode,
    tool: Box<Decompress>,
    text: Vec<u8>,
}

struct Piece {
    left: u64,
    key: [u8; 4],
    is_last: bool,
}

/// Why a message cannot be read.
enum Fault {
    Corrupt,
    TooLong,
}

impl Inflow {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            raw: BytesMut::new(),
            plain: BytesMut::new(),
            passing: 0,
            message: None,
            piece: None,
            is_wrong: false,
        }
    }

    /// Takes what has come.
    pub(super) fn take(&mut self, came: &[u8]) {
        if self.is_wrong {
            return;
        }
        self.raw.extend_from_slice(came);
        loop {
            match self.step() {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => return self.refuse(&fault),
            }
        }
    }

    /// Gives what is plain by now: how many bytes.
    pub(super) fn give(&mut self, buf: &mut [u8]) -> usize {
        let len = buf.len().min(self.plain.len());
        self.plain.copy_to_slice(&mut buf[..len]);
        len
    }

    /// `false` if that needs more to come.
    fn step(&mut self) -> Result<bool, Fault> {
        if self.passing > 0 {
            let passes = self.next(self.passing);
            self.passing -= passes.len() as u64;
            self.plain.extend_from_slice(&passes);
            return Ok(!passes.is_empty());
        }
        if let Some(mut piece) = self.piece.take() {
            let mut some = self.next(piece.left);
            let goes_on = !some.is_empty() || piece.left == 0;
            piece.left -= some.len() as u64;
            piece.unmask(&mut some);
            if let Some(message) = &mut self.message {
                message.inflate(&some, self.limit)?;
            }
            match (piece.left, piece.is_last) {
                (0, true) => self.finish()?,
                (0, false) => {}
                _ => self.piece = Some(piece),
            }
            return Ok(goes_on);
        }
        self.begin()
    }

    fn next(&mut self, most: u64) -> BytesMut {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        self.raw.split_to(most.min(self.raw.len()))
    }

    /// At the beginning of a frame.
    fn begin(&mut self) -> Result<bool, Fault> {
        let mut cursor = Cursor::new(&self.raw[..]);
        let (header, len) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok(false),
            Err(_) => return Err(Fault::Corrupt),
        };
        let head = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        let begins = matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
        let goes_on = header.opcode == OpCode::Data(Data::Continue);
        match (&self.message, header.mask) {
            // One message after the other.
            (Some(_), _) if begins => return Err(Fault::Corrupt),
            (None, Some(_)) if begins && header.rsv1 => {
                self.message = Some(Inflating {
                    kind: header.opcode,
                    tool: Box::new(Decompress::new(false)),
                    text: Vec::new(),
                });
            }
            (Some(_), Some(_)) if goes_on && !header.rsv1 => {}
            (Some(_), _) if goes_on => return Err(Fault::Corrupt),
            _ => {
                let head = self.raw.split_to(head);
                self.plain.extend_from_slice(&head);
                self.passing = len;
                return Ok(true);
            }
        }
        if header.rsv2 || header.rsv3 {
            return Err(Fault::Corrupt);
        }
        self.raw.advance(head);
        self.piece = Some(Piece {
            left: len,
            key: header.mask.unwrap_or_default(),
            is_last: header.is_final,
        });
        Ok(true)
    }

    /// The message is whole: it passes in one frame.
    fn finish(&mut self) -> Result<(), Fault> {
        let Some(mut message) = self.message.take() else {
            return Ok(());
        };
        message.inflate(&TAIL, self.limit)?;
        self.pass(message.kind, message.text.len() as u64, &message.text)
    }

    fn refuse(&mut self, fault: &Fault) {
        self.is_wrong = true;
        // Of either tungstenite makes the error that it would make of the client's own.
        let told = match fault {
            Fault::TooLong => self.pass(OpCode::Data(Data::Binary), u64::MAX >> 1, &[]),
            Fault::Corrupt => Err(Fault::Corrupt),
        };
        if told.is_err() {
            self.plain.extend_from_slice(&WRONG);
        }
    }

    fn pass(&mut self, opcode: OpCode, len: u64, text: &[u8]) -> Result<(), Fault> {
        let header = FrameHeader {
            opcode,
            // A mask that changes nothing.
            mask: Some([0; 4]),
            ..FrameHeader::default()
        };
        let mut head = Vec::new();
        let written = header.format(len, &mut head);
        written.map_err(|_| Fault::Corrupt)?;
        self.plain.extend_from_slice(&head);
        self.plain.extend_from_slice(text);
        Ok(())
    }
}

impl Piece {
    fn unmask(&mut self, bytes: &mut [u8]) {
        for (byte, key) in bytes.iter_mut().zip(self.key.iter().cycle()) {
            *byte ^= key;
        }
        self.key.rotate_left(bytes.len() % 4);
    }
}

impl Inflating {
    fn inflate(&mut self, mut some: &[u8], limit: usize) -> Result<(), Fault> {
        loop {
            // One byte more than it may have shows that it is too long.
            let most = limit.saturating_add(1) - self.text.len();
            let room = some.len().saturating_mul(2).max(256).min(most);
            self.text.reserve(room);
            let (before, had) = (self.tool.total_in(), self.text.len());
            let flush = FlushDecompress::None;
            let status = self.tool.decompress_vec(some, &mut self.text, flush);
            let status = status.map_err(|_| Fault::Corrupt)?;
            let read = usize::try_from(self.tool.total_in() - before).unwrap_or(usize::MAX);
            some = some.get(read..).unwrap_or_default();
            if self.text.len() > limit {
                return Err(Fault::TooLong);
            }
            let is_full = self.text.len() == self.text.capacity();
            match status {
                // The peer has ended its stream: another one follows (section 7.2.3.4).
                Status::StreamEnd => self.tool.reset(false),
                _ if !is_full && some.is_empty() => return Ok(()),
                _ if !is_full && read == 0 && self.text.len() == had => return Err(Fault::Corrupt),
                _ => {}
            }
            if some.is_empty() && !is_full {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
