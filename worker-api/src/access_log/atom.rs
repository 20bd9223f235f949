//! gunicorn's atoms: what a format can ask for.

use std::fmt::Arguments;
use std::io::Write;

use super::escape::{self, Setting};
use super::{Record, date};

/// One thing that a line tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Atom {
    RemoteAddress,
    RemotePort,
    /// Always `-`: identd is gone.
    Identity,
    /// Of HTTP's basic authentication, from this request field.
    User(usize),
    Time,
    RequestLine,
    Method,
    Target,
    Path,
    Query,
    Protocol,
    Status,
    BodyBytes,
    Seconds,
    Milliseconds,
    Microseconds,
    DecimalSeconds,
    Process,
    RequestField(usize),
    ResponseField(usize),
    /// What a variable held when the format was parsed.
    Variable(Option<String>),
}

/// Whether it is known what is asked for.
pub(super) enum Known {
    Atom(Atom),
    NoSuchAtom,
    NoSuchName,
}

/// Header fields that are asked for, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) request: Vec<String>,
    pub(super) response: Vec<String>,
}

impl Names {
    pub(super) fn request(&mut self, name: &str) -> usize {
        place(&mut self.request, name)
    }

    fn response(&mut self, name: &str) -> usize {
        place(&mut self.response, name)
    }
}

impl Atom {
    /// Understands what stands between `%(` and `)s`.
    pub(super) fn parse(text: &str, names: &mut Names) -> Known {
        if let Some(named) = text.strip_prefix('{') {
            return parse_named(named, names);
        }
        Known::Atom(match text {
            "h" => Self::RemoteAddress,
            "l" => Self::Identity,
            "u" => Self::User(names.request("authorization")),
            "t" => Self::Time,
            "r" => Self::RequestLine,
            "m" => Self::Method,
            "U" => Self::Path,
            "q" => Self::Query,
            "H" => Self::Protocol,
            "s" => Self::Status,
            "B" | "b" => Self::BodyBytes,
            "f" => Self::RequestField(names.request("referer")),
            "a" => Self::RequestField(names.request("user-agent")),
            "T" => Self::Seconds,
            "M" => Self::Milliseconds,
            "D" => Self::Microseconds,
            "L" => Self::DecimalSeconds,
            "p" => Self::Process,
            _ => return Known::NoSuchAtom,
        })
    }

    pub(super) fn write(
        &self,
        record: &Record<'_>,
        setting: Setting,
        cut: usize,
        line: &mut Vec<u8>,
    ) {
        let text = |value: &[u8], line: &mut Vec<u8>| escape::text(value, setting, cut, line);
        let given = |value: Option<&[u8]>, line: &mut Vec<u8>| match value {
            Some(value) if !value.is_empty() => escape::text(value, setting, cut, line),
            _ => line.push(b'-'),
        };
        let took = record.took;
        match self {
            Self::RemoteAddress => match record.remote {
                Some(remote) => number(line, format_args!("{}", remote.ip().to_canonical())),
                None => line.push(b'-'),
            },
            Self::RemotePort => match record.remote {
                Some(remote) => number(line, format_args!("{}", remote.port())),
                None => line.push(b'-'),
            },
            Self::Identity => line.push(b'-'),
            Self::User(at) => given(user(record.fields.request(*at)).as_deref(), line),
            Self::Time => date::write_clf(record.at, line),
            Self::RequestLine => {
                text(record.method.as_bytes(), line);
                line.push(b' ');
                text(record.target.as_bytes(), line);
                line.push(b' ');
                text(record.protocol.as_bytes(), line);
            }
            Self::Method => text(record.method.as_bytes(), line),
            Self::Target => text(record.target.as_bytes(), line),
            Self::Path => text(record.path.as_bytes(), line),
            Self::Query => text(record.query.as_bytes(), line),
            Self::Protocol => text(record.protocol.as_bytes(), line),
            Self::Status => match record.status {
                Some(status) => number(line, format_args!("{status}")),
                None => line.push(b'-'),
            },
            Self::BodyBytes => number(line, format_args!("{}", record.body_bytes)),
            Self::Seconds => number(line, format_args!("{}", took.as_secs())),
            Self::Milliseconds => number(line, format_args!("{}", took.as_millis())),
            Self::Microseconds => number(line, format_args!("{}", took.as_micros())),
            Self::DecimalSeconds => {
                let (whole, rest) = (took.as_secs(), took.subsec_micros());
                number(line, format_args!("{whole}.{rest:06}"));
            }
            Self::Process => number(line, format_args!("<{}>", std::process::id())),
            Self::RequestField(at) => given(record.fields.request(*at), line),
            Self::ResponseField(at) => given(record.fields.response(*at), line),
            Self::Variable(value) => given(value.as_deref().map(str::as_bytes), line),
        }
    }
}

/// The name that a client gave for basic authentication.
pub(super) fn user(authorization: Option<&[u8]>) -> Option<Vec<u8>> {
    let value = authorization?.trim_ascii();
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut decoded = base64(encoded.trim_ascii())?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    decoded.truncate(colon);
    Some(decoded)
}

fn parse_named(text: &str, names: &mut Names) -> Known {
    let Some((name, kind)) = text.split_once('}') else {
        return Known::NoSuchAtom;
    };
    let lower = name.to_ascii_lowercase();
    match kind {
        "i" | "o" if !is_token(name) => Known::NoSuchName,
        "i" => Known::Atom(Atom::RequestField(names.request(&lower))),
        "o" => Known::Atom(Atom::ResponseField(names.response(&lower))),
        "e" if name.is_empty() || name.contains(['=', '\0']) => Known::NoSuchName,
        "e" => Known::Atom(variable(name, names)),
        _ => Known::NoSuchAtom,
    }
}

/// gunicorn's variables are WSGI's; the others are the process's.
fn variable(name: &str, names: &mut Names) -> Atom {
    match name.to_ascii_uppercase().as_str() {
        "REMOTE_ADDR" => Atom::RemoteAddress,
        "REMOTE_PORT" => Atom::RemotePort,
        "REQUEST_METHOD" => Atom::Method,
        "RAW_URI" | "REQUEST_URI" => Atom::Target,
        "PATH_INFO" => Atom::Path,
        "QUERY_STRING" => Atom::Query,
        "SERVER_PROTOCOL" => Atom::Protocol,
        "CONTENT_TYPE" => Atom::RequestField(names.request("content-type")),
        "CONTENT_LENGTH" => Atom::RequestField(names.request("content-length")),
        upper => match upper.strip_prefix("HTTP_") {
            Some(field) if is_token(field) => {
                let field = field.replace('_', "-").to_ascii_lowercase();
                Atom::RequestField(names.request(&field))
            }
            _ => Atom::Variable(std::env::var(name).ok()),
        },
    }
}

fn place(names: &mut Vec<String>, name: &str) -> usize {
    names
        .iter()
        .position(|known| known == name)
        .unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        })
}

fn is_token(name: &str) -> bool {
    let sign = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(sign)
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text
        .iter()
        .rposition(|byte| *byte != b'=')
        .map_or(0, |at| at + 1);
    let mut decoded = Vec::with_capacity(end / 4 * 3 + 3);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in &text[..end] {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            decoded.push((bits >> held & 0xff) as u8);
        }
    }
    Some(decoded)
}

/// What is made of digits and the like needs no escape.
pub(super) fn number(line: &mut Vec<u8>, text: Arguments<'_>) {
    // A vector takes everything.
    let _ = line.write_fmt(text);
}
