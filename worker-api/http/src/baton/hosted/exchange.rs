//! One request and its answer: asked for in a connection's task, answered on the loop's thread,
//! whenever that likes.

use std::fmt;
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::Body as _;
use hyper::body::Incoming;

use super::super::executor::{Core, Job};
use super::super::files::{Files, hole};
use super::super::lead::Lead;
use super::super::receive::{Receiving, is_small};
use super::answer::{Answer, Outflow, StreamBody, Told};
use super::below::Below;
use super::socket::Switching;
use super::{Desk, LoopHandler};
use crate::checks::Client;
use crate::hints::EarlyHints;
use crate::introduce::Introduction;
use crate::service::App;
use crate::waiter::remember;

/// A request for the app, with what it takes to answer it.
#[derive(Debug)]
pub struct Inquiry {
    /// Its head.
    pub head: http::request::Parts,
    /// Who has sent it.
    pub client: Client,
    /// Its body.
    pub body: RequestBody,
    /// Where the answer goes. The drain waits for it to be dropped.
    pub reply: Reply,
    /// The connection, if it is to be taken over.
    pub switching: Switching,
}

/// The body of a request, as it comes.
pub struct RequestBody(Source);

enum Source {
    Whole(Bytes),
    Rest(Incoming),
}

impl RequestBody {
    /// All of it, if it was received before the call and not taken yet.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Source::Whole(bytes) => Some(std::mem::take(bytes)),
            Source::Rest(_) => None,
        }
    }

    /// Whether nothing more will come.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        match &self.0 {
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Rest(incoming) => incoming.is_end_stream(),
        }
    }

    /// The next piece, or `None` at the end. To ask for it is to have the client send it: see
    /// [`Driver::with_connections`](super::Driver::with_connections).
    ///
    /// # Errors
    /// The client went away, or what it sent is no body.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            let incoming = match &mut self.0 {
                Source::Whole(bytes) if bytes.is_empty() => return Poll::Ready(Ok(None)),
                Source::Whole(bytes) => return Poll::Ready(Ok(Some(std::mem::take(bytes)))),
                Source::Rest(incoming) => incoming,
            };
            match ready!(Pin::new(incoming).poll_frame(cx)) {
                None => self.0 = Source::Whole(Bytes::new()),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Poll::Ready(Ok(Some(data))),
                    _ => {}
                },
            }
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestBody")
    }
}

/// The app's end of an exchange. Dropped without an answer, that is 500.
#[derive(Debug)]
pub struct Reply {
    exchange: Arc<Exchange>,
    hints: Option<EarlyHints>,
    _open: Open,
}

impl Reply {
    /// Answers. The second answer, and one that nobody waits for, is dropped.
    pub fn send(&self, head: http::response::Parts, answer: Answer) {
        let told = || Arc::clone(&self.exchange) as Arc<dyn Told>;
        let body = answer.flow(&self.exchange.files, told);
        let response = http::Response::from_parts(head, body);
        let (task, _dropped) = {
            let mut state = self.exchange.lock();
            if state.is_over || self.exchange.was_answered.swap(true, Ordering::AcqRel) {
                (None, Some(response))
            } else {
                (state.task.take(), state.answer.replace(response))
            }
        };
        task.into_iter().for_each(Waker::wake);
    }

    /// Adds part of a file to a body that is being streamed as the answer: `len` bytes from `offset` on,
    /// sent by the kernel.
    ///
    /// # Errors
    /// The client has gone away.
    pub fn push_file(
        &self,
        stream: &StreamBody,
        file: File,
        offset: u64,
        len: u64,
    ) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        // Whatever else the connection has promised is ahead of it: earlier responses, and pieces.
        self.exchange.files.promise(file, offset, len);
        let mut left = len;
        while left > 0 {
            let part = hole(left);
            left -= part.len() as u64;
            stream.push(part)?;
        }
        Ok(())
    }

    /// The way to send hints ahead of the answer, if the client knows of such. As answers, they go
    /// out as soon as connections go on: see
    /// [`Driver::with_connections`](super::Driver::with_connections).
    #[must_use]
    pub fn early_hints(&self) -> Option<&EarlyHints> {
        self.hints.as_ref()
    }

    /// Ready once nothing that the app says reaches the client any more: it has gone away, or it
    /// has all of a streamed answer.
    pub fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.exchange.lock();
        if state.is_over {
            return Poll::Ready(());
        }
        remember(&mut state.watcher, cx);
        Poll::Pending
    }

    /// Whether that is so because the client has gone away.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.exchange.is_gone.load(Ordering::Acquire)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.exchange.was_answered.load(Ordering::Acquire) {
            let mut response = http::Response::new(());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            let text = Bytes::from_static(b"Internal Server Error\n");
            self.send(response.into_parts().0, Answer::bytes(text));
        }
    }
}

/// What the app and the connection share of a request.
struct Exchange {
    files: Files,
    was_answered: AtomicBool,
    /// The client has gone away before it had all of the answer.
    is_gone: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answer: Option<http::Response<Outflow>>,
    /// Nothing more reaches the client.
    is_over: bool,
    /// Because it has all of a streamed answer.
    is_whole: bool,
    /// The connection's task.
    task: Option<Waker>,
    /// The app, where it waits for the end.
    watcher: Option<Waker>,
}

impl Exchange {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, is_whole: bool) {
        let (watcher, _dropped) = {
            let mut state = self.lock();
            state.is_over = true;
            state.is_whole |= is_whole;
            self.is_gone.store(!state.is_whole, Ordering::Release);
            (state.watcher.take(), state.answer.take())
        };
        watcher.into_iter().for_each(Waker::wake);
    }
}

