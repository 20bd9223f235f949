//! The watcher: pieces make no difference to it, and httparse reads what passes as it does.

use worker_http::checks::{Rules, Watcher};

/// The first byte says how the rest is cut.
pub(crate) fn run(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    let (trusts, size) = (how & 1 == 1, usize::from(how >> 1).max(1));
    let mut whole = Watcher::new(Rules::default(), trusts);
    let passed = whole.pass(bytes);
    let for_hyper = whole.edited(&bytes[..passed]);
    let for_hyper = for_hyper.unwrap_or_else(|| bytes[..passed].to_vec());

    let mut cut = Watcher::new(Rules::default(), trusts);
    let (mut done, mut came) = (0, 0);
    let mut got = Vec::new();
    for piece in bytes.chunks(size) {
        came += piece.len();
        let more = cut.pass(&bytes[done..came]);
        let piece = &bytes[done..done + more];
        got.extend(cut.edited(piece).unwrap_or_else(|| piece.to_vec()));
        done += more;
    }
    assert_eq!((done, &got), (passed, &for_hyper));
    assert_eq!((cut.fault(), cut.wait()), (whole.fault(), whole.wait()));
    assert_eq!(cut.take_oddities(), whole.take_oddities());
    read_first(&for_hyper);
}

/// What hyper gets begins with a head that httparse takes, and has no line end but CRLF.
fn read_first(bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let mut fields = vec![httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    let read = request.parse(bytes);
    let Ok(httparse::Status::Complete(len)) = read else {
        panic!("httparse: {read:?}");
    };
    assert!(bytes[..len].ends_with(b"\r\n\r\n"));
    for (at, byte) in bytes[..len].iter().enumerate() {
        let before = at.checked_sub(1).map(|before| bytes[before]);
        assert_eq!(*byte == b'\n', before == Some(b'\r'), "{at}");
    }
}
