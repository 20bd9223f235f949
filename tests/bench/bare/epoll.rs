//! The bench's own limit: epoll, one read and one write a request.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// As long as the answer of the others.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\
    date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\nhello";
const LISTENER: u64 = u64::MAX;
const EVENTS: usize = 256;

pub(super) fn serve(listener: TcpListener) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    let mut connections: Vec<Option<TcpStream>> = Vec::new();
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    let mut request = [0; 4096];
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in &events {
            let key = event.data.u64();
            if key == LISTENER {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let key = EventData::new_u64(connections.len() as u64);
                epoll::add(&epoll, &stream, key, EventFlags::IN)?;
                connections.push(Some(stream));
                continue;
            }
            let place = &mut connections[usize::try_from(key).unwrap()];
            let Some(connection) = place else { continue };
            match connection.read(&mut request) {
                Ok(1..) if connection.write_all(ANSWER).is_ok() => {}
                _ => *place = None,
            }
        }
    }
}
