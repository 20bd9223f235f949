//! The head of a request: its first line and its fields, up to the empty line.

use std::ops::Range;

use super::chars::{has_control, is_method, is_token, trim};
use super::coding::{self, Codings};
use super::lines::Lines;
use super::quick;
use super::refusal::Refusal;
use super::rules::Rules;
use super::target;

/// hyper refuses a name of so many bytes, without a word.
const LONGEST_NAME: usize = 1 << 16;

/// A head that is being read.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    lines: Lines,
    /// An empty line came first; one may.
    blank: bool,
    line: Option<RequestLine>,
    fields: usize,
    host: bool,
    content_type: bool,
    length: Option<Result<u64, Refusal>>,
    codings: Codings,
    /// What is wrong with the two fields above.
    framing_fault: Option<Refusal>,
    upgrade: bool,
    /// What an expectation is refused with, unless its field turns out to be folded.
    doubt: Option<Refusal>,
    oddities: Option<Box<Oddities>>,
}

#[derive(Clone, Copy, Debug)]
struct RequestLine {
    connect: bool,
    /// HTTP/1.1, and not HTTP/1.0.
    modern: bool,
}

/// Bytes that hyper gets in place of others. It would refuse those, or show them to the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) range: Range<usize>,
    pub(super) with: Vec<u8>,
}

/// What a complete head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Bytes of the head.
    pub(super) len: usize,
    pub(super) framing: Framing,
    pub(super) sequel: Sequel,
    /// What most messages do not have.
    pub(super) oddities: Option<Box<Oddities>>,
}

/// What most messages do not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Oddities {
    /// A believed proxy speaks of the client.
    pub(super) forwarded: bool,
    /// What it says of the client's scheme.
    pub(super) https: Option<bool>,
    /// Where the target is, if the app sees another one.
    pub(super) target: Option<Range<usize>>,
    pub(super) edits: Vec<Edit>,
}

/// Where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk's trailer section.
    Chunked,
}

/// What the bytes behind the message are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sequel {
    /// The next message.
    Message,
    /// That is the app's to say: the next message, or another protocol.
    Undecided,
    /// Another protocol, or nothing.
    Tunnel,
    /// Nothing.
    Nothing,
}

