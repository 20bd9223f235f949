//! The watcher alone: what passes, what does not, and that pieces make no difference.

use proptest::prelude::*;

use super::*;

fn rules() -> Rules {
    Rules::default()
}

/// What a watcher makes of bytes that come at once.
fn watch(bytes: &[u8]) -> (usize, Option<Refusal>) {
    let mut watcher = Watcher::new(rules(), false);
    let passed = watcher.pass(bytes);
    (passed, watcher.fault().map(|fault| fault.refusal))
}

fn head(lines: &str) -> Option<Refusal> {
    let bytes = format!("GET / HTTP/1.1\r\n{lines}\r\n");
    let (passed, refusal) = watch(bytes.as_bytes());
    assert_eq!(passed, if refusal.is_some() { 0 } else { bytes.len() });
    refusal
}

fn body(chunks: &str) -> Option<Refusal> {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut watcher = Watcher::new(rules(), false);
    let passed = watcher.pass(format!("{head}{chunks}").as_bytes());
    assert!(passed >= head.len());
    watcher.end();
    let fault = watcher.fault();
    assert!(fault.is_none_or(|fault| fault.body_of == Some(1)));
    fault.map(|fault| fault.refusal)
}

#[test]
fn request_lines() {
    for (line, refusal) in [
        ("GET / HTTP/1.1", None),
        ("GET / HTTP/1.0", None),
        ("GET / HTTP/1.9", None),
        ("M-SEARCH / HTTP/1.1", None),
        ("GET /", Some(Refusal::RequestLine)),
        ("GET  / HTTP/1.1", Some(Refusal::Target)),
        ("GET / HTTP/1.1 ", Some(Refusal::Version)),
        ("GET / http/1.1", Some(Refusal::Version)),
        ("GET / HTTP/2.0", Some(Refusal::Version)),
        ("GET / HTTP/0.9", Some(Refusal::Version)),
        ("GET / HTTP/1.10", Some(Refusal::Version)),
        ("get / HTTP/1.1", Some(Refusal::Method)),
        ("GE / HTTP/1.1", Some(Refusal::Method)),
        ("ABCDEFGHIJKLMNOPQRSTU / HTTP/1.1", Some(Refusal::Method)),
        (" GET / HTTP/1.1", Some(Refusal::Method)),
        ("G\tT / HTTP/1.1", Some(Refusal::Method)),
        ("PRI * HTTP/2.0", Some(Refusal::Target)),
        ("GET /\r HTTP/1.1", Some(Refusal::Target)),
    ] {
        let bytes = format!("{line}\r\n\r\n");
        let passed = if refusal.is_some() { 0 } else { bytes.len() };
        assert_eq!(watch(bytes.as_bytes()), (passed, refusal), "{line:?}");
    }
}

#[test]
fn one_empty_line_may_come_first() {
    assert_eq!(watch(b"\r\nGET / HTTP/1.1\r\n\r\n"), (20, None));
    assert_eq!(watch(b"\r\n\r\n"), (0, Some(Refusal::RequestLine)));
    assert_eq!(watch(b"\n"), (0, Some(Refusal::BareLf)));
    let mut watcher = Watcher::new(rules(), false);
    assert!(watcher.is_blank(b"") && watcher.is_blank(b"\r\n") && !watcher.is_blank(b"\r\nG"));
    watcher.pass(b"\r\nG");
    assert!(!watcher.is_blank(b"\r\nG"));
}

#[test]
fn fields() {
    for (lines, refusal) in [
        ("", None),
        ("Host: a\r\n", None),
        ("A:\r\nB: \t \r\nC:\tc\u{e9}\r\n", None),
        ("Expect: 100-Continue\r\n", None),
        ("Host: a\r\nhost: a\r\n", Some(Refusal::Repeated)),
        (
            "Content-Type: a\r\nContent-type: a\r\n",
            Some(Refusal::Repeated),
        ),
        (
            "Content-Length: 0\r\nContent-Length: 0\r\n",
            Some(Refusal::Repeated),
        ),
        ("Expect: x\r\n", Some(Refusal::Expectation)),
        ("A\r\n", Some(Refusal::FieldName)),
        (": a\r\n", Some(Refusal::FieldName)),
        ("A : a\r\n", Some(Refusal::FieldName)),
        ("A\u{e9}: a\r\n", Some(Refusal::FieldName)),
        ("A: a\r\n b\r\n", Some(Refusal::Folded)),
        (" A: a\r\n", Some(Refusal::Folded)),
        ("A: a\0\r\n", Some(Refusal::FieldValue)),
        ("A: a\rb\r\n", Some(Refusal::FieldValue)),
        ("A: a\nB: b\r\n", Some(Refusal::BareLf)),
        ("A: a\r\r\n", Some(Refusal::FieldValue)),
        (
            "Transfer-Encoding: identity\r\n",
            Some(Refusal::TransferEncoding),
        ),
        ("Transfer-Encoding: x\r\n", Some(Refusal::UnknownCoding)),
        ("Content-Length: x\r\n", Some(Refusal::ContentLength)),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            Some(Refusal::TwoLengths),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            Some(Refusal::TwoLengths),
        ),
        (
            "Content-Length: 18446744073709551614\r\n",
            Some(Refusal::BodyTooLong),
        ),
    ] {
        assert_eq!(head(lines), refusal, "{lines:?}");
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(watch(old), (0, Some(Refusal::TransferEncoding)));
}

