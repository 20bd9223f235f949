//! Waiting, on the thread of a call, for what a connection's task brings.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::executor::Core;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static WAKER: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

/// Polls until there is a result. Before it blocks it sees that somebody polls the kernel.
pub(super) fn block_on<T>(core: &Core, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    WAKER.with(|waker| {
        let mut cx = Context::from_waker(waker);
        loop {
            if let Poll::Ready(result) = poll(&mut cx) {
                return result;
            }
            core.block(thread::park);
        }
    })
}
