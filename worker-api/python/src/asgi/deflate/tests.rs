use http::HeaderValue;

use super::*;

const KEY: [u8; 4] = [1, 2, 3, 4];
const LIMIT: usize = 1 << 16;
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2: u8 = 0x20;
const TEXT: u8 = 1;
const PING: u8 = 9;

fn masked(payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let keys = key.iter().cycle();
    payload
        .iter()
        .zip(keys)
        .map(|(byte, key)| byte ^ key)
        .collect()
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, FIN | u8::try_from(payload.len()).unwrap()];
    frame.extend(KEY);
    frame.extend(masked(payload, KEY));
    frame
}

/// As a compressed message comes out.
fn passed(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![FIN | TEXT];
    match u16::try_from(text.len()).unwrap() {
        len @ 0..126 => frame.push(FIN | u8::try_from(len).unwrap()),
        len => {
            frame.push(FIN | 126);
            frame.extend(len.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text);
    frame
}

/// What tungstenite gets to read of it, `at_once` bytes of which come together.
fn read(came: &[u8], at_once: usize) -> Vec<u8> {
    let mut inflow = Inflow::new(LIMIT);
    let mut all = Vec::new();
    for piece in came.chunks(at_once) {
        inflow.take(piece);
        let mut buf = [0; 7];
        loop {
            match inflow.give(&mut buf) {
                0 => break,
                len => all.extend(&buf[..len]),
            }
        }
    }
    all
}

#[test]
fn an_offer_is_taken_if_it_asks_for_no_smaller_window() {
    for (offers, taken) in [
        (&["permessage-deflate"][..], true),
        (&["permessage-deflate; client_max_window_bits"], true),
        (
            &["permessage-deflate;client_max_window_bits=\"9\" ; server_no_context_takeover"],
            true,
        ),
        (&["permessage-deflate; server_max_window_bits=15"], true),
        (&["permessage-deflate; server_max_window_bits=10"], false),
        (&["permessage-deflate; server_max_window_bits"], false),
        (&["permessage-deflate; client_max_window_bits=16"], false),
        (&["permessage-deflate; client_no_context_takeover=1"], false),
        (&["permessage-deflate; unheard_of"], false),
        (&["x-webkit-deflate-frame"], false),
        (
            &["permessage-deflate; server_max_window_bits=10, permessage-deflate"],
            true,
        ),
        (&["permessage-bzip2", "permessage-deflate"], true),
        (&[], false),
    ] {
        let mut fields = HeaderMap::new();
        for offer in offers {
            let offer = HeaderValue::from_static(offer);
            fields.append(header::SEC_WEBSOCKET_EXTENSIONS, offer);
        }
        assert_eq!(is_offered(&fields), taken, "{offers:?}");
    }
}

/// The examples of RFC 7692, section 7.2.3, and what may come between.
#[test]
fn what_comes_compressed_is_made_plain_and_all_else_passes() {
    let hello: [(&str, &[u8]); 5] = [
        ("one block", b"\xf2\x48\xcd\xc9\xc9\x07\x00"),
        ("stored", b"\x00\x05\x00\xfa\xffHello\x00"),
        (
            "the last of its stream",
            b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        ),
        (
            "two blocks",
            b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        ),
        (
            "with an empty end",
            b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff\x00",
        ),
    ];
    for (what, payload) in hello {
        let plain = frame(FIN | TEXT, b"as it is");
        let ping = frame(FIN | PING, b"?");
        let mut came = [&plain[..], &frame(FIN | RSV1 | TEXT, payload)].concat();
        let mut expected = [plain, passed(b"Hello")].concat();
        // In three pieces, one of them empty, with a ping among them.
        came.extend(frame(RSV1 | TEXT, &payload[..3]));
        came.extend(frame(0, b""));
        came.extend(&ping);
        came.extend(frame(FIN, &payload[3..]));
        expected.extend([ping, passed(b"Hello")].concat());
        for at_once in [came.len(), 1, 5] {
            assert_eq!(read(&came, at_once), expected, "{what}, {at_once} at once");
        }
    }
    let nothing = frame(FIN | RSV1 | TEXT, b"\x00");
    assert_eq!(read(&nothing, 1), passed(b""));
}

#[test]
fn what_is_sent_compressed_can_be_read() {
    let text = "round and round ".repeat(300);
    let Message::Frame(sent) = squeezed(Message::text(text.clone())) else {
        panic!("it is worth it");
    };
    assert!(sent.header().rsv1 && sent.payload().len() < 100);
    for at in [1, 40, sent.payload().len()] {
        let pieces = sent.payload().split_at(at);
        let last = frame(FIN, pieces.1);
        let came = [frame(RSV1 | TEXT, pieces.0), last].concat();
        assert_eq!(read(&came, 64), passed(text.as_bytes()));
    }
    let short = Message::text("short");
    assert_eq!(squeezed(short.clone()), short);
    // Nothing is gained where there is no order.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(5000)
    .collect();
    let noise = Message::binary(noise);
    assert_eq!(squeezed(noise.clone()), noise);
}

#[test]
fn what_is_wrong_is_for_tungstenite_to_find() {
    let begun = frame(RSV1 | TEXT, b"\xf2\x48");
    let wrong: [(&str, Vec<u8>); 6] = [
        ("corrupt", frame(FIN | RSV1 | TEXT, b"\xff\xff\xff")),
        (
            "another one begins",
            [&begun[..], &frame(FIN | TEXT, b"x")].concat(),
        ),
        ("again", [&begun[..], &frame(FIN | RSV1, b"\xcd")].concat()),
        ("another bit", frame(FIN | RSV1 | RSV2 | TEXT, b"\x00")),
        ("no such frame", [&begun[..], &frame(FIN | 3, b"")].concat()),
        ("not masked", [&begun[..], &[FIN, 1, 0xcd]].concat()),
    ];
    for (what, mut came) in wrong {
        came.extend(frame(FIN | TEXT, b"too late"));
        for at_once in [came.len(), 1] {
            assert_eq!(read(&came, at_once), WRONG, "{what}");
        }
    }
    // Without a message of ours, it finds it by itself.
    for came in [frame(FIN | RSV1, b"x"), vec![FIN | RSV1 | TEXT, 1, b'x']] {
        assert_eq!(read(&came, 1), came);
    }
}

#[test]
fn no_message_becomes_longer_than_it_may_be() {
    for (len, fits) in [
        (LIMIT - 1, true),
        (LIMIT, true),
        (LIMIT + 1, false),
        (LIMIT * 100, false),
    ] {
        let Message::Frame(bomb) = squeezed(Message::binary(vec![0; len])) else {
            panic!("it is worth it");
        };
        let mut inflow = Inflow::new(LIMIT);
        for piece in bomb.payload().chunks(100) {
            let first = if inflow.message.is_none() {
                RSV1 | TEXT
            } else {
                0
            };
            inflow.take(&frame(first, piece));
            let text = inflow
                .message
                .as_ref()
                .map_or(0, |message| message.text.capacity());
            assert!(text <= 3 * LIMIT);
        }
        inflow.take(&frame(FIN, b""));
        assert_eq!(inflow.is_wrong, !fits, "{len}");
        assert_eq!(inflow.plain.len() > len, fits, "{len}");
    }
}

#[test]
fn whatever_comes_it_is_the_same_in_one_piece_and_in_many() {
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..3000 {
        let mut came = Vec::new();
        for _ in 0..random(6) {
            let first = [0, FIN, RSV1, FIN | RSV1, FIN | RSV2][random(5)];
            let kind = [0, TEXT, 2, 8, PING, 3][random(6)];
            let good = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
            let payload = &good[random(4)..4 + random(4)];
            came.extend(frame(first | kind, payload));
            if random(8) == 0 {
                let at = random(came.len());
                came[at] = came[at].wrapping_add(1 << random(8));
            }
        }
        let whole = read(&came, came.len().max(1));
        assert_eq!(read(&came, 1), whole, "{came:02x?}");
        assert!(whole.len() <= 2 * LIMIT, "{came:02x?}");
    }
}
