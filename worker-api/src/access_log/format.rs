//! A format: parsed once, and used for every line.

use super::atom::{Atom, Known, Names};
use super::escape::Setting;
use super::json;
use super::{DEFAULT_FORMAT, Record};

/// The longest format that makes sense.
const MOST_BYTES: usize = 1024;

/// When a line is too long, its values are cut at so many bytes, the next number if that is still
/// too much.
const CUTS: [usize; 6] = [usize::MAX, 1024, 256, 64, 16, 4];

/// How a line of the access log looks.
///
/// ```
/// use worker_api::access_log::Format;
///
/// let format = Format::parse(r#"%(h)s "%(r)s" %(s)s %({x-request-id}i)s"#)?;
/// assert_eq!(format.request_fields(), ["x-request-id"]);
/// assert!(Format::parse("json").is_ok());
/// let error = Format::parse("%(h)s %(x)s").unwrap_err();
/// assert!(error.to_string().contains("`%(x)s`"));
/// # Ok::<(), worker_api::access_log::FormatError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    layout: Layout,
    names: Names,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    Json(json::Places),
    Text(Vec<Piece>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// With what surrounds its value in the format.
    Atom(Atom, Setting),
}

/// What is wrong with a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// There is no such atom.
    #[error("`{0}` is no atom of an access log")]
    Unknown(String),
    /// An atom is not ended.
    #[error("`{0}` does not end as an atom does, with `)s`")]
    Open(String),
    /// The name in the braces cannot be one.
    #[error("`{0}` does not name a header field or variable")]
    Name(String),
    /// A percent sign begins no atom.
    #[error("a percent sign that begins no atom is written `%%`")]
    Percent,
    /// It would not be one line.
    #[error("a control character in an access log's format")]
    Control,
    /// Nothing is to be logged.
    #[error("the access log's format is empty")]
    Empty,
    /// It is absurdly long.
    #[error("an access log's format has at most {MOST_BYTES} bytes")]
    TooLong,
}

impl Format {
    /// Understands `json`, or a format of gunicorn's atoms. Variables that are not about the
    /// request are read from this process's environment here.
    ///
    /// # Errors
    /// See [`FormatError`].
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut names = Names::default();
        let layout = if text == "json" {
            Layout::Json(json::Places::new(&mut names))
        } else {
            Layout::Text(pieces(text, &mut names)?)
        };
        Ok(Self { layout, names })
    }

    /// Names of the request fields that lines need, in lower case.
    #[must_use]
    pub fn request_fields(&self) -> &[String] {
        &self.names.request
    }

    /// Names of the response fields that lines need, in lower case.
    #[must_use]
    pub fn response_fields(&self) -> &[String] {
        &self.names.response
    }

    /// Appends the line of a request with its line end, of at most `most` bytes: values that are
    /// too long for that are cut and end in `...`. `false` if not even that helps; then nothing is
    /// appended.
    pub fn render(&self, record: &Record<'_>, most: usize, line: &mut Vec<u8>) -> bool {
        let start = line.len();
        for cut in CUTS {
            match &self.layout {
                Layout::Json(places) => places.write(record, cut, line),
                Layout::Text(pieces) => write(pieces, record, cut, line),
            }
            line.push(b'\n');
            if line.len() - start <= most {
                return true;
            }
            line.truncate(start);
        }
        false
    }
}

impl Default for Format {
    /// [`DEFAULT_FORMAT`].
    fn default() -> Self {
        let empty = Self {
            layout: Layout::Text(Vec::new()),
            names: Names::default(),
        };
        // That it parses is tested.
        Self::parse(DEFAULT_FORMAT).unwrap_or(empty)
    }
}

fn write(pieces: &[Piece], record: &Record<'_>, cut: usize, line: &mut Vec<u8>) {
    for piece in pieces {
        match piece {
            Piece::Literal(text) => line.extend_from_slice(text.as_bytes()),
            Piece::Atom(atom, setting) => atom.write(record, *setting, cut, line),
        }
    }
}

fn pieces(text: &str, names: &mut Names) -> Result<Vec<Piece>, FormatError> {
    if text.is_empty() {
        return Err(FormatError::Empty);
    }
    if text.len() > MOST_BYTES {
        return Err(FormatError::TooLong);
    }
    if text.contains(|c: char| c.is_control() && c != '\t') {
        return Err(FormatError::Control);
    }
    // In a string of JSON when an odd number of quotes came before.
    let is_json = text.starts_with('{');
    let in_string = |rest: &str| {
        let before = &text[..text.len() - rest.len()];
        before.matches('"').count() % 2 == 1
    };
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        literal(&mut pieces, &rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("%%") {
            literal(&mut pieces, "%");
            rest = after;
            continue;
        }
        let end = end_of_atom(rest)?;
        let (whole, after) = rest.split_at(end);
        // Without `%(` and `)s`.
        let atom = match Atom::parse(&whole[2..end - 2], names) {
            Known::Atom(atom) => atom,
            Known::NoSuchAtom => return Err(FormatError::Unknown(whole.to_owned())),
            Known::NoSuchName => return Err(FormatError::Name(whole.to_owned())),
        };
        let setting = if is_json && in_string(rest) {
            Setting::InJson
        } else {
            Setting::Before(after.bytes().next().filter(|b| !b.is_ascii_alphanumeric()))
        };
        pieces.push(Piece::Atom(atom, setting));
        rest = after;
    }
    literal(&mut pieces, rest);
    Ok(pieces)
}

/// How long the atom is at the beginning of `text`.
fn end_of_atom(text: &str) -> Result<usize, FormatError> {
    let Some(inside) = text.strip_prefix("%(") else {
        return Err(FormatError::Percent);
    };
    // A name in braces may hold anything else.
    let name = if inside.starts_with('{') {
        inside.find('}')
    } else {
        Some(0)
    };
    let close = name.and_then(|name| Some(name + inside[name..].find(')')?));
    match close {
        Some(close) if inside[close..].starts_with(")s") => Ok("%(".len() + close + ")s".len()),
        Some(close) => Err(FormatError::Open(format!("%({}", &inside[..=close]))),
        None => {
            let shown = text.split([' ', '"']).next().unwrap_or(text);
            Err(FormatError::Open(shown.to_owned()))
        }
    }
}

fn literal(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Literal(before)) => before.push_str(text),
        _ => pieces.push(Piece::Literal(text.to_owned())),
    }
}
