//! A small blocking HTTP/1.1 client that is strict about what counts as lost: a request for which
//! the connection could not be made, or that was begun on a connection and did not get a whole
//! response. It never sends a request twice.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

/// How long a whole response may take; more than any request of the tests asks for.
const RESPONSE_LIMIT: Duration = Duration::from_secs(40);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A server that takes nothing for so long waits to be read from.
const STUCK: Duration = Duration::from_millis(50);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A client's end of one connection.
pub(crate) struct Conn {
    stream: Stream,
    rest: Vec<u8>,
    told_close: bool,
}

/// A whole response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The server said that it closes after this one.
    pub(crate) close: bool,
    /// When its last byte was read.
    pub(crate) at: Instant,
}

/// A request without a response: when, how far it came, why.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) at: Instant,
    pub(crate) stage: Stage,
    pub(crate) why: String,
    /// The number of the client that lost it, in a load.
    pub(crate) client: usize,
}

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No connection.
    Connect,
    /// The request could not be written whole.
    Write,
    /// Written, and then not one byte of a response.
    NoResponse,
    /// The response is cut short, or is no HTTP.
    CutShort,
    /// A whole response, of another status than the request asks for.
    Status,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Conn {
    /// Connects.
    pub(crate) fn open(target: &Target) -> Result<Conn, Lost> {
        Conn::open_within(target, CONNECT_LIMIT, RESPONSE_LIMIT)
    }

    /// Connects, with limits of its own for the connection and for each read.
    pub(crate) fn open_within(
        target: &Target,
        connect: Duration,
        read: Duration,
    ) -> Result<Conn, Lost> {
        let stream = match target {
            Target::Tcp(address) => TcpStream::connect_timeout(address, connect).map(Stream::Tcp),
            Target::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
        };
        let stream = stream.map_err(|error| Lost::new(Stage::Connect, &error))?;
        stream
            .prepare(read)
            .map_err(|error| Lost::new(Stage::Connect, &error))?;
        Ok(Conn {
            stream,
            rest: Vec::new(),
            told_close: false,
        })
    }

    /// `GET path`, and its whole response.
    pub(crate) fn get(&mut self, path: &str) -> Result<Response, Lost> {
        self.send_get(path)?;
        self.read_response()
    }

    /// `POST path` with a body, and its whole response.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Result<Response, Lost> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat())?;
        self.read_response()
    }

    /// Writes `GET path` and does not wait.
    pub(crate) fn send_get(&mut self, path: &str) -> Result<(), Lost> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())
    }

    /// Writes raw bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.stream
            .write_all(bytes)
            .map_err(|error| Lost::new(Stage::Write, &error))
    }

    /// Reads one whole response.
    pub(crate) fn read_response(&mut self) -> Result<Response, Lost> {
        let head_end = loop {
            if let Some(end) = find(&self.rest, b"\r\n\r\n") {
                break end + 4;
            }
            self.fill()?;
        };
        let head: Vec<u8> = self.rest.drain(..head_end).collect();
        let (status, headers) = parse_head(&head)?;
        let named = |name: &str| {
            headers
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        let length = named("content-length").map(|text| text.parse::<usize>());
        let chunked = named("transfer-encoding").is_some_and(|value| value.contains("chunked"));
        let old = head.starts_with(b"HTTP/1.0");
        let mut close =
            named("connection").map_or(old, |value| value.eq_ignore_ascii_case("close"));
        let body = match length {
            _ if chunked => self.read_chunks()?,
            Some(length) => {
                self.read_exactly(length.map_err(|error| Lost::new(Stage::CutShort, &error))?)?
            }
            None => {
                close = true;
                self.read_to_end()?
            }
        };
        self.told_close = close;
        Ok(Response {
            status,
            headers,
            body,
            close,
            at: Instant::now(),
        })
    }

    /// Reads what there is of a response, and leaves the rest.
    pub(crate) fn read_some(&mut self) -> Result<(), Lost> {
        self.fill()
    }

    /// Writes the same bytes again and again, and reads nothing, until the server takes no more.
    pub(crate) fn send_until_stuck(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let failed = |error: io::Error| Lost::new(Stage::Write, &error);
        self.stream.limit_writes(STUCK).map_err(failed)?;
        loop {
            match self.stream.write_all(bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Whether the last response announced the end of the connection.
    pub(crate) fn told_close(&self) -> bool {
        self.told_close
    }

    /// Whether the server has closed or reset the connection by now, without waiting.
    pub(crate) fn is_closed(&self) -> bool {
        let mut byte = [0];
        match self.stream.peek(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Waits for the end of the connection; what came before it.
    pub(crate) fn wait_closed(&mut self) -> Result<Vec<u8>, Lost> {
        let got = self.read_to_end()?;
        Ok(got)
    }

    /// Says that no further request comes, and can still read.
    pub(crate) fn finish_writing(&self) {
        self.stream.shutdown(Shutdown::Write);
    }

    /// Throws the connection away: a reset, and nothing of what is on its way arrives.
    pub(crate) fn reset(self) -> Result<(), Lost> {
        let linger = match &self.stream {
            Stream::Tcp(stream) => set_socket_linger(stream, Some(Duration::ZERO)),
            Stream::Unix(stream) => set_socket_linger(stream, Some(Duration::ZERO)),
        };
        linger.map_err(|error| Lost::new(Stage::Connect, &error))
    }

    fn read_exactly(&mut self, length: usize) -> Result<Vec<u8>, Lost> {
        while self.rest.len() < length {
            self.fill_more()?;
        }
        Ok(self.rest.drain(..length).collect())
    }

    fn read_to_end(&mut self) -> Result<Vec<u8>, Lost> {
        let read = self.stream.read_to_end(&mut self.rest);
        read.map_err(|error| Lost::new(Stage::CutShort, &error))?;
        Ok(std::mem::take(&mut self.rest))
    }

    fn read_chunks(&mut self) -> Result<Vec<u8>, Lost> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                if let Some(end) = find(&self.rest, b"\r\n") {
                    break end;
                }
                self.fill_more()?;
            };
            let line: Vec<u8> = self.rest.drain(..line_end + 2).collect();
            let size = std::str::from_utf8(&line[..line_end]).ok();
            let size = size
                .and_then(|text| usize::from_str_radix(text.split(';').next()?.trim(), 16).ok());
            let size = size.ok_or_else(|| Lost::new(Stage::CutShort, &"a chunk without a size"))?;
            let chunk = self.read_exactly(size + 2)?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// Reads what there is; the end is "no response" as long as nothing has come.
    fn fill(&mut self) -> Result<(), Lost> {
        let stage = if self.rest.is_empty() {
            Stage::NoResponse
        } else {
            Stage::CutShort
        };
        self.fill_at(stage)
    }

    fn fill_more(&mut self) -> Result<(), Lost> {
        self.fill_at(Stage::CutShort)
    }

    fn fill_at(&mut self, stage: Stage) -> Result<(), Lost> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(Lost::new(stage, &"the connection was closed")),
            Ok(read) => {
                self.rest.extend_from_slice(&chunk[..read]);
                Ok(())
            }
            Err(error) => Err(Lost::new(stage, &error)),
        }
    }
}

impl Response {
    /// The value of a header; names are lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        let parsed = serde_json::from_slice(&self.body);
        parsed.unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }
}

impl Lost {
    pub(crate) fn new(stage: Stage, why: &dyn fmt::Display) -> Lost {
        Lost {
            at: Instant::now(),
            stage,
            why: why.to_string(),
            client: 0,
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.stage, self.why)
    }
}

impl Stream {
    fn prepare(&self, limit: Duration) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))
            }
        }
    }

    fn limit_writes(&self, limit: Duration) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_write_timeout(Some(limit)),
            Stream::Unix(stream) => stream.set_write_timeout(Some(limit)),
        }
    }

    fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        use rustix::net::{RecvFlags, recv};
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let (_, read) = match self {
            Stream::Tcp(stream) => recv(stream, buffer, flags)?,
            Stream::Unix(stream) => recv(stream, buffer, flags)?,
        };
        Ok(read)
    }

    fn shutdown(&self, how: Shutdown) {
        // A connection that is already gone is shut down enough.
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(how),
            Stream::Unix(stream) => stream.shutdown(how),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn parse_head(head: &[u8]) -> Result<(u16, Vec<(String, String)>), Lost> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut headers);
    parsed
        .parse(head)
        .map_err(|error| Lost::new(Stage::CutShort, &error))?;
    let status = parsed
        .code
        .ok_or_else(|| Lost::new(Stage::CutShort, &"no status"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = parsed
        .headers
        .iter()
        .map(|header| (header.name.to_lowercase(), text(header.value)));
    Ok((status, headers.collect()))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
