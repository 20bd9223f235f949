//! Reading into a buffer of hyper's with a look at what came: its cursor can only be written to.
#![expect(unsafe_code, reason = "hyper's cursor shows no byte that is in it")]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor};

/// Reads into the free part of `buf`, shows `look` what came, and leaves as many bytes in `buf` as
/// it says. Ready with how many came.
pub(crate) fn poll_read_some<R: Read>(
    reader: Pin<&mut R>,
    cx: &mut Context<'_>,
    buf: &mut ReadBufCursor<'_>,
    look: impl FnOnce(&[u8]) -> usize,
) -> Poll<io::Result<usize>> {
    // SAFETY: the slice goes into a ReadBuf and nowhere else; whoever fills that owes it the same
    // as us, never to make a byte uninitialized again.
    let mut free = ReadBuf::uninit(unsafe { buf.as_mut() });
    ready!(reader.poll_read(cx, free.unfilled()))?;
    let came = free.filled();
    let (len, kept) = (came.len(), look(came).min(came.len()));
    // SAFETY: `free` began where `buf` is free, and so many bytes of it are filled at least.
    unsafe { buf.advance(kept) };
    Poll::Ready(Ok(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Hello;

    impl Read for Hello {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            mut buf: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            buf.put_slice(&b"hello"[..buf.remaining().min(5)]);
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_is_not_kept_is_overwritten() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut space = [0; 8];
        let mut buf = ReadBuf::new(&mut space);
        for kept in [3, 0, 9] {
            let mut cursor = buf.unfilled();
            let read = poll_read_some(Pin::new(&mut Hello), &mut cx, &mut cursor, |came| {
                assert_eq!(came, b"hello");
                kept
            });
            assert!(matches!(read, Poll::Ready(Ok(5))));
        }
        assert_eq!(buf.filled(), b"helhello");
    }
}
