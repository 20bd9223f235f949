//! Clients that behave badly, each on a connection of its own.
//!
//! Where a client is to break off in a certain state of the server, it has seen by an answer that
//! the server has read so far: what comes with a reset, the kernel throws away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::http::{Conn, Lost, Stage, Target};

/// So many at once.
const AT_ONCE: usize = 8;

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const EXPECTING: &str = "POST /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n";

/// A body that the baton driver receives before it calls the app.
const BODY: usize = 60_000;

/// A part of a body, and the field that says how long the whole would be.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    framing: &'static str,
    part: &'static str,
}

pub(crate) const BY_LENGTH: Part = Part {
    framing: "Content-Length: 100",
    part: "half of i",
};
const CHUNKED: Part = Part {
    framing: "Transfer-Encoding: chunked",
    part: "a\r\nhalf",
};

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Rudeness {
    Leaves,
    ResetsSilently,
    ResetsInTheFirstHead,
    ResetsInALaterHead,
    ResetsInTheBody,
    ResetsWhileTheAppWorks,
    ResetsInTheAnswer,
    ResetsAfterTheAnswer,
    EndsInTheHead,
    EndsInTheBody,
    EndsInAChunk,
    ResetsInAChunk,
    SendsByteByByte,
    FloodsWithFields,
    SendsAFieldThatIsTooLong,
    SendsALineThatIsTooLong,
    SendsGarbage,
    PipelinesAndResets,
    /// Asks and asks. It takes long: the buffers of both sockets have to get full.
    TakesNoAnswers,
}

/// All that take little time.
const QUICK: [Rudeness; 18] = {
    use Rudeness as R;
    [
        R::Leaves,
        R::ResetsSilently,
        R::ResetsInTheFirstHead,
        R::ResetsInALaterHead,
        R::ResetsInTheBody,
        R::ResetsWhileTheAppWorks,
        R::ResetsInTheAnswer,
        R::ResetsAfterTheAnswer,
        R::EndsInTheHead,
        R::EndsInTheBody,
        R::EndsInAChunk,
        R::ResetsInAChunk,
        R::SendsByteByByte,
        R::FloodsWithFields,
        R::SendsAFieldThatIsTooLong,
        R::SendsALineThatIsTooLong,
        R::SendsGarbage,
        R::PipelinesAndResets,
    ]
};

/// Opens so many connections, of every kind in turn, and is back when each client has ended its
/// own. Panics where the server does not answer as such a client must be answered.
pub(crate) fn pester(target: &Target, connections: usize) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= connections {
                        break;
                    }
                    let rudeness = Rudeness::of(number);
                    if let Err(lost) = rudeness.show(target) {
                        panic!("client {number}, who {rudeness:?}: {lost}");
                    }
                }
            });
        }
    });
}

impl Rudeness {
    /// That of the client of this number.
    fn of(number: usize) -> Rudeness {
        match number % 100 {
            99 => Rudeness::TakesNoAnswers,
            _ => QUICK[number % QUICK.len()],
        }
    }

    fn show(self, target: &Target) -> Result<(), Lost> {
        let mut client = Conn::open(target)?;
        match self {
            Rudeness::Leaves => return Ok(()),
            Rudeness::ResetsSilently => {}
            Rudeness::ResetsInTheFirstHead => client.send(b"GET / HTTP/1.1\r\nHo")?,
            Rudeness::ResetsInALaterHead => {
                client.send([GET, "GET / HTTP/1.1\r\nHo"].concat().as_bytes())?;
                expect(&mut client, 200)?;
            }
            Rudeness::ResetsInTheBody => begin_body(&mut client, BY_LENGTH)?,
            Rudeness::ResetsWhileTheAppWorks => {
                client.send([GET, &GET.replace("/ ", "/slow/0.01 ")].concat().as_bytes())?;
                expect(&mut client, 200)?;
                thread::sleep(Duration::from_millis(2));
            }
            Rudeness::ResetsInTheAnswer => {
                client.send(echo().as_bytes())?;
                client.read_some()?;
            }
            Rudeness::TakesNoAnswers => client.send_until_stuck(echo().as_bytes())?,
            Rudeness::ResetsAfterTheAnswer => {
                client.send(GET.as_bytes())?;
                expect(&mut client, 200)?;
            }
            Rudeness::EndsInTheHead => {
                client.send(b"GET / HTTP/1.1\r\nHo")?;
                return end(client);
            }
            Rudeness::EndsInTheBody => {
                begin_body(&mut client, BY_LENGTH)?;
                return end(client);
            }
            Rudeness::EndsInAChunk => {
                begin_body(&mut client, CHUNKED)?;
                return end(client);
            }
            Rudeness::ResetsInAChunk => begin_body(&mut client, CHUNKED)?,
            Rudeness::SendsByteByByte => {
                GET.bytes().try_for_each(|byte| client.send(&[byte]))?;
                return expect(&mut client, 200);
            }
            Rudeness::FloodsWithFields => {
                let fields = "X-Field: value\r\n".repeat(1000);
                return refused(client, &head("/", &fields), 431);
            }
            Rudeness::SendsAFieldThatIsTooLong => {
                let field = format!("X-Field: {}\r\n", "v".repeat(20_000));
                return refused(client, &head("/", &field), 431);
            }
            Rudeness::SendsALineThatIsTooLong => {
                return refused(client, &head(&"/long".repeat(2_000), ""), 414);
            }
            Rudeness::SendsGarbage => {
                return refused(client, "\u{16}\u{3}\u{1} no \0 HTTP\r\n\r\n", 400);
            }
            Rudeness::PipelinesAndResets => client.send(GET.repeat(16).as_bytes())?,
        }
        client.reset()
    }
}

fn head(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")
}

/// A request for a large answer.
pub(crate) fn echo() -> String {
    let body = "x".repeat(BODY);
    format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {BODY}\r\n\r\n{body}")
}

/// Sends a part of a body once the app waits for it, or answers.
pub(crate) fn begin_body(client: &mut Conn, body: Part) -> Result<(), Lost> {
    client.send(format!("{EXPECTING}{}\r\n\r\n", body.framing).as_bytes())?;
    client.read_some()?;
    client.send(body.part.as_bytes())
}

/// Sends no more, and takes what the server makes of that.
fn end(mut client: Conn) -> Result<(), Lost> {
    client.finish_writing();
    client.wait_closed().map(drop)
}

fn refused(mut client: Conn, bytes: &str, status: u16) -> Result<(), Lost> {
    client.send(bytes.as_bytes())?;
    expect(&mut client, status)
}

fn expect(client: &mut Conn, status: u16) -> Result<(), Lost> {
    let response = client.read_response()?;
    if response.status == status {
        Ok(())
    } else {
        Err(Lost::new(Stage::Status, &response.status))
    }
}
