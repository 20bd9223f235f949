//! Early hints when the kernel takes a few bytes at a time.

use http::{HeaderMap, HeaderValue, header};
use worker_http::EarlyHints;

use super::*;

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";

/// What the app was given, and whether it answers.
#[derive(Default)]
struct Desk {
    hints: Vec<EarlyHints>,
    answers: bool,
}

/// The app answers what it is asked once it is told to.
fn bench(worker: &Worker) -> (Bench, Arc<Mutex<Desk>>) {
    let desk = Arc::new(Mutex::new(Desk::default()));
    let its = Arc::clone(&desk);
    let app = service_fn(move |request: Request<Incoming>| {
        let desk = Arc::clone(&its);
        let hints = request.extensions().get::<EarlyHints>().unwrap();
        desk.lock().unwrap().hints.push(hints.clone());
        std::future::poll_fn(move |_| {
            if desk.lock().unwrap().answers {
                let answer = Response::new(Full::new(Bytes::from_static(b"done")));
                Poll::Ready(Ok::<_, Infallible>(answer))
            } else {
                Poll::Pending
            }
        })
    });
    (Bench::serving(worker, app), desk)
}

fn hint(hints: &EarlyHints) {
    let link = HeaderValue::from_static("</a.css>");
    hints
        .send(&HeaderMap::from_iter([(header::LINK, link)]))
        .unwrap();
}

fn takes(bench: &Bench, bytes: usize) {
    bench.wire.lock().unwrap().room = Some(bytes);
}

/// All that the client has got.
fn came(bench: &mut Bench) -> String {
    bench.client.stream().set_nonblocking(true).unwrap();
    let mut came = Vec::new();
    let mut stream: &UnixStream = bench.client.stream();
    let _ = stream.read_to_end(&mut came);
    String::from_utf8(came).unwrap()
}

#[test]
fn a_hint_in_pieces_is_whole_before_the_response_begins() {
    scenario(
        "hints::a_hint_in_pieces_is_whole_before_the_response_begins",
        |worker| {
            for piece in 1..=HINT.len() {
                let (mut bench, desk) = bench(worker);
                bench.client.ask("/");
                assert!(bench.poll().is_pending());
                takes(&bench, piece);
                hint(&desk.lock().unwrap().hints[0]);
                assert!(bench.poll().is_pending());
                let first = came(&mut bench);
                assert_eq!(first, HINT[..piece]);
                desk.lock().unwrap().answers = true;
                let mut rest = String::new();
                while !rest.ends_with("done") {
                    takes(&bench, piece);
                    assert!(bench.poll_once().is_pending());
                    rest += &came(&mut bench);
                }
                let expected = format!("{}HTTP/1.1 200 OK\r\n", &HINT[piece..]);
                assert!(rest.starts_with(&expected), "{piece}: {rest}");
            }
        },
    );
}

#[test]
fn a_hint_waits_for_the_end_of_the_last_response() {
    scenario(
        "hints::a_hint_waits_for_the_end_of_the_last_response",
        |worker| {
            let (mut bench, desk) = bench(worker);
            bench.client.ask("/");
            bench.client.ask("/");
            desk.lock().unwrap().answers = true;
            takes(&bench, 20);
            assert!(bench.poll_once().is_pending());
            desk.lock().unwrap().answers = false;
            let mut all = came(&mut bench);
            assert!(!all.is_empty());
            // The second request is with the app as soon as the first one's answer is out.
            for room in [5, 1000] {
                takes(&bench, room);
                assert!(bench.poll().is_pending());
                let newest = desk.lock().unwrap().hints.last().cloned().unwrap();
                hint(&newest);
                assert!(bench.poll().is_pending());
                all += &came(&mut bench);
            }
            let (first, second) = all.split_once("done").unwrap();
            assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
            assert_eq!(second, HINT);
        },
    );
}

#[test]
fn a_hint_that_finds_no_room_before_the_response_does_not_hold_it_up() {
    scenario(
        "hints::a_hint_that_finds_no_room_before_the_response_does_not_hold_it_up",
        |worker| {
            let (mut bench, desk) = bench(worker);
            bench.client.ask("/");
            takes(&bench, 0);
            assert!(bench.poll().is_pending());
            hint(&desk.lock().unwrap().hints[0]);
            assert!(bench.poll().is_pending());
            desk.lock().unwrap().answers = true;
            assert!(bench.poll().is_pending());
            takes(&bench, 1000);
            assert!(bench.poll().is_pending());
            let all = came(&mut bench);
            assert!(all.starts_with(HINT) && all.ends_with("done"), "{all}");
        },
    );
}
