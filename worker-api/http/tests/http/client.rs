//! A plain HTTP client on a socket: it sends bytes as told, and tells a reset from an end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than anything takes that works, on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client<T: Read = TcpStream> {
    stream: BufReader<T>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_last(&self) -> bool {
        self.header("connection") == Some("close")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl<T: Read> Client<T>
where
    for<'a> &'a T: Write,
{
    pub(crate) fn new(stream: T) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) fn stream(&self) -> &T {
        self.stream.get_ref()
    }

    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.stream.get_ref().write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn ask(&self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
    }

    pub(crate) fn get(&mut self, path: &str) -> Reply {
        self.ask(path);
        self.reply()
    }

    /// The next response.
    pub(crate) fn reply(&mut self) -> Reply {
        self.try_reply().unwrap()
    }

    /// The next response, or how the connection ended instead.
    pub(crate) fn try_reply(&mut self) -> io::Result<Reply> {
        let line = self.line()?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in {line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut reply = Reply {
            status,
            headers,
            body: Vec::new(),
        };
        if reply.header("transfer-encoding").is_some() {
            while let len @ 1.. = usize::from_str_radix(&self.line()?, 16).unwrap() {
                reply.body.extend(self.bytes(len)?);
                self.line()?;
            }
            self.line()?;
        } else if let Some(len) = reply.header("content-length") {
            reply.body = self.bytes(len.parse().unwrap())?;
        }
        Ok(reply)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// A response's head alone.
    pub(crate) fn bytes_until_blank(&mut self) -> String {
        let mut head = String::new();
        loop {
            match self.line().unwrap() {
                line if line.is_empty() => return head,
                line => head.push_str(&line),
            }
        }
    }

    /// The server closes, in order: no byte more, and no reset.
    pub(crate) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}
