//! Handlers that block or spin: everybody else is served all the same.

use std::io::Write;
use std::thread;

use worker_api::message::Command;

use crate::client::Client;
use crate::pod::{Baton, Pod};

fn one_thread() -> Pod<Baton> {
    Pod::with()
        .env("GRACEFORK_THREADS", "1")
        .env("GRACEFORK_HEALTH_PATH", "/up")
        .start()
}

#[test]
fn health_is_answered_while_the_only_call_blocks_or_spins() {
    for (path, told) in [("/block", "blocking"), ("/spin", "spinning")] {
        let mut pod = one_thread();
        let mut known = pod.connect();
        assert_eq!(known.get("/").status, 200);
        let mut busy = pod.connect();
        busy.ask(path);
        pod.expect(told);
        assert_eq!(known.get("/up").status, 200);
        assert_eq!(pod.connect().get("/up").status, 200, "a new connection");
        pod.until("the call alone runs", |pod| pod.row().in_flight == 1);
        pod.release();
        assert_eq!(busy.reply().status, 200);
    }
}

#[test]
fn requests_are_read_and_wait_while_the_only_call_blocks_and_lameduck_is_announced() {
    let mut pod = one_thread();
    let mut busy = pod.connect();
    busy.ask("/block");
    pod.expect("blocking");
    let mut waiting: Vec<_> = (0..8).map(|_| pod.connect()).collect();
    for client in &waiting {
        client.ask("/");
    }
    pod.until("all are read", |pod| pod.row().in_flight == 9);
    pod.board.set_pod_healthy(false);
    pod.command(&Command::Lameduck);
    pod.until("lameduck is announced", |pod| {
        let reply = pod.connect().get("/up");
        reply.status == 503 && reply.is_last()
    });
    pod.release();
    for client in waiting.iter_mut().chain([&mut busy]) {
        let reply = client.reply();
        assert!(reply.status == 200 && reply.is_last());
        client.expect_end();
    }
}

#[test]
fn a_call_that_waits_is_not_made_once_its_client_has_gone() {
    let mut pod = one_thread();
    let mut busy = pod.connect();
    busy.ask("/block");
    pod.expect("blocking");
    let (gone, half) = (pod.connect(), pod.connect());
    gone.ask("/spin");
    half.send("GET /spin HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    pod.until("all are read", |pod| pod.row().in_flight == 3);
    drop((gone, half));
    pod.until("two have gone", |pod| pod.row().in_flight == 1);
    pod.release();
    assert_eq!(busy.reply().status, 200);
    pod.drain();
    busy.expect_end();
    // A call of theirs would spin now, and the worker would wait for it.
    assert_eq!(pod.drained(), (1, 0));
}

#[test]
fn a_worker_drains_idle_connections_while_its_only_call_blocks() {
    let mut pod = one_thread();
    let mut idle = pod.connect();
    assert_eq!(idle.get("/").status, 200);
    let mut busy = pod.connect();
    busy.ask("/block");
    pod.expect("blocking");
    pod.drain();
    idle.expect_end();
    pod.release();
    assert!(busy.reply().is_last());
    assert_eq!(pod.drained(), (2, 0));
}

#[test]
fn so_many_calls_run_at_once_as_there_are_threads_and_no_more() {
    let mut pod = Pod::<Baton>::with().env("GRACEFORK_THREADS", "3").start();
    let mut clients: Vec<_> = (0..5).map(|_| pod.connect()).collect();
    for client in &clients {
        client.ask("/hold");
    }
    for _ in 0..3 {
        pod.expect("holding");
    }
    pod.until("all are read", |pod| pod.row().in_flight == 5);
    for _ in 0..5 {
        pod.release();
    }
    for client in &mut clients {
        assert_eq!(client.reply().text(), "held");
    }
    let threads: usize = clients[0].get("/threads").text().parse().unwrap();
    assert!((2..=4).contains(&threads), "{threads}");
}

#[test]
fn threads_are_made_when_they_are_needed() {
    let pod = Pod::<Baton>::with().env("GRACEFORK_THREADS", "64").start();
    let mut client = pod.connect();
    for _ in 0..200 {
        assert_eq!(client.get("/").status, 200);
    }
    let threads: usize = client.get("/threads").text().parse().unwrap();
    assert!(threads <= 3, "{threads}");
}

#[test]
fn a_panic_is_a_500_and_the_thread_lives() {
    let pod = one_thread();
    let mut client = pod.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/panic").status, 500);
        assert_eq!(client.get("/").text(), "hello");
    }
    client.ask("/broken");
    assert!(client.try_reply().is_err(), "cut off, not taken for whole");
    assert_eq!(pod.connect().get("/").text(), "hello");
}

#[test]
fn a_body_of_any_size_is_echoed_with_bounded_memory() {
    const LEN: usize = 100 << 20;
    let pod = one_thread();
    let before: u64 = pod.connect().get("/memory").text().parse().unwrap();
    for head in [
        format!("content-length: {LEN}"),
        "transfer-encoding: chunked".into(),
    ] {
        let chunked = head.starts_with('t');
        let mut client = pod.connect();
        client.send(format!(
            "POST /echo HTTP/1.1\r\nhost: test\r\n{head}\r\n\r\n"
        ));
        let mut writer = client.stream().try_clone().unwrap();
        let writing = thread::spawn(move || {
            let piece: Vec<_> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
            for _ in 0..LEN / piece.len() {
                if chunked {
                    writer
                        .write_all(format!("{:x}\r\n", piece.len()).as_bytes())
                        .unwrap();
                }
                writer.write_all(&piece).unwrap();
                if chunked {
                    writer.write_all(b"\r\n").unwrap();
                }
            }
            if chunked {
                writer.write_all(b"0\r\n\r\n").unwrap();
            }
        });
        let reply = client.reply();
        writing.join().unwrap();
        assert_eq!(reply.body.len(), LEN);
        let words = reply
            .body
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()));
        assert!(
            words
                .zip((0..1_u32 << 18).cycle())
                .all(|(got, sent)| got == sent)
        );
    }
    let after: u64 = pod.connect().get("/memory").text().parse().unwrap();
    assert!(after - before < 16 << 10, "{before} kB, then {after} kB");
}

