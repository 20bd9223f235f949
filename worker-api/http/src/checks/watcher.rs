//! Reads what comes on a connection before hyper does, and says how much of it hyper may have.

use super::chunk::{SizeLine, size_line};
use super::head::{Edit, Framing, Head, Message, Oddities, Sequel};
use super::lines::Lines;
use super::refusal::Refusal;
use super::rules::Rules;
use super::trailers::Trailers;

/// A chunk's size fits into a line of so many bytes, however short fields have to be.
const LEAST_SIZE_LINE: usize = 18;

/// Reads the messages of one connection, one after the other, and stops at the first byte that
/// it does not like.
///
/// hyper gets only what was passed here, in pieces that are complete: a head with its empty line,
/// a chunk-size line, a trailer section. So hyper's leniency is never asked for anything, and the
/// two agree about where each message begins and ends, because what passes can be read in one way
/// only.
#[derive(Clone, Debug)]
pub struct Watcher {
    rules: Rules,
    /// The peer is a proxy whose fields are believed.
    trusts: bool,
    state: State,
    sequel: Sequel,
    messages: u64,
    /// Bytes of the chunks of the message.
    body: u64,
    oddities: Vec<Oddity>,
    edits: Vec<Edit>,
    fault: Option<Fault>,
}

/// What comes next.
#[derive(Clone, Debug)]
enum State {
    Head(Head),
    /// So many bytes of a body of known length.
    Body(u64),
    Size(Lines),
    /// So many bytes of a chunk.
    Chunk(u64),
    ChunkEnd,
    Trailers(Trailers),
    /// The app's word on whether it takes the connection over.
    Verdict,
    /// Nothing that concerns us.
    Over,
}

/// What was found to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Why the sender is refused.
    pub refusal: Refusal,
    /// The message whose body it is in, counted from 1; `None` if it is in a head, so that the
    /// message never began.
    pub body_of: Option<u64>,
}

/// What the app is to know of a message, or not to see of it, and hyper does not say. Most
/// messages have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oddity {
    /// The message, counted from 1.
    pub message: u64,
    /// A believed proxy speaks of the client.
    pub forwarded: bool,
    /// What it says of the client's scheme.
    pub https: Option<bool>,
    /// It is the last message of the connection.
    pub last: bool,
    /// The target as it was sent, if the app sees it in another way.
    pub target: Option<Box<[u8]>>,
}

/// What keeps a watcher from reading on, other than a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The app decides what comes behind the last message: see [`Watcher::declined`].
    Verdict,
    /// The last message was the last one.
    Over,
}

impl Watcher {
    /// A watcher of a connection whose peer is, or is not, a proxy that is believed.
    pub fn new(rules: Rules, trusts: bool) -> Self {
        Self {
            rules,
            trusts,
            state: State::Head(Head::default()),
            sequel: Sequel::Message,
            messages: 0,
            body: 0,
            oddities: Vec::new(),
            edits: Vec::new(),
            fault: None,
        }
    }

