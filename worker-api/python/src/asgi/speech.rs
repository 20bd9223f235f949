//! What an app says: an answer, message by message.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use worker_http::hosted::{Answer, Reply, StreamBody};

use super::answer::{Head, body, fields, flag, informational, links, too_late, unexpected};
use super::site::Site;

/// An answer as far as the app has said it.
pub(super) struct Speech {
    site: Arc<Site>,
    is_head: bool,
    said: Said,
    /// An empty map: the request's, whose room the answer's fields get. HTTP in turn gives it to
    /// the next request.
    room: HeaderMap,
}

enum Said {
    Nothing,
    Start(Head),
    Part(Part),
    /// All but the trailers, of which some may be here.
    Body(StreamBody, HeaderMap),
    /// All that is sent: trailers that the app has promised are not, where there is no body.
    Sent,
    All,
}

struct Part {
    /// `None` if the body is not sent: it answers a HEAD, for example.
    stream: Option<StreamBody>,
    left: Option<u64>,
    trailers: bool,
}

impl Speech {
    /// To a request; `is_head` if its answer has no body. The map's room is used again.
    pub(super) fn new(site: &Arc<Site>, is_head: bool, mut room: HeaderMap) -> Self {
        room.clear();
        Self {
            site: Arc::clone(site),
            is_head,
            said: Said::Nothing,
            room,
        }
    }

    /// Whether all is said.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.said, Said::Sent | Said::All)
    }

    /// Whether the head is said, and waits for the first piece of the body.
    pub(super) fn is_begun(&self) -> bool {
        matches!(self.said, Said::Start(_))
    }

    /// Sends the head without a piece of the body, if it is one that waits for it.
    pub(super) fn send_head(&mut self, reply: &Reply) -> PyResult<()> {
        self.said = match std::mem::replace(&mut self.said, Said::All) {
            Said::Start(head) => self.begin(reply, head, Bytes::new(), true)?,
            said => said,
        };
        Ok(())
    }

    /// Whether what is said now reaches nobody: the answer has no body.
    pub(super) fn is_for_nobody(&self) -> bool {
        matches!(&self.said, Said::Part(part) if part.stream.is_none())
    }

    /// Whether nothing is said that the client has seen.
    pub(super) fn is_unheard(&self) -> bool {
        matches!(self.said, Said::Nothing | Said::Start(_))
    }

    /// Takes a message: `kind` is its type, `what` the last word of it.
    pub(super) fn say(
        &mut self,
        reply: &Reply,
        kind: &str,
        what: &str,
        message: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        self.said = match (what, std::mem::replace(&mut self.said, Said::All)) {
            ("start", Said::Nothing) => {
                let room = std::mem::take(&mut self.room);
                let head = Head::of(message, room).inspect_err(|_| self.said = Said::Nothing)?;
                Said::Start(head)
            }
            ("early_hint" | "informational", Said::Nothing) => {
                self.said = Said::Nothing;
                let read = if what == "early_hint" {
                    links
                } else {
                    informational
                };
                self.hint(reply, &read(message)?)?;
                Said::Nothing
            }
            ("body", Said::Start(head)) => {
                let body = body(message)?;
                let more = flag(message, intern!(message.py(), "more_body"))?;
                self.begin(reply, head, body, more)?
            }
            ("body", Said::Part(part)) => self.go_on(part, message)?,
            ("pathsend", Said::Start(head)) => self.send_file(reply, head, message)?,
            ("pathsend", Said::Part(part)) => self.add_file(reply, part, open(message)?)?,
            ("trailers", Said::Body(stream, before)) => self.end(stream, before, message)?,
            ("trailers", Said::Sent) if has_more_trailers(message)? => Said::Sent,
            ("trailers", Said::Sent) => Said::All,
            (_, Said::Sent) => {
                self.said = Said::Sent;
                return Err(too_late(kind));
            }
            (_, Said::All) => return Err(too_late(kind)),
            (_, said) => {
                let error = unexpected(kind, said.expected());
                self.said = said;
                return Err(error);
            }
        };
        Ok(())
    }

    /// Ready when the client has taken enough for another piece, or takes none any more.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        match &self.said {
            Said::Part(Part {
                stream: Some(stream),
                ..
            }) => stream.poll_room(cx).map(drop),
            _ => Poll::Ready(()),
        }
    }

    /// The same, for whoever does not wait.
    pub(super) fn has_room(&self) -> bool {
        let cx = Context::from_waker(Waker::noop());
        self.poll_room(&cx).is_ready()
    }

    /// The app has ended: what was begun and not ended is cut off; what was not begun is 500, or 400
    /// where it was the request that `broke_off`.
    pub(super) fn close(self, reply: Reply, broke_off: bool) {
        let Self { site, said, .. } = self;
        if let Said::Sent | Said::All = said {
            return drop(reply);
        }
        let Ok(driver) = site.driver() else {
            return;
        };
        driver.with_connections_soon(move || {
            if let Said::Nothing | Said::Start(_) = said {
                let (parts, answer) = if broke_off {
                    error_of(StatusCode::BAD_REQUEST)
                } else {
                    error_of(StatusCode::INTERNAL_SERVER_ERROR)
                };
                reply.send(parts, answer);
            }
        });
    }

    /// The first piece of a body; often it is the last.
    fn begin(&self, reply: &Reply, head: Head, body: Bytes, more: bool) -> PyResult<Said> {
        let Head {
            parts,
            length,
            trailers,
        } = head;
        let is_bodiless = matches!(
            parts.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        if self.is_head || is_bodiless {
            let answer = match length {
                _ if more => Answer::head(),
                // A length that the app has named stands for itself.
                Some(_) => Answer::bytes(Bytes::new()),
                None => Answer::bytes(body),
            };
            self.answer(reply, parts, answer)?;
            let part = Part {
                stream: None,
                left: None,
                trailers,
            };
            return Ok(part.then(more));
        }
        let left = rest(length, body.len(), more)?;
        if !more && !trailers {
            self.answer(reply, parts, Answer::bytes(body))?;
            return Ok(Said::All);
        }
        let (stream, answer) = Answer::stream(length);
        if !body.is_empty() {
            stream.push(body)?;
        }
        self.answer(reply, parts, answer)?;
        let part = Part {
            stream: Some(stream),
            left,
            trailers,
        };
        Ok(part.then(more))
    }

    /// Another piece.
    fn go_on(&self, mut part: Part, message: &Bound<'_, PyDict>) -> PyResult<Said> {
        let more = flag(message, intern!(message.py(), "more_body"))?;
        let body = body(message)?;
        part.left = rest(part.left, body.len(), more)?;
        if let Some(stream) = &part.stream {
            self.site.driver()?.with_connections_soon(|| {
                if !body.is_empty() {
                    stream.push(body)?;
                }
                if !more && !part.trailers {
                    stream.finish(None);
                }
                Ok::<_, std::io::Error>(())
            })?;
        }
        Ok(part.then(more))
    }

    /// A file, in the place of a body.
    fn send_file(&self, reply: &Reply, head: Head, message: &Bound<'_, PyDict>) -> PyResult<Said> {
        let (file, len) = open(message)?;
        if head.trailers || head.length.is_some_and(|length| length > len) {
            // There is more to come than a file, or it breaks off.
            let said = self.begin(reply, head, Bytes::new(), true)?;
            return match said {
                Said::Part(part) => self.add_file(reply, part, (file, len)),
                said => Ok(said),
            };
        }
        let len = head.length.unwrap_or(len);
        self.answer(reply, head.parts, Answer::file(file, 0, len))?;
        Ok(Said::All)
    }

    /// The same, behind a head that could not wait for it.
    fn add_file(&self, reply: &Reply, part: Part, (file, len): (File, u64)) -> PyResult<Said> {
        let len = part.left.unwrap_or(len).min(len);
        if let Some(stream) = &part.stream {
            self.site.driver()?.with_connections_soon(|| {
                reply.push_file(stream, file, 0, len)?;
                if !part.trailers {
                    stream.finish(None);
                }
                Ok::<_, std::io::Error>(())
            })?;
        }
        if part.left.is_some_and(|left| left > len) {
            return Err(too_short());
        }
        Ok(part.then(false))
    }

    fn end(
        &self,
        stream: StreamBody,
        before: HeaderMap,
        message: &Bound<'_, PyDict>,
    ) -> PyResult<Said> {
        let trailers = fields(message, before)?;
        if has_more_trailers(message)? {
            return Ok(Said::Body(stream, trailers));
        }
        let driver = self.site.driver()?;
        driver.with_connections_soon(|| stream.finish(Some(trailers)));
        Ok(Said::All)
    }

    /// What the client may begin with while the answer is made.
    fn hint(&self, reply: &Reply, fields: &HeaderMap) -> PyResult<()> {
        let Some(hints) = reply.early_hints() else {
            return Ok(());
        };
        let driver = self.site.driver()?;
        let sent = driver.with_connections(|| hints.send(fields));
        sent.map_err(|error| PyValueError::new_err(error.to_string()))
    }

    fn answer(&self, reply: &Reply, parts: http::response::Parts, answer: Answer) -> PyResult<()> {
        let driver = self.site.driver()?;
        driver.with_connections_soon(|| reply.send(parts, answer));
        Ok(())
    }
}

