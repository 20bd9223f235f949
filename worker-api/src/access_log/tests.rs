//! Lines, above all those that somebody made to look like others.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;

/// A request whose client writes the same hostile bytes wherever it can.
struct Request<'a> {
    format: &'a Format,
    fields: Vec<(&'static str, &'a [u8])>,
}

impl Fields for Request<'_> {
    fn request(&self, index: usize) -> Option<&[u8]> {
        let name = &self.format.request_fields()[index];
        let mut fields = self.fields.iter();
        fields
            .find(|(known, _)| known == name)
            .map(|(_, value)| *value)
    }

    fn response(&self, index: usize) -> Option<&[u8]> {
        (self.format.response_fields()[index] == "content-type").then_some(b"text/plain")
    }
}

fn record(fields: &dyn Fields) -> Record<'_> {
    Record {
        at: UNIX_EPOCH + Duration::from_millis(971_186_136_250),
        took: Duration::from_micros(1_234_567),
        remote: Some(SocketAddr::from(([192, 0, 2, 7], 4711))),
        method: "GET",
        target: "/a/b?c=d&e",
        path: "/a/b",
        query: "c=d&e",
        protocol: "HTTP/1.1",
        status: Some(404),
        body_bytes: 9,
        fields,
    }
}

const FIELDS: [(&str, &[u8]); 5] = [
    ("referer", b"https://example.org/"),
    ("user-agent", b"curl/8.5"),
    ("authorization", b"Basic YWxpY2U6c2VjcmV0"),
    ("x-request-id", b"77"),
    ("content-length", b"3"),
];

