//! The layout for machines: one object a line, always the same keys in the same order.

use super::atom::{Names, number, user};
use super::{Record, date, escape};

/// Where the header fields are that the object has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    authorization: usize,
    referer: usize,
    user_agent: usize,
}

impl Places {
    pub(super) fn new(names: &mut Names) -> Self {
        Self {
            authorization: names.request("authorization"),
            referer: names.request("referer"),
            user_agent: names.request("user-agent"),
        }
    }

    pub(super) fn write(&self, record: &Record<'_>, cut: usize, line: &mut Vec<u8>) {
        let field = |at: usize| record.fields.request(at);
        let user = user(field(self.authorization));
        let query = Some(record.query).filter(|query| !query.is_empty());
        line.extend(b"{\"time\":\"");
        date::write_rfc3339(record.at, line);
        line.extend(b"\",\"remote\":");
        match record.remote {
            Some(remote) => number(line, format_args!("\"{}\"", remote.ip().to_canonical())),
            None => line.extend(b"null"),
        }
        let texts = [
            ("user", user.as_deref()),
            ("method", Some(record.method.as_bytes())),
            ("path", Some(record.path.as_bytes())),
            ("query", query.map(str::as_bytes)),
            ("protocol", Some(record.protocol.as_bytes())),
        ];
        texts
            .iter()
            .for_each(|(key, value)| text(key, *value, cut, line));
        match record.status {
            Some(status) => number(line, format_args!(",\"status\":{status}")),
            None => line.extend(b",\"status\":null"),
        }
        let micros = record.took.as_micros();
        number(line, format_args!(",\"body_bytes\":{}", record.body_bytes));
        number(line, format_args!(",\"duration_us\":{micros}"));
        text("referer", field(self.referer), cut, line);
        text("user_agent", field(self.user_agent), cut, line);
        number(line, format_args!(",\"pid\":{}}}", std::process::id()));
    }
}

fn text(key: &str, value: Option<&[u8]>, cut: usize, line: &mut Vec<u8>) {
    number(line, format_args!(",\"{key}\":"));
    match value {
        Some(value) => escape::json(value, cut, line),
        None => line.extend(b"null"),
    }
}
