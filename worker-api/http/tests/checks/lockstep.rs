//! Random streams: the app gets what was sent and nothing else, pieces make no difference, and
//! hyper never has to refuse anything by itself.

use proptest::prelude::*;
use proptest::sample::select;

use crate::wire::{Outcome, latin1, send};

/// A request whose meaning is known.
#[derive(Clone, Debug)]
struct Sent {
    bytes: Vec<u8>,
    method: &'static str,
    body: String,
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    // Bodies that look like what comes behind them.
    let piece = select(vec![
        "GET / HTTP/1.1\r\n\r\n",
        "0\r\n\r\n",
        "\r\n",
        "\n",
        "5\r\nhello\r\n",
        "x",
        "\u{ff}\0",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| {
        pieces
            .concat()
            .chars()
            .map(|c| u8::try_from(c).unwrap())
            .collect()
    })
}

fn requests() -> impl Strategy<Value = Sent> {
    let fields = prop::collection::vec(
        select(vec![
            "Host: a\r\n",
            "A: \t b \r\n",
            "B_C: d\r\n",
            "E:\r\n",
            "Expect: 100-continue\r\n",
        ]),
        0..4,
    );
    let fields = fields.prop_map(|mut fields| {
        fields.sort_unstable();
        fields.dedup();
        fields.concat()
    });
    let method = select(vec!["GET", "POST", "DELETE", "OPTIONS"]);
    let target = select(vec![
        "/",
        "/a?b=c",
        "//x",
        "/%20<",
        "http://a.example/b",
        "/#f",
    ]);
    let chunks = prop::option::of(prop::collection::vec((1_usize..40, any::<bool>()), 1..8));
    let trailers = select(vec!["", "A: b\r\n", "A: b\r\nC_D: e\r\n"]);
    (method, target, fields, bodies(), chunks, trailers).prop_map(
        |(method, target, fields, body, chunks, trailers)| {
            let mut bytes = format!("{method} {target} HTTP/1.1\r\n{fields}").into_bytes();
            match chunks {
                Some(sizes) => {
                    bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                    bytes.extend(chunked(&body, &sizes));
                    bytes.extend(format!("{trailers}\r\n").into_bytes());
                }
                None => {
                    bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
                    bytes.extend(&body);
                }
            }
            let body = latin1(&body);
            Sent {
                bytes,
                method,
                body,
            }
        },
    )
}

fn chunked(mut body: &[u8], sizes: &[(usize, bool)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sizes = sizes.iter().cycle();
    while let (false, Some((size, extended))) = (body.is_empty(), sizes.next()) {
        let (chunk, rest) = body.split_at(body.len().min(*size));
        let extension = if *extended { " ;a=\"b\"" } else { "" };
        bytes.extend(format!("{:03x}{extension}\r\n", chunk.len()).into_bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
        body = rest;
    }
    bytes.extend(b"0\r\n");
    bytes
}

fn pieces<'a>(bytes: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    let mut cuts = cuts.iter().cycle();
    std::iter::from_fn(move || {
        let len = rest.len().min(*cuts.next()?);
        let (piece, behind) = rest.split_at(len);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

/// What must not depend on the pieces: what the app got whole, and the last word of each answer.
fn essence(outcome: &Outcome) -> (Vec<crate::wire::Seen>, Vec<u16>, bool) {
    let mut statuses = outcome.statuses();
    statuses.retain(|status| *status != 100);
    (outcome.seen.clone(), statuses, outcome.closed)
}

/// hyper's own refusals have no text.
fn is_refused_by_hyper(outcome: &Outcome) -> bool {
    outcome.statuses().iter().any(|status| *status >= 400)
        && !outcome.answers.contains("content-type: text/plain")
}

proptest! {
    #[test]
    fn the_app_gets_what_was_sent(
        requests in prop::collection::vec(requests(), 1..6),
        cuts in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let bytes = requests.iter().flat_map(|request| request.bytes.clone()).collect::<Vec<_>>();
        let outcome = send(pieces(&bytes, &cuts));
        let sent: Vec<_> = requests.iter().map(|request| (request.method, &*request.body)).collect();
        let seen: Vec<_> = outcome.seen.iter().map(|seen| (&*seen.method, &*seen.body)).collect();
        prop_assert_eq!(seen, sent);
        prop_assert_eq!(essence(&outcome), essence(&send([&*bytes])));
    }

    #[test]
    fn two_readers_agree_about_what_is_wrong(
        requests in prop::collection::vec(requests(), 1..4),
        cuts in prop::collection::vec(1_usize..40, 1..20),
        noise in select(vec!["\r", "\n", "\r\n", " ", "\t", ":", ";", "\0", "0", "_", "#", "\u{e9}", "chunked", "Content-Length: 1\r\n",
            "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: identity\r\n", "HTTP/1.1", "GET / HTTP/1.1\r\n\r\n"]),
        place: prop::sample::Index,
        removed in 0_usize..3,
    ) {
        let mut bytes = requests.iter().flat_map(|request| request.bytes.clone()).collect::<Vec<_>>();
        let place = place.index(bytes.len());
        let end = bytes.len().min(place + removed);
        bytes.splice(place..end, noise.chars().map(|c| u8::try_from(c).unwrap()));
        let (whole, split) = (send([&*bytes]), send(pieces(&bytes, &cuts)));
        prop_assert!(!is_refused_by_hyper(&whole), "{}", whole.answers);
        prop_assert_eq!(essence(&split), essence(&whole));
    }
}
