//! As much of HTTP/1.1 as the example needs: bytes in, a request out; an answer in, bytes out.

use httparse::{EMPTY_HEADER, Error, Header, Status};

const MAX_HEAD: usize = 16 * 1024;
const MAX_BODY: usize = 1024 * 1024;

/// What the bytes read so far are.
pub(crate) enum Parsed {
    /// Part of a head.
    Nothing,
    /// A head; its body is not complete.
    Head,
    /// A whole request, and how many bytes it takes.
    Request(Request, usize),
    /// No request; to be answered with this status.
    Refused(u16),
}

pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
    /// The client wants no further answer on this connection.
    pub(crate) last: bool,
}

pub(crate) fn parse(input: &[u8]) -> Parsed {
    let mut headers = [EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let head_length = match head.parse(input) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if input.len() < MAX_HEAD => return Parsed::Nothing,
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => return Parsed::Refused(431),
        Err(_) => return Parsed::Refused(400),
    };
    let whole = match body_length(head.headers) {
        Ok(length) if length > MAX_BODY => return Parsed::Refused(413),
        Ok(length) => head_length + length,
        Err(status) => return Parsed::Refused(status),
    };
    let Some(body) = input.get(head_length..whole) else {
        return Parsed::Head;
    };
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: head.path.unwrap_or_default().to_owned(),
        body: body.to_vec(),
        last: head.version == Some(0) || says_close(head.headers),
    };
    Parsed::Request(request, whole)
}

/// An answer, ready to be written; without its body when it answers HEAD.
pub(crate) fn answer(status: u16, kind: &str, body: &[u8], last: bool, bodiless: bool) -> Vec<u8> {
    let (reason, length) = (reason(status), body.len());
    let connection = if last { "close" } else { "keep-alive" };
    let mut bytes = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: {connection}\r\n\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(if bodiless { &[] } else { body });
    bytes
}

/// The length of a body, or the status that refuses the request.
fn body_length(headers: &[Header<'_>]) -> Result<usize, u16> {
    if named(headers, "transfer-encoding").next().is_some() {
        return Err(501);
    }
    let mut lengths = named(headers, "content-length");
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(0),
        // Digits alone: `parse` would take a plus sign.
        (Some(text), None) if text.iter().all(u8::is_ascii_digit) => {
            let number = std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok());
            number.ok_or(400)
        }
        _ => Err(400),
    }
}

fn says_close(headers: &[Header<'_>]) -> bool {
    let mut words =
        named(headers, "connection").flat_map(|value| value.split(|byte| *byte == b','));
    words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
}

fn named<'a>(headers: &'a [Header<'a>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |it| it.name.eq_ignore_ascii_case(name))
        .map(|it| it.value)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        503 => "Service Unavailable",
        400..500 => "Bad Request",
        _ => "Error",
    }
}