fn line_of(format: &str, fields: &[(&'static str, &[u8])]) -> String {
    let format = Format::parse(format).unwrap();
    let request = Request {
        format: &format,
        fields: fields.to_vec(),
    };
    let mut line = Vec::new();
    assert!(format.render(&record(&request), usize::MAX, &mut line));
    assert_eq!(line.pop(), Some(b'\n'));
    String::from_utf8(line).unwrap()
}

#[test]
fn the_default_line_is_gunicorns() {
    assert_eq!(
        line_of(DEFAULT_FORMAT, &FIELDS),
        r#"192.0.2.7 - alice [10/Oct/2000:13:55:36 +0000] "GET /a/b?c=d&e HTTP/1.1" 404 9 "https://example.org/" "curl/8.5""#
    );
    assert_eq!(
        line_of(DEFAULT_FORMAT, &[]),
        r#"192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] "GET /a/b?c=d&e HTTP/1.1" 404 9 "-" "-""#
    );
    assert_ne!(Format::default(), Format::parse("-").unwrap());
    assert_eq!(Format::default(), Format::parse(DEFAULT_FORMAT).unwrap());
}

#[test]
fn every_atom_says_its_own() {
    let pid = std::process::id();
    for (atom, expected) in [
        ("%(h)s", "192.0.2.7"),
        ("%(l)s", "-"),
        ("%(u)s", "alice"),
        ("%(t)s", "[10/Oct/2000:13:55:36 +0000]"),
        ("%(r)s", "GET /a/b?c=d&e HTTP/1.1"),
        ("%(m)s", "GET"),
        ("%(U)s", "/a/b"),
        ("%(q)s", "c=d&e"),
        ("%(H)s", "HTTP/1.1"),
        ("%(s)s", "404"),
        ("%(B)s", "9"),
        ("%(b)s", "9"),
        ("%(f)s", "https://example.org/"),
        ("%(a)s", "curl/8.5"),
        ("%(T)s", "1"),
        ("%(M)s", "1234"),
        ("%(D)s", "1234567"),
        ("%(L)s", "1.234567"),
        ("%(p)s", &*format!("<{pid}>")),
        ("%({X-Request-ID}i)s", "77"),
        ("%({x-nothing}i)s", "-"),
        ("%({Content-Type}o)s", "text/plain"),
        ("%({x-nothing}o)s", "-"),
        ("%({CARGO_PKG_NAME}e)s", "worker-api"),
        ("%({NO_SUCH_VARIABLE_ANYWHERE}e)s", "-"),
        ("%({REMOTE_ADDR}e)s:%({REMOTE_PORT}e)s", "192.0.2.7:4711"),
        ("%({http_x_request_id}e)s", "77"),
        ("%({CONTENT_LENGTH}e)s", "3"),
        ("%({RAW_URI}e)s", "/a/b?c=d&e"),
        ("100%% of %(m)s\t|", "100% of GET\t|"),
    ] {
        assert_eq!(line_of(atom, &FIELDS), expected, "{atom}");
    }
}

#[test]
fn what_is_no_format_is_refused_by_name() {
    for (format, expected) in [
        ("%(h)s %(x)s %(y)s", "`%(x)s` is no atom"),
        ("%()s", "`%()s` is no atom"),
        ("%(hh)s", "`%(hh)s` is no atom"),
        ("%({x-id}z)s", "`%({x-id}z)s` is no atom"),
        ("%({x-id)s", "`%({x-id)s` does not end"),
        ("%({}i)s", "`%({}i)s` does not name"),
        ("%({a b}i)s", "`%({a b}i)s` does not name"),
        ("%({a:b}o)s", "`%({a:b}o)s` does not name"),
        ("%({}e)s", "`%({}e)s` does not name"),
        ("%(h)d %(m)s", "`%(h)` does not end"),
        ("\"%(h\"", "`%(h` does not end"),
        ("%h", "written `%%`"),
        ("%", "written `%%`"),
        ("%(m)s\n", "control character"),
        ("", "empty"),
        (&"x".repeat(1025), "at most 1024"),
    ] {
        let error = Format::parse(format).unwrap_err().to_string();
        assert!(error.contains(expected), "{format}: {error}");
    }
}

#[test]
fn nothing_that_a_client_writes_ends_a_line_or_a_field() {
    let hostile = b"a\" 200 1 \"-\" \"\r\n10.0.0.1 - - [x] \\\x00\x1b[2J\x7f\xff\xc3\xbc";
    let fields: [(&str, &[u8]); 2] = [("user-agent", hostile), ("referer", b"a b]c|d")];
    assert_eq!(
        line_of(r#""%(a)s""#, &fields),
        r#""a\" 200 1 \"-\" \"\x0d\x0a10.0.0.1 - - [x] \\\x00\x1b[2J\x7f\xff\xc3\xbc""#
    );
    // The sign that follows in the format would end the value.
    assert_eq!(line_of("%(f)s %(s)s", &fields), r"a\x20b]c|d 404");
    assert_eq!(line_of("[%(f)s] %(s)s", &fields), r"[a b\x5dc|d] 404");
    assert_eq!(line_of("%(f)s|%(s)s", &fields), r"a b]c\x7cd|404");
    // No letter is taken away for that.
    assert_eq!(line_of("%(f)sb", &fields), "a b]c|db");
}

#[test]
fn in_a_format_that_is_shaped_as_json_values_are_json() {
    let hostile = b"caf\xc3\xa9 \"\\\t\x00\xff";
    let fields = [("user-agent", hostile.as_slice())];
    let line = line_of(r#"{"ua":"%(a)s","s":%(s)s,"more":"%(a)s, %(s)s"}"#, &fields);
    let read: serde_json::Value = serde_json::from_str(&line).unwrap();
    let value = "caf\u{e9} \"\\\t\0\u{fffd}";
    assert_eq!(read["ua"], value);
    assert_eq!(read["more"], format!("{value}, {}", read["s"]));
}

#[test]
fn a_name_from_basic_authentication_is_a_single_field() {
    let user = |value: &'static [u8]| line_of("%(u)s %(s)s", &[("authorization", value)]);
    // "eve - [x]:pw", "a\nb:pw", ":pw", "eve" (no colon)
    assert_eq!(user(b"Basic ZXZlIC0gW3hdOnB3"), r"eve\x20-\x20[x] 404");
    assert_eq!(user(b"basic   YQpiOnB3"), r"a\x0ab 404");
    for nobody in [
        &b"Basic OnB3"[..],
        b"Basic ZXZl",
        b"Basic ?",
        b"Basic",
        b"",
        b"Bearer YWxpY2U6c2VjcmV0",
    ] {
        assert_eq!(user(nobody), "- 404");
    }
}

#[test]
fn json_has_fixed_keys_and_is_ascii() {
    let pid = std::process::id();
    let fields: [(&str, &[u8]); 2] = [
        ("user-agent", b"\"},\n{\"status\":200,\"\\"),
        ("referer", b"\x00\x1b\x7f \xff\xc3\xbc\xf0\x9f\x92\xa5"),
    ];
    assert_eq!(
        line_of("json", &fields),
        format!(
            r#"{{"time":"2000-10-10T13:55:36.250Z","remote":"192.0.2.7","user":null,"method":"GET","path":"/a/b","query":"c=d&e","protocol":"HTTP/1.1","status":404,"body_bytes":9,"duration_us":1234567,"referer":"\u0000\u001b\u007f \ufffd\u00fc\ud83d\udca5","user_agent":"\"}},\u000a{{\"status\":200,\"\\","pid":{pid}}}"#
        )
    );
}

#[test]
fn a_request_without_an_answer_or_an_address_has_a_line_too() {
    let format = Format::parse("%(h)s %(s)s %(q)s.").unwrap();
    let request = Request {
        format: &format,
        fields: Vec::new(),
    };
    let record = Record {
        remote: None,
        status: None,
        query: "",
        ..record(&request)
    };
    let mut line = Vec::new();
    assert!(format.render(&record, 100, &mut line));
    assert_eq!(line, b"- - .\n");
    let json = Format::parse("json").unwrap();
    line.clear();
    assert!(json.render(&record_of(&json, &record), 1000, &mut line));
    let text = String::from_utf8(line).unwrap();
    assert!(text.contains(r#""remote":null"#) && text.contains(r#""status":null"#));
    assert!(text.contains(r#""query":null"#));
}

fn record_of<'a>(format: &'a Format, record: &Record<'a>) -> Record<'a> {
    let request = Request {
        format,
        fields: Vec::new(),
    };
    Record {
        fields: Box::leak(Box::new(request)),
        ..*record
    }
}

#[test]
fn a_line_that_is_too_long_loses_the_ends_of_its_values() {
    let format = Format::parse(r#"%(h)s "%(a)s" %(s)s"#).unwrap();
    let agent = vec![0xff; 8_000];
    let request = Request {
        format: &format,
        fields: vec![("user-agent", &agent)],
    };
    let mut line = b"before\n".to_vec();
    assert!(format.render(&record(&request), 4096, &mut line));
    let text = String::from_utf8(line.clone()).unwrap();
    let cut = format!("\"{}...\"", r"\xff".repeat(256));
    assert_eq!(text, format!("before\n192.0.2.7 {cut} 404\n"));
    assert!(!format.render(&record(&request), 20, &mut line));
    assert_eq!(line, text.as_bytes(), "nothing is left of what did not fit");
}

proptest! {
    #[test]
    fn no_format_and_no_value_makes_more_than_one_line(
        format in "([ -~]{0,6}%\\([a-zA-Z]\\)s|%\\(\\{[a-z-]{1,9}\\}[ioe]\\)s|[ -~]){0,8}",
        value in proptest::collection::vec(any::<u8>(), 0..300),
        most in 1_usize..500,
    ) {
        let formats = [Format::parse(&format), Format::parse("json")];
        for format in formats.into_iter().flatten() {
            let names = ["referer", "user-agent", "authorization"];
            let fields = names.map(|name| (name, &value[..])).to_vec();
            let request = Request { format: &format, fields };
            let mut line = Vec::new();
            if format.render(&record(&request), most, &mut line) {
                prop_assert!(line.len() <= most);
                let (last, rest) = line.split_last().unwrap();
                prop_assert_eq!(*last, b'\n');
                prop_assert!(rest.iter().all(|byte| (b' '..=b'~').contains(byte)));
            } else {
                prop_assert!(line.is_empty());
            }
        }
    }
}
