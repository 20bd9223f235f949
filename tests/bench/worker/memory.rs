//! What a connection costs that does nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::contestant::{Contestant, Running};
use crate::figures::{Memory, descriptors};
use crate::harness::eventually;
use crate::table::{Row, Section, Unit};

const CONNECTIONS: usize = 10_000;
const STARTS: usize = 2;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";

/// What each connection does before it falls silent.
#[derive(Clone, Copy)]
enum Act {
    Request,
    Nothing,
}

pub(crate) fn measure() -> Section {
    let mut rows = Vec::new();
    for (act, name, goal) in [
        (Act::Request, "idle after a request", 12.0),
        (Act::Nothing, "has not sent a byte", 1.0),
    ] {
        for contestant in [Contestant::Hello, Contestant::Axum, Contestant::Hyper] {
            let samples = (0..STARTS).map(|_| growth(contestant, act)).collect();
            let figure = format!(
                "{}: a connection that {}",
                contestant.name(),
                match act {
                    Act::Request => "is idle after a request",
                    Act::Nothing => name,
                }
            );
            let row = Row::new(figure, Unit::Kilobytes, samples);
            rows.push(match contestant {
                Contestant::Hello | Contestant::Axum => row.at_most(goal),
                Contestant::Hyper | Contestant::Loop => row,
            });
        }
    }
    Section {
        title: format!("Memory of a connection, {CONNECTIONS} at once on one worker"),
        how: vec![
            format!("RSS of the process that serves (smaps_rollup, once it has not changed for two seconds) with {CONNECTIONS}"),
            "connections and before them, divided; what the kernel holds for a socket is not in it.".to_owned(),
        ],
        rows,
    }
}

/// Thousands of bytes a connection.
fn growth(contestant: Contestant, act: Act) -> f64 {
    let server = contestant.start(|builder| {
        let most = i64::try_from(2 * CONNECTIONS).unwrap();
        let builder = builder.set("http.max_connections", most);
        let builder = builder.set("http.keep_alive", "600s");
        builder.set("http.header_timeout", "600s")
    });
    let pid = server.pid();
    open(&server, Act::Request);
    let (memory, others) = (Memory::settled(pid), descriptors(pid));
    let open: Vec<TcpStream> = (0..CONNECTIONS).map(|_| open(&server, act)).collect();
    eventually("all connections accepted", || {
        descriptors(pid) >= others + open.len()
    });
    let grown = Memory::settled(pid).rss - memory.rss;
    assert!(descriptors(pid) >= others + open.len(), "one was closed");
    grown / 1e3 / CONNECTIONS as f64
}

fn open(server: &Running, act: Act) -> TcpStream {
    let mut connection = TcpStream::connect(server.address()).unwrap();
    if let Act::Request = act {
        connection.write_all(REQUEST).unwrap();
        let (mut answer, mut len) = ([0; 512], 0);
        while !answer[..len].ends_with(b"hello") {
            let came = connection.read(&mut answer[len..]).unwrap();
            assert!(came > 0, "closed: {}", String::from_utf8_lossy(&answer));
            len += came;
        }
    }
    connection
}