#[test]
fn limits_are_told_as_soon_as_they_are_passed() {
    let line = |len: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(len - 14));
    assert_eq!(watch(line(4094).as_bytes()), (4098, None));
    assert_eq!(
        watch(line(4095).as_bytes()),
        (0, Some(Refusal::LineTooLong))
    );
    assert_eq!(watch(&[b'G'; 4095]), (0, None));
    assert_eq!(watch(&[b'G'; 4096]), (0, Some(Refusal::LineTooLong)));

    let field = |len: usize| format!("A:{}\r\n", "x".repeat(len - 4));
    assert_eq!(head(&field(8190)), None);
    assert_eq!(head(&field(8191)), Some(Refusal::FieldTooLong));
    let begun = |len: usize| [b"GET / HTTP/1.1\r\n".as_slice(), &vec![b'A'; len]].concat();
    assert_eq!(watch(&begun(8189)), (0, None));
    assert_eq!(watch(&begun(8190)), (0, Some(Refusal::FieldTooLong)));

    assert_eq!(head(&"A: a\r\n".repeat(100)), None);
    assert_eq!(head(&"A: a\r\n".repeat(101)), Some(Refusal::TooManyFields));
    assert_eq!(head(&field(8000).repeat(60)), Some(Refusal::HeadTooLong));
}

#[test]
fn chunks() {
    for (chunks, refusal) in [
        ("0\r\n\r\n", None),
        ("5;a=\"b\"\r\nhello\r\n00\r\nA: a\r\n\r\n", None),
        ("5\r\nhello0\r\n\r\n", Some(Refusal::ChunkEnd)),
        ("5\r\nhello\n0\r\n\r\n", Some(Refusal::ChunkEnd)),
        ("5\nhello\r\n0\r\n\r\n", Some(Refusal::BareLf)),
        ("5 \r\nhello\r\n0\r\n\r\n", Some(Refusal::ChunkSize)),
        ("5;\r\nhello\r\n0\r\n\r\n", Some(Refusal::ChunkExtension)),
        ("0\r\n", Some(Refusal::ChunkEnd)),
        ("0\r\nA: a\r\n", Some(Refusal::ChunkEnd)),
        ("0\r\nA: a\n\r\n", Some(Refusal::BareLf)),
        ("0\r\nHost: a\r\n\r\n", Some(Refusal::Trailer)),
        ("0\r\nTE: a\r\n\r\n", Some(Refusal::Trailer)),
        ("0\r\nA a\r\n\r\n", Some(Refusal::FieldName)),
        ("0\r\n A: a\r\n\r\n", Some(Refusal::Folded)),
        ("fffffffffffffffe\r\n", Some(Refusal::BodyTooLong)),
        ("8000000000000000\r\n", None),
    ] {
        assert_eq!(body(chunks), refusal, "{chunks:?}");
    }
    assert_eq!(body(&"0".repeat(8191)), Some(Refusal::ChunkSize));
    let extended = format!("1;{}\r\na\r\n", "x".repeat(8000)).repeat(3);
    assert_eq!(body(&extended), None);
    let many = format!("0\r\n{}\r\n", "A: a\r\n".repeat(101));
    assert_eq!(body(&many), Some(Refusal::TooManyFields));
    let long = format!(
        "0\r\n{}\r\n",
        format!("A: {}\r\n", "x".repeat(5000)).repeat(4)
    );
    assert_eq!(body(&long), Some(Refusal::HeadTooLong));
}

#[test]
fn nothing_passes_behind_a_message_that_may_be_the_last() {
    let next = "GET / HTTP/1.1\r\n\r\n";
    for (first, wait, then) in [
        ("GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n", Wait::Verdict, None),
        (
            "CONNECT a:1 HTTP/1.1\r\n\r\n",
            Wait::Verdict,
            Some(Wait::Over),
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            Wait::Over,
            Some(Wait::Over),
        ),
    ] {
        let mut watcher = Watcher::new(rules(), false);
        let passed = watcher.pass(format!("{first}{next}").as_bytes());
        assert_eq!((passed, watcher.wait()), (first.len(), Some(wait)));
        watcher.declined();
        assert_eq!(watcher.wait(), then);
        let passed = watcher.pass(next.as_bytes());
        assert_eq!(passed, if then.is_none() { next.len() } else { 0 });
    }
    assert_eq!(head("Upgrade: x\r\n"), None);
    let old = b"GET / HTTP/1.0\r\nUpgrade: x\r\n\r\n";
    assert_eq!(watch(&old.repeat(2)), (old.len() * 2, None));
}

