//! Where bytes come in before it is known who gets them, and small pieces are joined to go out.
//!
//! hyper's cursor can be written to, but not looked into. What comes from a socket is read into a
//! buffer of the thread's, looked at there, and copied on: a request is small, and its head is in
//! the cache by then.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::task::{Poll, ready};

use hyper::rt::ReadBufCursor;

/// So much is read at once, by a thread that has once had as much as [`FIRST`] to read.
const SIZE: usize = 32 << 10;
/// What most threads ever need: a thread has memory for no more before.
const FIRST: usize = 4 << 10;

thread_local! {
    /// Made when the thread needs it for the first time.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Receives at most `room` bytes, and shows `look` what came. Ready with how many did.
pub(crate) fn poll_look(
    room: usize,
    recv: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    look: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    with_scratch(FIRST, |scratch| {
        let whole = scratch.len();
        let free = &mut scratch[..room.min(whole)];
        let len = ready!(recv(free))?;
        look(free.get(..len).ok_or(io::ErrorKind::InvalidInput)?);
        if len == whole {
            scratch.resize(SIZE, 0);
        }
        Poll::Ready(Ok(len))
    })
}

/// Joins pieces, and does something with the whole: as much as there is room for, [`SIZE`] at most.
pub(crate) fn with_joined<R>(pieces: &[IoSlice<'_>], then: impl FnOnce(&[u8]) -> R) -> R {
    let whole = pieces.iter().map(|piece| piece.len()).sum();
    with_scratch(whole, |scratch| {
        let mut len = 0;
        for piece in pieces {
            let free = &mut scratch[len..];
            let fits = piece.len().min(free.len());
            free[..fits].copy_from_slice(&piece[..fits]);
            len += fits;
        }
        then(&scratch[..len])
    })
}

/// With room for so much, unless that is more than [`SIZE`].
fn with_scratch<R>(room: usize, then: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < room.min(SIZE) {
            scratch.resize(if room > FIRST { SIZE } else { FIRST }, 0);
        }
        then(scratch)
    })
}

/// Receives at most what `buf` has room for, shows `look` what came, and leaves as many bytes in
/// `buf` as it says. Ready with how many came.
pub(crate) fn poll_through(
    buf: &mut ReadBufCursor<'_>,
    recv: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    look: impl FnOnce(&[u8]) -> usize,
) -> Poll<io::Result<usize>> {
    poll_look(buf.remaining(), recv, |came| {
        let kept = look(came).min(came.len());
        buf.put_slice(&came[..kept]);
    })
}

#[cfg(test)]
mod tests {
    use hyper::rt::ReadBuf;

    use super::*;

    fn hello(free: &mut [u8]) -> Poll<io::Result<usize>> {
        let len = free.len().min(5);
        free[..len].copy_from_slice(&b"hello"[..len]);
        Poll::Ready(Ok(len))
    }

    #[test]
    fn what_is_not_kept_is_overwritten() {
        let mut space = [0; 8];
        let mut buf = ReadBuf::new(&mut space);
        for kept in [3, 0, 9] {
            let mut cursor = buf.unfilled();
            let read = poll_through(&mut cursor, hello, |came| {
                assert_eq!(came, b"hello");
                kept
            });
            assert!(matches!(read, Poll::Ready(Ok(5))));
        }
        assert_eq!(buf.filled(), b"helhello");
    }

    #[test]
    fn no_more_is_received_than_there_is_room_for() {
        let mut space = [0; 3];
        let mut buf = ReadBuf::new(&mut space);
        let read = poll_through(&mut buf.unfilled(), hello, <[u8]>::len);
        assert!(matches!(read, Poll::Ready(Ok(3))));
        assert_eq!(buf.filled(), b"hel");
    }

    #[test]
    fn who_has_had_much_to_read_reads_more_at_once() {
        let mut rooms = Vec::new();
        for most in [1, FIRST, SIZE] {
            let fill = |free: &mut [u8]| {
                rooms.push(free.len());
                Poll::Ready(Ok(free.len().min(most)))
            };
            let read = poll_look(usize::MAX, fill, |_| {});
            assert!(matches!(read, Poll::Ready(Ok(len)) if len == most));
        }
        assert_eq!(rooms, [FIRST, FIRST, SIZE]);
    }

    #[test]
    fn pieces_are_joined_as_far_as_there_is_room() {
        let long = vec![b'x'; SIZE];
        let pieces = [b"ab".as_slice(), b"", b"c", &long].map(IoSlice::new);
        with_joined(&pieces[..3], |whole| assert_eq!(whole, b"abc"));
        with_joined(&pieces, |whole| {
            assert_eq!(whole.len(), SIZE);
            assert!(whole.starts_with(b"abcx"));
        });
    }

    #[test]
    fn a_socket_that_says_it_filled_more_is_not_believed() {
        let mut space = [0; 8];
        let mut buf = ReadBuf::new(&mut space);
        let read = poll_through(&mut buf.unfilled(), |_| Poll::Ready(Ok(9)), <[u8]>::len);
        assert!(matches!(read, Poll::Ready(Err(_))));
    }
}