impl Said {
    fn expected(&self) -> &'static str {
        match self {
            Self::Nothing => "the start of the response",
            Self::Start(_) | Self::Part(_) => "its body",
            Self::Body(..) => "its trailers",
            Self::Sent | Self::All => "nothing",
        }
    }
}

impl Part {
    /// After another piece, behind which there is `more` or not.
    fn then(self, more: bool) -> Said {
        match self.stream {
            stream if more => Said::Part(Self { stream, ..self }),
            Some(stream) if self.trailers => Said::Body(stream, HeaderMap::new()),
            None if self.trailers => Said::Sent,
            _ => Said::All,
        }
    }
}

/// The file of a pathsend, and its length.
fn open(message: &Bound<'_, PyDict>) -> PyResult<(File, u64)> {
    let path = message.get_item(intern!(message.py(), "path"))?;
    let path: PathBuf = path
        .ok_or_else(|| PyRuntimeError::new_err("a pathsend has a `path`"))?
        .extract()?;
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    Ok((file, len))
}

fn has_more_trailers(message: &Bound<'_, PyDict>) -> PyResult<bool> {
    flag(message, intern!(message.py(), "more_trailers"))
}

/// What is left of a body's length, if the app has named one.
fn rest(length: Option<u64>, came: usize, more: bool) -> PyResult<Option<u64>> {
    let Some(length) = length else {
        return Ok(None);
    };
    let left = length
        .checked_sub(came as u64)
        .ok_or_else(|| PyRuntimeError::new_err("the response is longer than its content-length"))?;
    if left > 0 && !more {
        return Err(too_short());
    }
    Ok(Some(left))
}

fn too_short() -> PyErr {
    PyRuntimeError::new_err("the response is shorter than its content-length")
}

fn error_of(status: StatusCode) -> (http::response::Parts, Answer) {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts.headers = HeaderMap::with_capacity(1);
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    parts.headers.insert(header::CONTENT_TYPE, text);
    let body = status.canonical_reason().unwrap_or_default();
    (parts, Answer::bytes(Bytes::from_static(body.as_bytes())))
}