impl Head {
    /// Goes on reading; `None` while the head is not complete. Each call gets the same bytes as
    /// the last one, and what has come since.
    #[inline]
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        rules: &Rules,
        trusts: bool,
    ) -> Result<Option<Message>, Refusal> {
        loop {
            if let Some(refusal) = self.doubt {
                return self.settle(refusal, bytes);
            }
            if self.lines.is_fresh() && self.read_quickly(bytes, rules, trusts)? {
                continue;
            }
            let Some(line) = self.lines.next(bytes)? else {
                self.check_begun(bytes, rules)?;
                return Ok(None);
            };
            if self.line.is_some() {
                if line.is_empty() {
                    return self.finish(rules).map(Some);
                }
                let Field { name, value } = field(line, rules, self.fields)?;
                self.field(name, value, line.len() + 2, is_hidden(name), trusts)?;
                self.check_length(rules)?;
            } else if line.is_empty() && !self.blank {
                self.blank = true;
            } else {
                self.request_line(line, rules)?;
            }
        }
    }

    /// Reads the next line if that is easy. The empty line never is.
    #[inline]
    fn read_quickly(&mut self, bytes: &[u8], rules: &Rules, trusts: bool) -> Result<bool, Refusal> {
        let rest = bytes.get(self.lines.complete()..).unwrap_or_default();
        if self.line.is_none() {
            let line = quick::request_line(rest).filter(|line| line.len - 2 <= rules.line);
            let Some(quick::RequestLine { len, modern }) = line else {
                return Ok(false);
            };
            self.lines.skip(len);
            let connect = false;
            self.line = Some(RequestLine { connect, modern });
            return Ok(true);
        }
        let fits =
            |field: &quick::Field<'_>| field.len <= rules.field && self.fields < rules.fields;
        let Some(field) = quick::field(rest).filter(fits) else {
            return Ok(false);
        };
        self.lines.skip(field.len);
        self.field(field.name, field.value, field.len, field.underscore, trusts)?;
        self.check_length(rules)?;
        Ok(true)
    }

    /// What is wrong with a field is only told when the next line has begun: were it folded, that would
    /// be told, as by gunicorn.
    fn settle(&self, refusal: Refusal, bytes: &[u8]) -> Result<Option<Message>, Refusal> {
        match bytes.get(self.lines.complete()) {
            None => Ok(None),
            Some(b' ' | b'\t') => Err(Refusal::Folded),
            Some(_) => Err(refusal),
        }
    }

    fn check_length(&self, rules: &Rules) -> Result<(), Refusal> {
        match self.lines.complete() > rules.head {
            true => Err(Refusal::HeadTooLong),
            false => Ok(()),
        }
    }

    /// Whether nothing has come but line ends.
    pub(super) fn is_blank(&self, bytes: &[u8]) -> bool {
        self.line.is_none() && matches!(bytes, b"" | b"\r" | b"\r\n")
    }

    fn request_line(&mut self, line: &[u8], rules: &Rules) -> Result<(), Refusal> {
        if line.len() > rules.line {
            return Err(Refusal::LineTooLong);
        }
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let (Some(method), Some(target), Some(version)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::RequestLine);
        };
        if !(3..=20).contains(&method.len()) || !is_method(method) {
            return Err(Refusal::Method);
        }
        if !target::fits(method, target) {
            return Err(Refusal::Target);
        }
        let Some([minor @ b'0'..=b'9']) = version.strip_prefix(b"HTTP/1.") else {
            return Err(Refusal::Version);
        };
        let end = self.lines.complete() - b" HTTP/1.1\r\n".len();
        if target::is_strange(target) {
            let range = end - target.len()..end;
            self.oddities().target = Some(range.clone());
            let with = target::escape(target);
            if with != target {
                self.oddities().edits.push(Edit { range, with });
            }
        }
        if *minor > b'1' {
            // A later version than ours is read as ours.
            let digit = self.lines.complete() - b"1\r\n".len();
            let (range, with) = (digit..digit + 1, vec![b'1']);
            self.oddities().edits.push(Edit { range, with });
        }
        self.line = Some(RequestLine {
            connect: method == b"CONNECT",
            modern: *minor > b'0',
        });
        Ok(())
    }

    fn oddities(&mut self) -> &mut Oddities {
        self.oddities.get_or_insert_default()
    }

    /// Takes a field whose line, of `len` bytes, was the last one.
    #[inline]
    fn field(
        &mut self,
        name: &[u8],
        value: &[u8],
        len: usize,
        hidden: bool,
        trusts: bool,
    ) -> Result<(), Refusal> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            4 if is("host") => once(&mut self.host)?,
            6 if is("expect") => self.doubt = expectation(value).err(),
            7 if is("upgrade") => self.upgrade = true,
            12 if is("content-type") => once(&mut self.content_type)?,
            14 if is("content-length") => self.content_length(value),
            17 if is("transfer-encoding") => self.transfer_encoding(value),
            15.. if trusts && starts_with(name, b"x-forwarded-") => self.forwarded(name, value)?,
            LONGEST_NAME.. => return Err(Refusal::FieldTooLong),
            _ => {}
        }
        if hidden && !(trusts && is_forwarder_field(name)) {
            // Not counted either, as by gunicorn.
            let edit = self.lines.without_last(len);
            self.oddities().edits.push(edit);
        } else {
            self.fields += 1;
        }
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) {
        if self.length.replace(coding::length(value)).is_some() {
            self.framing_fault.get_or_insert(Refusal::Repeated);
        }
    }

    fn transfer_encoding(&mut self, value: &[u8]) {
        if let Err(refusal) = self.codings.add(value) {
            self.framing_fault.get_or_insert(refusal);
        }
    }

    /// What a believed proxy says of the client: gunicorn's `secure_scheme_headers`.
    fn forwarded(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        self.oddities().forwarded = true;
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let https = match name.len() {
            15 if is("x-forwarded-ssl") => value == b"on",
            // Some proxies say the latter of WebSockets.
            17 if is("x-forwarded-proto") => value == b"https" || value == b"wss",
            20 if is("x-forwarded-protocol") => value == b"ssl",
            _ => return Ok(()),
        };
        match self.oddities().https.replace(https) {
            Some(before) if before != https => Err(Refusal::Schemes),
            _ => Ok(()),
        }
    }

    fn check_begun(&self, bytes: &[u8], rules: &Rules) -> Result<(), Refusal> {
        let begun = self.lines.begun(bytes);
        // The last byte can be the CR of a line that just fits.
        if self.line.is_none() {
            return if begun > rules.line + 1 {
                Err(Refusal::LineTooLong)
            } else {
                Ok(())
            };
        }
        check_begun(begun, bytes.len(), rules.head, rules)
    }

    fn finish(&mut self, rules: &Rules) -> Result<Message, Refusal> {
        let Some(line) = self.line else {
            return Err(Refusal::RequestLine);
        };
        // Whatever is wrong with the other fields is told first, as in gunicorn.
        if let Some(refusal) = self.framing_fault {
            return Err(refusal);
        }
        let framing = match (self.codings, self.length) {
            (Codings { given: false, .. }, length) => Framing::Length(length.unwrap_or(Ok(0))?),
            (Codings { chunked: false, .. }, _) => return Err(Refusal::TransferEncoding),
            // Faulty by definition: nobody knows what a proxy made of it.
            _ if !line.modern => return Err(Refusal::TransferEncoding),
            (_, Some(_)) => return Err(Refusal::TwoLengths),
            _ => Framing::Chunked,
        };
        if matches!(framing, Framing::Length(length) if length > rules.body) {
            return Err(Refusal::BodyTooLong);
        }
        let sequel = if line.connect {
            Sequel::Tunnel
        } else if self.codings.compressed {
            Sequel::Nothing
        } else if self.upgrade && line.modern {
            Sequel::Undecided
        } else {
            Sequel::Message
        };
        Ok(Message {
            len: self.lines.complete(),
            framing,
            sequel,
            oddities: self.oddities.take(),
        })
    }
}