    /// Reads on: so many of these bytes may go to hyper. They must begin with those that the last
    /// call did not pass, followed by what has come since. [`edited`](Self::edited) comes next.
    #[inline]
    pub fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while self.fault.is_none() {
            let rest = bytes.get(passed..).unwrap_or_default();
            match self.step(rest, passed) {
                Ok(0) => break,
                Ok(len) => passed += len,
                Err(refusal) => self.refuse(refusal),
            }
        }
        passed
    }

    /// What hyper is to get instead of the bytes that were passed last; `None` in almost every
    /// case, for those bytes themselves.
    #[inline]
    pub fn edited(&mut self, passed: &[u8]) -> Option<Vec<u8>> {
        if self.edits.is_empty() {
            return None;
        }
        let mut edited = Vec::with_capacity(passed.len() + 64);
        let mut done = 0;
        for Edit { range, with } in self.edits.drain(..) {
            edited.extend_from_slice(passed.get(done..range.start).unwrap_or_default());
            edited.extend_from_slice(&with);
            done = range.end;
        }
        edited.extend_from_slice(passed.get(done..).unwrap_or_default());
        Some(edited)
    }

    /// The peer will send no more.
    pub fn end(&mut self) {
        if self.fault.is_none() && matches!(self.state, State::ChunkEnd | State::Trailers(_)) {
            self.refuse(Refusal::ChunkEnd);
        }
    }

    /// The peer has had its time for the body that it sends.
    pub fn give_up(&mut self) {
        if self.fault.is_none() && self.is_in_body() {
            self.refuse(Refusal::BodyTimeout);
        }
    }

    /// Whether what comes next is a part of a request's body.
    #[inline]
    pub fn is_in_body(&self) -> bool {
        !matches!(self.state, State::Head(_) | State::Verdict | State::Over)
    }

    /// What is wrong with the bytes that were not passed.
    #[inline]
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Why no bytes are passed, if there is no fault.
    #[inline]
    pub fn wait(&self) -> Option<Wait> {
        match self.state {
            State::Verdict => Some(Wait::Verdict),
            State::Over => Some(Wait::Over),
            _ => None,
        }
    }

    /// The app has answered without taking the connection over.
    pub fn declined(&mut self) {
        if matches!(self.state, State::Verdict) {
            self.state = match self.sequel {
                Sequel::Tunnel | Sequel::Nothing => State::Over,
                Sequel::Message | Sequel::Undecided => State::Head(Head::default()),
            };
        }
    }

    /// Whether these bytes, which were not passed, are no part of a message yet.
    pub fn is_blank(&self, bytes: &[u8]) -> bool {
        match &self.state {
            State::Head(head) => head.is_blank(bytes),
            _ => bytes.is_empty(),
        }
    }

    /// Whether there is something to be taken by [`take_oddities`](Self::take_oddities).
    #[inline]
    pub fn is_odd(&self) -> bool {
        !self.oddities.is_empty()
    }

    /// What is odd about the messages whose heads were passed since this was asked last.
    #[inline]
    pub fn take_oddities(&mut self) -> Vec<Oddity> {
        std::mem::take(&mut self.oddities)
    }

    fn refuse(&mut self, refusal: Refusal) {
        let body_of = self.is_in_body().then_some(self.messages);
        self.fault = Some(Fault { refusal, body_of });
    }

    /// Reads the next piece, if it is complete: its length, which is 0 if it is not.
    #[inline]
    fn step(&mut self, bytes: &[u8], at: usize) -> Result<usize, Refusal> {
        match &mut self.state {
            State::Head(head) => {
                let Some(message) = head.read(bytes, &self.rules, self.trusts)? else {
                    return Ok(0);
                };
                let len = message.len;
                self.begin(message, bytes, at);
                Ok(len)
            }
            State::Body(left) => match take(left, bytes) {
                (passed, true) => {
                    self.next_message();
                    Ok(passed)
                }
                (passed, false) => Ok(passed),
            },
            State::Chunk(left) => match take(left, bytes) {
                (passed, true) => {
                    self.state = State::ChunkEnd;
                    Ok(passed)
                }
                (passed, false) => Ok(passed),
            },
            State::Size(_) | State::ChunkEnd | State::Trailers(_) => self.step_chunked(bytes, at),
            State::Verdict | State::Over => Ok(0),
        }
    }

    fn step_chunked(&mut self, bytes: &[u8], at: usize) -> Result<usize, Refusal> {
        match &mut self.state {
            State::Size(lines) => {
                let line = lines.next(bytes)?;
                let len = line.map_or(bytes.len(), |_| lines.complete());
                if len > self.rules.field.max(LEAST_SIZE_LINE) {
                    return Err(Refusal::ChunkSize);
                }
                let Some(line) = line else {
                    return Ok(0);
                };
                let SizeLine { size, extensions } = size_line(line)?;
                if extensions > 0 {
                    // They are nobody's, and hyper gives a body up that has many.
                    let end = at + len - b"\r\n".len();
                    let (range, with) = (end - extensions..end, Vec::new());
                    self.edits.push(Edit { range, with });
                }
                self.chunk(size)?;
                Ok(len)
            }
            State::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.state = State::Size(Lines::default());
                    Ok(2)
                }
                [] | [b'\r'] => Ok(0),
                _ => Err(Refusal::ChunkEnd),
            },
            State::Trailers(trailers) => {
                let Some((len, edits)) = trailers.read(bytes, &self.rules)? else {
                    return Ok(0);
                };
                self.edit(edits, at);
                self.next_message();
                Ok(len)
            }
            _ => Ok(0),
        }
    }

    /// A head is complete.
    #[inline]
    fn begin(&mut self, message: Message, bytes: &[u8], at: usize) {
        self.messages += 1;
        self.sequel = message.sequel;
        let is_last = matches!(message.sequel, Sequel::Tunnel | Sequel::Nothing);
        if is_last || message.oddities.is_some() {
            self.note(message.oddities, is_last, bytes, at);
        }
        match message.framing {
            Framing::Length(0) => self.next_message(),
            Framing::Length(length) => self.state = State::Body(length),
            Framing::Chunked => {
                self.body = 0;
                self.state = State::Size(Lines::default());
            }
        }
    }

    #[cold]
    fn note(&mut self, oddities: Option<Box<Oddities>>, last: bool, bytes: &[u8], at: usize) {
        let odd = oddities.unwrap_or_default();
        self.oddities.push(Oddity {
            message: self.messages,
            forwarded: odd.forwarded,
            https: odd.https,
            last,
            target: odd.target.and_then(|range| Some(bytes.get(range)?.into())),
        });
        self.edit(odd.edits, at);
    }

    /// Takes edits of the piece that begins `at` this place of what is being passed.
    fn edit(&mut self, edits: Vec<Edit>, at: usize) {
        let edits = edits.into_iter().map(|Edit { range, with }| {
            let range = range.start + at..range.end + at;
            Edit { range, with }
        });
        self.edits.extend(edits);
    }

    fn chunk(&mut self, size: u64) -> Result<(), Refusal> {
        if size == 0 {
            self.state = State::Trailers(Trailers::default());
            return Ok(());
        }
        self.body = self.body.saturating_add(size);
        if self.body > self.rules.body {
            return Err(Refusal::BodyTooLong);
        }
        self.state = State::Chunk(size);
        Ok(())
    }

    /// A message is complete.
    #[inline]
    fn next_message(&mut self) {
        self.state = match self.sequel {
            Sequel::Message => State::Head(Head::default()),
            Sequel::Undecided | Sequel::Tunnel => State::Verdict,
            Sequel::Nothing => State::Over,
        };
    }
}

/// Takes what it can of the `left` bytes, and says whether that were all.
fn take(left: &mut u64, bytes: &[u8]) -> (usize, bool) {
    let there = bytes.len() as u64;
    if *left > there {
        *left -= there;
        return (bytes.len(), false);
    }
    // No more than there are bytes, so it fits.
    let passed = usize::try_from(*left).unwrap_or(bytes.len());
    *left = 0;
    (passed, true)
}
