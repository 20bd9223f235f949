//! Where the answer to a request goes, and the body that is sent from the thread of its call.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::StatusCode;
use hyper::upgrade::OnUpgrade;

use super::Response;
use super::block::block_on;
use super::executor::{Core, Job};
use super::files::Files;
use super::hang::{self, Patience};
use super::outgoing::Outgoing;
use super::pipe::{Sender, pipe};
use super::response::{Chunks, Kind, TakeOver};
use super::upgrade::Upgraded;
use crate::hints::EarlyHints;

/// What a handler answers a request with, once, before it returns. Dropped without an answer, that
/// is 500.
pub struct Reply {
    place: Arc<dyn Place>,
    pub(super) hints: Option<EarlyHints>,
    /// Until the request is answered.
    upgrade: Option<OnUpgrade>,
}

/// Where a call leaves its answer.
pub(super) trait Place: Send + Sync {
    fn core(&self) -> &Arc<Core>;
    /// Where the connection's responses promise files.
    fn files(&self) -> &Files;
    /// `false` if nobody waits for the answer, or it has one.
    fn answer(&self, response: http::Response<Outgoing>) -> bool;
}

impl Reply {
    pub(super) fn new(
        place: Arc<dyn Place>,
        hints: Option<EarlyHints>,
        upgrade: OnUpgrade,
    ) -> Self {
        Self {
            place,
            hints,
            upgrade: Some(upgrade),
        }
    }

    /// The way to send hints ahead of the answer, if the client knows of such.
    #[must_use]
    pub fn early_hints(&self) -> Option<&EarlyHints> {
        self.hints.as_ref()
    }

    /// Answers. A body that has to be read is read and sent here, as fast as the client takes it.
    pub fn send(mut self, response: Response) {
        let (head, body) = response.into_parts();
        let body = match body.0 {
            Kind::Bytes(bytes) => Outgoing::Bytes(bytes),
            Kind::File { file, offset, len } => Outgoing::File {
                file,
                offset,
                len,
                files: self.place.files().clone(),
            },
            Kind::Upgrade(take_over) => {
                if let Some(upgrade) = self.upgrade.take() {
                    hand_off(self.place.core(), upgrade, take_over);
                }
                Outgoing::Bytes(Bytes::new())
            }
            Kind::Chunks { chunks, len } => {
                let streaming = self.stream(head, len);
                return send_all(chunks, streaming);
            }
        };
        self.answer(http::Response::from_parts(head, body));
    }

    /// Answers with a head of the status 101, and waits for the connection, which is the caller's from
    /// then on.
    ///
    /// # Errors
    /// The client did not ask for another protocol, or has gone away.
    pub fn switch(mut self, head: http::response::Parts) -> io::Result<Upgraded> {
        let upgrade = self.upgrade.take().ok_or(io::ErrorKind::NotConnected)?;
        let core = Arc::clone(self.place.core());
        let empty = Outgoing::Bytes(Bytes::new());
        self.answer(http::Response::from_parts(head, empty));
        let mut upgrade = pin!(upgrade);
        let io = block_on(&core, |cx| upgrade.as_mut().poll(cx)).map_err(io::Error::other)?;
        Ok(Upgraded::new(&core, io))
    }

    /// For the call of this thread, should it last.
    #[must_use]
    pub fn patience(&self) -> Patience {
        hang::patience()
    }

    /// Sends the head, of a response whose body comes piece by piece: `len` bytes, if that is
    /// known. A body that ends before that is cut off.
    pub fn stream(mut self, head: http::response::Parts, len: Option<u64>) -> Streaming {
        let (sender, receiver) = pipe();
        let body = Outgoing::Pipe(receiver, len);
        self.answer(http::Response::from_parts(head, body));
        Streaming {
            core: Arc::clone(self.place.core()),
            sender,
        }
    }

    fn answer(&mut self, response: http::Response<Outgoing>) {
        self.upgrade = None;
        self.place.answer(response);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.upgrade.is_some() {
            let body = Bytes::from_static(b"Internal Server Error\n");
            let mut response = http::Response::new(Outgoing::Bytes(body));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            self.place.answer(response);
        }
    }
}

/// The body of a response that is being sent. Dropped before its [`end`](Self::end), the response
/// is cut off, so that the client does not take it for whole.
pub struct Streaming {
    core: Arc<Core>,
    sender: Sender,
}

/// The client has gone away, or wants no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client takes no more")]
pub struct Gone;

impl Streaming {
    /// Sends a piece; blocks while the client has not taken what came before.
    ///
    /// # Errors
    /// Nobody will take it.
    pub fn send(&self, chunk: Bytes) -> Result<(), Gone> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.core.move_on();
        self.sender.send(&self.core, chunk).map_err(|_| Gone)
    }

    /// The body is whole.
    pub fn end(self) {
        self.sender.end(Ok(()));
    }

    fn fail(self, error: io::Error) {
        tracing::error!(%error, "the app's response failed");
        self.sender.end(Err(error));
    }
}

fn send_all(chunks: Chunks, streaming: Streaming) {
    // Dropping what the app gave is the app's code as well.
    let sent = catch_unwind(AssertUnwindSafe(move || {
        for chunk in chunks {
            match chunk.map(|chunk| streaming.send(chunk)) {
                Ok(Ok(())) => {}
                Ok(Err(Gone)) => return,
                Err(error) => return streaming.fail(error),
            }
        }
        streaming.end();
    }));
    if sent.is_err() {
        tracing::error!("the app panicked while its response was sent");
    }
}

/// Waits for the connection to be free, and makes a call with it.
fn hand_off(core: &Arc<Core>, upgrade: OnUpgrade, take_over: TakeOver) {
    let home = Arc::clone(core);
    core.spawn(async move {
        match upgrade.await {
            Ok(io) => {
                let io = Upgraded::new(&home, io);
                let given = Mutex::new(Some((take_over, io)));
                home.call(Arc::new(HandOff(given)));
            }
            Err(error) => tracing::debug!(%error, "no upgrade"),
        }
    });
}

struct HandOff(Mutex<Option<(TakeOver, Upgraded)>>);

impl Job for HandOff {
    fn run(self: Arc<Self>) {
        let given = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((take_over, io)) = given else { return };
        if catch_unwind(AssertUnwindSafe(move || take_over(io))).is_err() {
            tracing::error!("the app panicked with a connection that it had taken over");
        }
    }
}
