//! How long a shutdown takes beyond what it must.

use std::time::{Duration, Instant};

use crate::harness::wait::eventually;
use crate::harness::{Builder, Conn, Server, Signal};
use crate::table::{Row, Section, Unit};

use super::{milliseconds, start};

const SHUTDOWNS: usize = 10;
const LAMEDUCK: Duration = Duration::from_millis(500);
const WORKERS: usize = 2;

/// Its name and how to start it.
type App = (&'static str, fn() -> Builder);

pub(crate) fn measure() -> Section {
    let mut rows = Vec::new();
    let apps: [App; 2] = [("axum-app", Builder::axum), ("mio-app", Builder::mio)];
    for (name, builder) in apps {
        let mut row = |what: &str, shut_down: fn(&Server) -> Duration| {
            let once = |_| shut_down(&start(builder().lameduck("500ms"), WORKERS));
            let times: Vec<Duration> = (0..SHUTDOWNS).map(once).collect();
            let row = Row::new(
                format!("{name}: {what}"),
                Unit::Milliseconds,
                milliseconds(&times),
            );
            rows.push(row.at_most(200.0));
        };
        row(
            "end of lameduck to exit, nothing in flight",
            nothing_in_flight,
        );
        row("last response to exit", one_in_flight);
        row("the same, client never closes", one_in_flight_kept_open);
    }
    Section {
        title: format!("SIGTERM to exit, {WORKERS} workers, lameduck 500 ms, {SHUTDOWNS} times each"),
        how: vec![
            "Exit: when the master's pidfd becomes readable; exit status 0 and no process left behind each time.".to_owned(),
            "In flight: GET /slow/1.2, begun before SIGTERM, answered some 700 ms after lameduck is over.".to_owned(),
        ],
        rows,
    }
}

fn nothing_in_flight(server: &Server) -> Duration {
    let told = server.signal(Signal::TERM);
    server.expect_exit(0).after(told + LAMEDUCK)
}

/// The client closes once it has the response, which says `Connection: close`.
fn one_in_flight(server: &Server) -> Duration {
    let (connection, answered) = answered_in_drain(server);
    drop(connection);
    server.expect_exit(0).after(answered)
}

/// The client keeps its end open: the server lingers for it, but not for long.
fn one_in_flight_kept_open(server: &Server) -> Duration {
    let (_connection, answered) = answered_in_drain(server);
    server.expect_exit(0).after(answered)
}

/// A connection whose response came after lameduck, and when.
fn answered_in_drain(server: &Server) -> (Conn, Instant) {
    let mut connection = server.connect();
    connection.send_get("/slow/1.2").unwrap();
    eventually("a request in flight", || {
        let status = server.status();
        status.workers.iter().any(|worker| worker.in_flight == 1)
    });
    let told = server.signal(Signal::TERM);
    let response = connection.read_response();
    let response = response.unwrap_or_else(|lost| server.fail(&lost.to_string()));
    assert!(response.status == 200 && response.at > told + LAMEDUCK);
    (connection, response.at)
}
