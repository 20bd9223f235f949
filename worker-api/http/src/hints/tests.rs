use http::HeaderValue;

use super::*;

fn link(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::LINK, HeaderValue::from_str(value).unwrap())])
}

fn outbox(heads: &[&'static str]) -> Outbox {
    let mut outbox = Outbox::default();
    for head in heads {
        outbox.push(Bytes::from_static(head.as_bytes()));
    }
    outbox
}

#[test]
fn hints_are_a_head_of_status_103() {
    let mut fields = link("</a.css>; rel=preload");
    fields.append(header::LINK, HeaderValue::from_static("</b.js>"));
    let head = head_of(&fields).unwrap().unwrap();
    assert_eq!(
        head,
        "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>\r\n\r\n"
    );
}

#[test]
fn what_would_frame_a_body_or_end_the_connection_is_left_out() {
    let mut fields = HeaderMap::new();
    for name in UNFIT {
        fields.insert(name, HeaderValue::from_static("4"));
    }
    assert_eq!(head_of(&fields), Ok(None));
    fields.extend(link("</a.css>"));
    let head = head_of(&fields).unwrap().unwrap();
    assert_eq!(head, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
}

#[test]
fn a_head_is_as_long_as_a_client_takes_and_no_longer() {
    let around = head_of(&link("")).unwrap().unwrap().len();
    let longest = "x".repeat(LONGEST - around);
    let head = head_of(&link(&longest)).unwrap().unwrap();
    assert_eq!(head.len(), LONGEST);
    let longer = longest + "x";
    assert_eq!(head_of(&link(&longer)), Err(HintsTooLong(LONGEST + 1)));
}

#[test]
fn only_the_version_that_has_them_gets_them() {
    assert!(is_understood(Version::HTTP_11));
    assert!(!is_understood(Version::HTTP_10) && !is_understood(Version::HTTP_09));
}

#[test]
fn hints_go_out_when_http_has_nothing_to_write_or_before_it_begins() {
    for moment in [Moment::After, Moment::Between] {
        let mut outbox = outbox(&["one", "two"]);
        assert_eq!(outbox.next(moment, false).unwrap(), "one");
        outbox.wrote(3);
        assert_eq!(outbox.next(moment, false).unwrap(), "two");
        outbox.wrote(3);
        assert_eq!(outbox.next(moment, false), None);
        assert!(outbox.is_empty());
    }
}

#[test]
fn hints_wait_until_what_is_half_written_is_out() {
    let mut outbox = outbox(&["one"]);
    assert_eq!(outbox.next(Moment::Within, false), None);
    assert_eq!(outbox.next(Moment::After, false).unwrap(), "one");
}

#[test]
fn hints_of_before_the_answer_precede_it_and_are_dropped_if_they_cannot() {
    let mut early = outbox(&["one"]);
    assert_eq!(early.next(Moment::Between, true).unwrap(), "one");
    for moment in [Moment::Within, Moment::After] {
        let mut late = outbox(&["one", "two"]);
        assert_eq!(late.next(moment, true), None);
        assert!(late.is_empty());
    }
}

#[test]
fn what_is_begun_is_finished_first_whatever_happens() {
    for moment in [Moment::Between, Moment::Within, Moment::After] {
        for answered in [false, true] {
            let mut outbox = outbox(&["one", "two"]);
            outbox.wrote(1);
            outbox.expire();
            assert_eq!(outbox.next(moment, answered).unwrap(), "ne");
            outbox.wrote(1);
            assert_eq!(outbox.next(moment, answered).unwrap(), "e");
            outbox.wrote(1);
            assert!(outbox.is_empty(), "the second one is of another request");
        }
    }
}

#[test]
fn so_much_waits_and_no_more() {
    let mut outbox = Outbox::default();
    let head = Bytes::from(vec![b'x'; LONGEST]);
    for _ in 0..10 {
        outbox.push(head.clone());
    }
    assert_eq!(outbox.heads.len(), WAITING / LONGEST);
}