#[test]
fn only_a_believed_proxy_speaks_of_the_client() {
    for scheme in ["https", "wss"] {
        let fields = format!("X-Forwarded-Proto: {scheme}\r\nX-Forwarded-Ssl: on\r\n");
        let text = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        let https = |trusts| {
            let mut watcher = Watcher::new(rules(), trusts);
            assert_eq!(watcher.pass(text.as_bytes()), text.len());
            watcher
                .take_oddities()
                .first()
                .and_then(|oddity| oddity.https)
        };
        assert_eq!((https(true), https(false)), (Some(true), None));
    }
    let mut watcher = Watcher::new(rules(), true);
    watcher.pass(b"GET / HTTP/1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Protocol: x\r\n\r\n");
    assert_eq!(
        watcher.fault().map(|fault| fault.refusal),
        Some(Refusal::Schemes)
    );
}

#[test]
fn hyper_gets_what_it_takes() {
    let edited = |trusts, bytes: &str| {
        let mut watcher = Watcher::new(rules(), trusts);
        let passed = watcher.pass(bytes.as_bytes());
        assert_eq!(passed, bytes.len());
        watcher
            .edited(bytes.as_bytes())
            .map(|edited| String::from_utf8(edited).unwrap())
    };
    let plain = "GET /a?b=c HTTP/1.1\r\nA: b_c\r\n\r\n";
    assert_eq!(edited(false, plain), None);
    assert_eq!(
        edited(
            false,
            &format!("{plain}GET /<\"a\">?`#_ HTTP/1.7\r\nA_B: c\r\nC: d\r\n_:\r\n\r\n{plain}")
        )
        .unwrap(),
        format!("{plain}GET /%3C%22a%22%3E?%60#_ HTTP/1.1\r\nC: d\r\n\r\n{plain}")
    );
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(
        edited(false, &format!("{chunked}0\r\nA: b\r\nC_D: e\r\n\r\n")).unwrap(),
        format!("{chunked}0\r\nA: b\r\n\r\n")
    );
    let forwarder = "GET / HTTP/1.1\r\nSCRIPT_NAME: /a\r\nPath_Info: /b\r\n\r\n";
    assert_eq!(edited(true, forwarder), None);
    assert_eq!(edited(false, forwarder).unwrap(), "GET / HTTP/1.1\r\n\r\n");
}

/// What two readers could quarrel about.
const TOKENS: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a HTTP/1.0\r\n",
    "CONNECT a:1 HTTP/1.1\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    ";",
    "=",
    "\"",
    "0",
    "5",
    "a",
    "\0",
    "\u{e9}",
    "Host: a\r\n",
    "A_B: c\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Upgrade: x\r\n",
    "Expect: 100-continue\r\n",
    "X-Forwarded-Proto: https\r\n",
    "0\r\n\r\n",
    "3\r\nabc\r\n",
    "1;a=b\r\n#\r\n",
    "0\r\nA: b\r\n\r\n",
    "abc",
];

fn streams() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(TOKENS);
    let tokens = prop::collection::vec(token, 0..40);
    tokens.prop_map(|tokens| {
        tokens
            .concat()
            .chars()
            .map(|c| u8::try_from(c).unwrap())
            .collect()
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, trusts: bool) {
        let mut watcher = Watcher::new(rules(), trusts);
        let passed = watcher.pass(&bytes);
        prop_assert!(passed <= bytes.len());
        watcher.edited(&bytes[..passed]);
        watcher.end();
    }

    #[test]
    fn pieces_make_no_difference(bytes in streams(), cuts in prop::collection::vec(1_usize..9, 1..60), decline: bool) {
        let mut whole = Watcher::new(rules(), true);
        let mut all = whole.pass(&bytes);
        let mut edited = whole.edited(&bytes[..all]).unwrap_or(bytes[..all].to_vec());
        while decline && whole.wait() == Some(Wait::Verdict) {
            whole.declined();
            let more = whole.pass(&bytes[all..]);
            let piece = &bytes[all..all + more];
            edited.extend(whole.edited(piece).unwrap_or(piece.to_vec()));
            all += more;
        }
        let mut watcher = Watcher::new(rules(), true);
        let (mut passed, mut come, mut got) = (0, 0, Vec::new());
        let mut cuts = cuts.into_iter().cycle();
        while come < bytes.len() {
            come = bytes.len().min(come + cuts.next().unwrap());
            loop {
                let more = watcher.pass(&bytes[passed..come]);
                let piece = &bytes[passed..passed + more];
                got.extend(watcher.edited(piece).unwrap_or(piece.to_vec()));
                passed += more;
                if !decline || watcher.wait() != Some(Wait::Verdict) {
                    break;
                }
                watcher.declined();
            }
        }
        prop_assert_eq!((passed, watcher.fault(), watcher.wait()), (all, whole.fault(), whole.wait()));
        prop_assert_eq!(got, edited);
        prop_assert_eq!(watcher.take_oddities(), whole.take_oddities());
    }
}