impl Told for Exchange {
    fn has_ended(&self, is_whole: bool) {
        self.end(is_whole);
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

/// Counts a request until the app has let go of it.
struct Open(Arc<Core>);

impl Open {
    fn new(core: &Arc<Core>) -> Self {
        if let Lead::Hosted(hosted) = &core.lead {
            hosted.enter();
        }
        Self(Arc::clone(core))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Lead::Hosted(hosted) = &self.0.lead {
            hosted.leave();
        }
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Open")
    }
}

/// A request that goes to the app: dropped when its call has come to its first wait, or to its end.
/// As long as there are others, what apps answer is written soon, and not at once.
pub struct Start(Arc<Core>);

impl Start {
    fn new(core: &Arc<Core>) -> Self {
        if let Lead::Hosted(hosted) = &core.lead {
            hosted.shift.starts();
        }
        Self(Arc::clone(core))
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        let core = &*self.0;
        if let Lead::Hosted(hosted) = &core.lead {
            hosted.shift.started(&Below::new(core, hosted));
        }
    }
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Start")
    }
}

/// The app, for one connection.
pub(in crate::baton) struct Caller<H> {
    desk: Arc<Desk<H>>,
    files: Files,
}

impl<H> Caller<H> {
    pub(super) fn new(desk: &Arc<Desk<H>>, files: Files) -> Self {
        Self {
            desk: Arc::clone(desk),
            files,
        }
    }
}

impl<H> Clone for Caller<H> {
    fn clone(&self) -> Self {
        Self {
            desk: Arc::clone(&self.desk),
            files: self.files.clone(),
        }
    }
}

impl<H: LoopHandler> App for Caller<H> {
    type Answer = Outflow;
    type Error = io::Error;
    type Future = Answering<H>;

    fn answer(
        &self,
        mut request: http::Request<Incoming>,
        introduction: Introduction,
    ) -> Answering<H> {
        let switching = Switching(hyper::upgrade::on(&mut request));
        let (head, body) = request.into_parts();
        let asked = Asked {
            desk: Arc::clone(&self.desk),
            files: self.files.clone(),
            introduction,
            head,
            switching,
        };
        if body.is_end_stream() {
            Answering::Called(asked.call(Source::Whole(Bytes::new())))
        } else if is_small(&body) {
            Answering::Receiving(Some(Box::new((asked, Receiving::new(body)))))
        } else {
            Answering::Called(asked.call(Source::Rest(body)))
        }
    }
}

/// A request without its body.
pub(in crate::baton) struct Asked<H> {
    desk: Arc<Desk<H>>,
    files: Files,
    introduction: Introduction,
    head: http::request::Parts,
    switching: Switching,
}

impl<H: LoopHandler> Asked<H> {
    fn call(self, body: Source) -> Called<H> {
        let exchange = Arc::new(Exchange {
            files: self.files,
            was_answered: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let inquiry = Inquiry {
            head: self.head,
            client: self.introduction.client,
            body: RequestBody(body),
            reply: Reply {
                exchange: Arc::clone(&exchange),
                hints: self.introduction.hints,
                _open: Open::new(&self.desk.core),
            },
            switching: self.switching,
        };
        let call = Arc::new(Call {
            desk: Arc::clone(&self.desk),
            inquiry: Mutex::new(Some((inquiry, Start::new(&self.desk.core)))),
        });
        self.desk.core.call(Arc::clone(&call) as _);
        Called {
            call,
            exchange,
            is_answered: false,
        }
    }
}

/// A request on its way to the app.
struct Call<H> {
    desk: Arc<Desk<H>>,
    inquiry: Mutex<Option<(Inquiry, Start)>>,
}

impl<H> Call<H> {
    fn take(&self) -> Option<(Inquiry, Start)> {
        self.inquiry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl<H: LoopHandler> Job for Call<H> {
    fn run(self: Arc<Self>) {
        // What nobody waits for has not begun and need not.
        if let Some((inquiry, start)) = self.take().filter(|(it, _)| !it.reply.is_gone()) {
            self.desk.handler.call(inquiry, start);
        }
    }
}

/// A request on its way to an answer.
pub(in crate::baton) enum Answering<H> {
    /// Its small body is being received; `None` only for a moment.
    Receiving(Option<Box<(Asked<H>, Receiving)>>),
    Called(Called<H>),
}

impl<H: LoopHandler> Future for Answering<H> {
    type Output = io::Result<http::Response<Outflow>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match this {
                Self::Called(called) => return called.poll(cx).map(Ok),
                Self::Receiving(receiving) => {
                    let Some(parts) = receiving else {
                        return Poll::Pending;
                    };
                    let whole = ready!(parts.1.poll(cx))?;
                    if let Some(parts) = receiving.take() {
                        *this = Self::Called(parts.0.call(Source::Whole(whole)));
                    }
                }
            }
        }
    }
}

/// Waits for the app's answer. Dropped before it is there, the client has gone.
pub(in crate::baton) struct Called<H> {
    call: Arc<Call<H>>,
    exchange: Arc<Exchange>,
    is_answered: bool,
}

impl<H> Called<H> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<http::Response<Outflow>> {
        let mut state = self.exchange.lock();
        match state.answer.take() {
            Some(response) => {
                self.is_answered = true;
                Poll::Ready(response)
            }
            None => {
                remember(&mut state.task, cx);
                Poll::Pending
            }
        }
    }
}

impl<H> Drop for Called<H> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.exchange.end(false);
            // A loop that is blocked takes it out of the queue much later.
            drop(self.call.take());
        }
    }
}
