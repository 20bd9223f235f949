//! Why a request is refused, and what its sender is told.

use std::fmt;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A line ends with LF alone.
    BareLf,
    /// The first line is not a method, a target and a version.
    RequestLine,
    /// The method is no token, not upper case, or not of 3 to 20 bytes.
    Method,
    /// The target does not fit the method, or has bytes that no target has.
    Target,
    /// The version is neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// The first line is longer than allowed.
    LineTooLong,
    /// A field's name is no token.
    FieldName,
    /// A field's value has a control character.
    FieldValue,
    /// A field goes on in the next line.
    Folded,
    /// A field that can only be there once is there again.
    Repeated,
    /// A field is longer than allowed.
    FieldTooLong,
    /// The head, or the trailer section, has more fields than allowed.
    TooManyFields,
    /// The head, or the trailer section, is longer than it may be altogether.
    HeadTooLong,
    /// `Content-Length` is not a number.
    ContentLength,
    /// `Transfer-Encoding` does not end with its only `chunked`, or HTTP/1.0 has it.
    TransferEncoding,
    /// `Transfer-Encoding` names a coding that nobody knows.
    UnknownCoding,
    /// `Content-Length` and `Transfer-Encoding` both say where the body ends.
    TwoLengths,
    /// `Expect` asks for something else than `100-continue`.
    Expectation,
    /// A believed proxy says by one field that the client came by HTTPS, and by another that not.
    Schemes,
    /// The body is longer than allowed.
    BodyTooLong,
    /// A chunk's size is not a number, or its line is too long.
    ChunkSize,
    /// A chunk's extension does not follow the grammar, or the extensions are too long.
    ChunkExtension,
    /// A chunk, or the last one's trailer section, does not end where it should.
    ChunkEnd,
    /// A field that must not stand in a trailer section.
    Trailer,
    /// The PROXY header is malformed.
    ProxyHeader,
    /// A PROXY header from a peer that is not believed.
    ProxyPeer,
    /// The head did not arrive in time.
    HeadTimeout,
    /// The body stood still for too long.
    BodyTimeout,
}

impl Refusal {
    /// The status of the answer, gunicorn's where it has one.
    pub const fn status(self) -> u16 {
        match self {
            Self::ProxyPeer => 403,
            Self::HeadTimeout | Self::BodyTimeout => 408,
            Self::BodyTooLong => 413,
            Self::LineTooLong => 414,
            Self::Expectation => 417,
            Self::FieldTooLong | Self::TooManyFields | Self::HeadTooLong => 431,
            Self::UnknownCoding => 501,
            _ => 400,
        }
    }

    /// What is wrong, in a few words; never a byte of what was sent.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::BareLf => "a line ends with LF alone",
            Self::RequestLine => "invalid request line",
            Self::Method => "invalid method",
            Self::Target => "invalid request target",
            Self::Version => "invalid HTTP version",
            Self::LineTooLong => "request line too long",
            Self::FieldName => "invalid field name",
            Self::FieldValue => "invalid field value",
            Self::Folded => "a field is folded over several lines",
            Self::Repeated => "a field is repeated that must not be",
            Self::FieldTooLong => "field too long",
            Self::TooManyFields => "too many fields",
            Self::HeadTooLong => "fields too long together",
            Self::ContentLength => "invalid Content-Length",
            Self::TransferEncoding => "invalid Transfer-Encoding",
            Self::UnknownCoding => "unknown transfer coding",
            Self::TwoLengths => "Content-Length beside Transfer-Encoding",
            Self::Expectation => "only 100-continue can be expected",
            Self::Schemes => "contradictory scheme fields",
            Self::BodyTooLong => "body too long",
            Self::ChunkSize => "invalid chunk size",
            Self::ChunkExtension => "invalid chunk extension",
            Self::ChunkEnd => "a chunk does not end where it should",
            Self::Trailer => "forbidden trailer field",
            Self::ProxyHeader => "invalid PROXY header",
            Self::ProxyPeer => "PROXY header from a peer that is not believed",
            Self::HeadTimeout => "the head did not arrive in time",
            Self::BodyTimeout => "the body did not arrive in time",
        }
    }

    const fn phrase(self) -> &'static str {
        match self.status() {
            403 => "Forbidden",
            408 => "Request Timeout",
            413 => "Content Too Large",
            414 => "URI Too Long",
            417 => "Expectation Failed",
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            _ => "Bad Request",
        }
    }

    /// The body of the answer: a line of text.
    pub fn text(self) -> String {
        format!("{} {}: {}\n", self.status(), self.phrase(), self.reason())
    }

    /// The whole answer, as it goes over the wire. It is the last one of its connection.
    pub fn answer(self) -> Vec<u8> {
        let (status, phrase, text) = (self.status(), self.phrase(), self.text());
        format!(
            "HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{text}",
            text.len()
        )
        .into_bytes()
    }
}

/// So that it can travel through hyper as the error of a read.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Refusal {}
