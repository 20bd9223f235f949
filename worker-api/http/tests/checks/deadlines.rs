//! What does not come in time.

use std::time::Duration;

use crate::wire::{Outcome, send_and_wait};

fn after(seconds: u64, bytes: &str) -> Outcome {
    send_and_wait([bytes.as_bytes()], Duration::from_secs(seconds))
}

#[test]
fn a_head_that_stands_still_is_answered_with_408() {
    let begun = "GET / HTTP/1.1\r\nHost: a";
    assert!(!after(9, begun).hung_up);
    let outcome = after(11, begun);
    assert_eq!((outcome.statuses(), outcome.hung_up), (vec![408], true));
    // An empty line behind a request is no beginning of another one; more is.
    let request = "GET / HTTP/1.1\r\n\r\n".as_bytes();
    let later = |bytes: &str| {
        let outcome = send_and_wait([request, bytes.as_bytes()], Duration::from_secs(11));
        (outcome.statuses(), outcome.hung_up)
    };
    assert_eq!(later("\r\n"), (vec![200], false));
    assert_eq!(later("\r\nG"), (vec![200, 408], true));
}

#[test]
fn a_head_that_begins_while_another_request_is_answered_has_no_more_time() {
    let both = "GET / HTTP/1.1\r\n\r\nGET /next";
    assert!(!after(9, both).hung_up);
    let outcome = after(11, both);
    assert_eq!(
        (outcome.statuses(), outcome.hung_up),
        (vec![200, 408], true)
    );
}

#[test]
fn a_body_that_stands_still_is_answered_with_408() {
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for begun in [
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell",
        &format!("{chunked}5\r\nhello\r\n"),
        &format!("{chunked}5\r\nhello\r\n0\r\n"),
    ] {
        assert!(!after(59, begun).hung_up);
        let outcome = after(61, begun);
        assert_eq!((outcome.statuses(), outcome.hung_up), (vec![408], true));
        assert_eq!((outcome.seen.len(), outcome.broken), (0, 1));
    }
}

#[test]
fn an_idle_connection_is_given_its_time() {
    let whole = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
    assert!(!after(74, whole).hung_up);
    let outcome = after(76, whole);
    assert_eq!((outcome.statuses(), outcome.hung_up), (vec![200], true));
}
