//! A response's body, as a handler gives it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};

use bytes::Bytes;

use super::upgrade::Upgraded;

/// The body of a response. Strings and bytes become one by `into`.
pub struct Body(pub(super) Kind);

pub(super) type Chunks = Box<dyn Iterator<Item = io::Result<Bytes>> + Send>;
pub(super) type TakeOver = Box<dyn FnOnce(Upgraded) + Send>;

pub(super) enum Kind {
    Bytes(Bytes),
    Chunks { chunks: Chunks, len: Option<u64> },
    File { file: File, offset: u64, len: u64 },
    Upgrade(TakeOver),
}

/// Pieces of a reader: small at first, larger where there is much to read.
struct Pieces<R> {
    reader: R,
    size: usize,
}

const FIRST_PIECE: usize = 8 << 10;
const LARGEST_PIECE: usize = 64 << 10;

impl Body {
    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self::from(Bytes::new())
    }

    /// What `reader` gives, read on the thread of the call after the handler has returned, as fast
    /// as the client takes it. A failure to read cuts the response off, so that the client does
    /// not take it for whole.
    pub fn reader(reader: impl Read + Send + 'static) -> Self {
        Self(Kind::Chunks {
            chunks: pieces(reader),
            len: None,
        })
    }

    /// As [`reader`](Self::reader), of exactly `len` bytes: the client is told in the head.
    pub fn sized_reader(reader: impl Read + Send + 'static, len: u64) -> Self {
        Self(Kind::Chunks {
            chunks: pieces(reader.take(len)),
            len: Some(len),
        })
    }

    /// The items of an iterator, each sent as soon as it is there; otherwise as
    /// [`reader`](Self::reader).
    pub fn chunks<I>(chunks: I) -> Self
    where
        I: IntoIterator<IntoIter: Send + 'static, Item: Into<Bytes>>,
    {
        let chunks = chunks.into_iter().map(|chunk| Ok(chunk.into()));
        Self::try_chunks(chunks)
    }

    /// As [`chunks`](Self::chunks); an error cuts the response off.
    pub fn try_chunks(chunks: impl Iterator<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self(Kind::Chunks {
            chunks: Box::new(chunks),
            len: None,
        })
    }

    /// A file from its current position to its end, sent by the kernel (`sendfile`) without
    /// passing through this process.
    ///
    /// # Errors
    /// It is not a regular file, or its length cannot be told.
    pub fn file(mut file: File) -> io::Result<Self> {
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        let offset = file.stream_position()?;
        let len = meta.len().saturating_sub(offset);
        Ok(Self::file_part(file, offset, len))
    }

    /// `len` bytes of a file from `offset` on. It must have them: a file that is too short cuts
    /// the response off.
    #[must_use]
    pub fn file_part(file: File, offset: u64, len: u64) -> Self {
        Self(Kind::File { file, offset, len })
    }

    /// Gives the connection to `take_over` once the response's head is out. For a response with
    /// the status 101, or to a CONNECT request; elsewhere `take_over` is dropped.
    ///
    /// It runs as an app call. What wants to keep the connection moves it to a thread of its own,
    /// so that other requests can be served.
    pub fn upgrade(take_over: impl FnOnce(Upgraded) + Send + 'static) -> Self {
        Self(Kind::Upgrade(Box::new(take_over)))
    }
}

fn pieces(reader: impl Read + Send + 'static) -> Chunks {
    Box::new(Pieces {
        reader,
        size: FIRST_PIECE,
    })
}

impl<R: Read> Iterator for Pieces<R> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        let mut piece = vec![0; self.size];
        let len = loop {
            match self.reader.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Some(Err(error)),
                Ok(0) => return None,
                Ok(len) => break len,
            }
        };
        if len == piece.len() {
            self.size = (self.size * 2).min(LARGEST_PIECE);
        }
        piece.truncate(len);
        Some(Ok(piece.into()))
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Bytes(bytes))
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Bytes(_) => "Body(bytes)",
            Kind::Chunks { .. } => "Body(chunks)",
            Kind::File { .. } => "Body(file)",
            Kind::Upgrade(_) => "Body(upgrade)",
        })
    }
}