/// A field of a head or a trailer section.
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
}

/// Reads the line of one field more, beside those that are counted.
#[inline]
pub(super) fn field<'a>(line: &'a [u8], rules: &Rules, count: usize) -> Result<Field<'a>, Refusal> {
    if matches!(line, [b' ' | b'\t', ..]) {
        return Err(Refusal::Folded);
    }
    if count >= rules.fields {
        return Err(Refusal::TooManyFields);
    }
    let colon = line.iter().position(|byte| *byte == b':');
    let Some((name, value)) = colon.map(|colon| (&line[..colon], &line[colon + 1..])) else {
        return Err(Refusal::FieldName);
    };
    if !is_token(name) {
        return Err(Refusal::FieldName);
    }
    let value = trim(value);
    if has_control(value) {
        return Err(Refusal::FieldValue);
    }
    if line.len() + 2 > rules.field {
        return Err(Refusal::FieldTooLong);
    }
    Ok(Field { name, value })
}

/// Whether a section of `len` bytes, of which the last `begun` are a line that is not complete,
/// can still become one that is allowed.
pub(super) fn check_begun(
    begun: usize,
    len: usize,
    longest: usize,
    rules: &Rules,
) -> Result<(), Refusal> {
    if begun >= rules.field.max(2) {
        Err(Refusal::FieldTooLong)
    } else if len > longest {
        Err(Refusal::HeadTooLong)
    } else {
        Ok(())
    }
}

fn expectation(value: &[u8]) -> Result<(), Refusal> {
    match value.eq_ignore_ascii_case(b"100-continue") {
        true => Ok(()),
        false => Err(Refusal::Expectation),
    }
}

/// For a field that must not be there twice.
pub(super) fn once(seen: &mut bool) -> Result<(), Refusal> {
    match std::mem::replace(seen, true) {
        true => Err(Refusal::Repeated),
        false => Ok(()),
    }
}

/// Whether a field is kept from the app. `X_Name` and `X-Name` are one and the same variable to a
/// CGI or WSGI app: whoever may send only one of the two must not get through with the other.
#[inline]
pub(super) fn is_hidden(name: &[u8]) -> bool {
    memchr::memchr(b'_', name).is_some()
}

/// What a believed proxy may send all the same: gunicorn's `forwarder_headers`.
fn is_forwarder_field(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"script_name") || name.eq_ignore_ascii_case(b"path_info")
}

fn starts_with(name: &[u8], start: &[u8]) -> bool {
    name.get(..start.len())
        .is_some_and(|name| name.eq_ignore_ascii_case(start))
}