#[test]
fn a_small_body_that_comes_slowly_takes_no_thread() {
    let mut pod = one_thread();
    let mut slow = pod.connect();
    slow.send("POST /count HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\n01234");
    pod.until("it is read", |pod| pod.row().in_flight == 1);
    assert_eq!(pod.connect().get("/").text(), "hello");
    slow.send("56789");
    pod.expect("counting");
    pod.expect("whole");
    assert_eq!(slow.reply().text(), "10");
}

#[test]
fn a_large_body_that_comes_slowly_holds_a_call_and_nobody_else() {
    let mut pod = one_thread();
    let mut slow = pod.connect();
    slow.send("POST /count HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n");
    pod.expect("counting");
    for _ in 0..10 {
        slow.send([b'x'; 10_000]);
        assert_eq!(pod.connect().get("/up").status, 200);
    }
    pod.expect("whole");
    assert_eq!(slow.reply().text(), "100000");
}

#[test]
fn a_client_that_goes_away_ends_the_call_that_reads_from_it_or_writes_to_it() {
    let mut pod = one_thread();
    let half = pod.connect();
    half.send("POST /count HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n01234");
    pod.expect("counting");
    drop(half);
    pod.expect("cut off");
    let mut endless = pod.connect();
    endless.ask("/endless");
    pod.expect("endless");
    endless.bytes(1 << 20).unwrap();
    assert_eq!(
        pod.connect().get("/up").status,
        200,
        "a client that reads slowly"
    );
    drop(endless);
    pod.expect("dropped");
    assert_eq!(pod.connect().get("/").text(), "hello");
}

#[test]
fn a_file_is_sent_whole_between_other_answers() {
    let pod = one_thread();
    let mut client = pod.connect();
    let expected = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    for path in ["/", "/file", "/", "/file", "/file", "/"] {
        client.ask(path);
    }
    client.send("HEAD /file HTTP/1.1\r\nhost: test\r\n\r\n");
    client.ask("/");
    for is_file in [false, true, false, true, true, false] {
        let reply = client.reply();
        match is_file {
            true => assert!(reply.body == expected, "{} bytes", reply.body.len()),
            false => assert_eq!(reply.text(), "hello"),
        }
    }
    let head = client.bytes_until_blank();
    assert!(head.contains("404"), "{head}");
    assert_eq!(client.reply().text(), "hello");
}

#[test]
fn a_file_that_is_too_short_ends_the_connection() {
    let pod = one_thread();
    let mut client = pod.connect();
    client.ask("/file-that-is-too-short");
    let head = client.bytes_until_blank();
    assert!(head.contains("200"), "{head}");
    let expected = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(client.bytes(expected.len()).unwrap() == expected);
    client.expect_end();
    pod.until("nothing is in flight", |pod| pod.row().in_flight == 0);
}

#[test]
fn a_connection_that_was_taken_over_holds_no_call() {
    let mut pod = one_thread();
    let mut client: Client = pod.connect();
    client.send(
        "GET /upgrade HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
    );
    assert_eq!(client.reply().status, 101);
    pod.expect("upgraded");
    assert_eq!(pod.connect().get("/").text(), "hello", "the call is over");
    let mut stream = client.stream().try_clone().unwrap();
    let writing = thread::spawn(move || stream.write_all(&vec![b'y'; 1 << 20]));
    assert_eq!(client.bytes(1 << 20).unwrap(), vec![b'y'; 1 << 20]);
    writing.join().unwrap().unwrap();
    client.stream().shutdown(std::net::Shutdown::Write).unwrap();
    pod.expect("upgrade ended");
}

#[test]
fn a_call_that_hangs_is_told_once_and_one_that_waits_for_its_client_is_none() {
    let mut pod = Pod::<Baton>::with()
        .env("TEST_HANG_MILLIS", "500")
        .env("GRACEFORK_THREADS", "2")
        .start();
    let mut slow = pod.connect();
    slow.send("POST /count HTTP/1.1\r\nhost: t\r\ncontent-length: 100000\r\n\r\n");
    pod.expect("counting");
    for _ in 0..2 {
        let mut busy = pod.connect();
        busy.ask("/block");
        pod.expect("blocking");
        pod.expect("hung");
        pod.release();
        assert_eq!(busy.reply().status, 200);
    }
    slow.send("x".repeat(100_000));
    pod.expect("whole");
    assert_eq!(slow.reply().body, b"100000");
}

#[test]
fn who_reads_a_connection_that_was_taken_over_can_be_told_to_stop() {
    let mut pod = one_thread();
    let mut client = pod.connect();
    client.send("GET /listen HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
    assert_eq!(client.reply().status, 101);
    pod.expect("listening");
    pod.release();
    pod.expect("0 bytes");
    client.expect_end();
}
