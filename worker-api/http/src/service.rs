//! The app's service with what the worker adds to each exchange: the count of requests in flight,
//! the built-in health answer, and `Connection: close` on a last response.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use pin_project_lite::pin_project;

use crate::checks::Refusal;
use crate::hints::{EarlyHints, Hinted};
use crate::introduce::{Introduction, introduce};
use crate::link::Link;
use crate::setup::Setup;

/// An error as hyper takes it.
type BoxError = Box<dyn Error + Send + Sync>;

/// What answers the requests of a connection.
///
/// Every hyper service from [`Incoming`] to any body of [`Bytes`] does: it finds the
/// [`Client`](crate::Client) and the [`EarlyHints`] among the extensions of a request. Other types can
/// implement this instead, and are handed both by name: a map of extensions costs a request three
/// allocations. A [`RawTarget`](crate::RawTarget), which is rare, is an extension for both. Each
/// connection has a clone, and seldom a second one.
///
/// ```no_run
/// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
/// use std::convert::Infallible;
/// use std::future::{Ready, ready};
/// use hyper::{Request, Response, body::Incoming};
/// use worker_http::{App, Introduction};
///
/// #[derive(Clone)]
/// struct Greeter;
///
/// impl App for Greeter {
///     type Answer = String;
///     type Error = Infallible;
///     type Future = Ready<Result<Response<String>, Infallible>>;
///
///     fn answer(&self, _request: Request<Incoming>, introduction: Introduction) -> Self::Future {
///         let hello = match introduction.client.address {
///             Some(address) => format!("hello, {address}"),
///             None => "hello".to_owned(),
///         };
///         ready(Ok(Response::new(hello)))
///     }
/// }
///
/// let worker = worker_api::Worker::init()?;
/// worker_http::tokio::serve_hyper(worker, Greeter).await?;
/// # Ok(())
/// # }
/// ```
pub trait App: Clone {
    /// The body of a response.
    type Answer: Body<Data = Bytes, Error: Into<BoxError>> + 'static;
    /// Why there is no response; the connection ends then.
    type Error: Into<BoxError>;
    /// A request on its way to a response.
    type Future: Future<Output = Result<Response<Self::Answer>, Self::Error>>;

    /// Answers a request.
    fn answer(&self, request: Request<Incoming>, introduction: Introduction) -> Self::Future;
}

impl<S, B> App for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>> + Clone,
    B: Body<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    type Answer = B;
    type Error = S::Error;
    type Future = S::Future;

    fn answer(&self, mut request: Request<Incoming>, introduction: Introduction) -> S::Future {
        let Introduction { client, hints } = introduction;
        let extensions = request.extensions_mut();
        extensions.insert(client);
        if let Some(hints) = hints {
            extensions.insert(hints);
        }
        self.call(request)
    }
}

pub(crate) struct Counted<S, T> {
    app: S,
    link: Arc<Link<T>>,
}

impl<S, T> Counted<S, T> {
    pub(crate) fn new(app: S, link: Arc<Link<T>>) -> Self {
        Self { app, link }
    }
}

impl<S: App, T: Send + 'static> Service<Request<Incoming>> for Counted<S, T> {
    type Response = Response<CountedBody<S::Answer, T>>;
    type Error = S::Error;
    type Future = Exchange<S::Future, T>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let beginning = self.link.begin(&request);
        let (method, target) = (request.method(), request.uri());
        let connects = *method == Method::CONNECT;
        let asks = matches!(*method, Method::GET | Method::HEAD);
        let is_last = beginning.oddity.as_ref().is_some_and(|oddity| oddity.last);
        let answer = if beginning.broken.is_some() {
            Answer::Refusal
        } else if asks && self.link.setup.is_health_path(target.path()) {
            Answer::Health
        } else {
            let settings = self.link.setup.worker.settings();
            let believed = &settings.forwarded_allow_ips;
            let link = || Arc::downgrade(&self.link) as Weak<dyn Hinted>;
            let hints = beginning
                .hinted
                .map(|number| EarlyHints::new(link(), number));
            let client = introduce(&mut request, beginning, believed);
            Answer::App {
                future: (self.app).answer(request, Introduction { client, hints }),
            }
        };
        Exchange {
            answer,
            is_last,
            connects,
            link: Some(Arc::clone(&self.link)),
        }
    }
}

pin_project! {
    /// One request on its way to a response.
    pub(crate) struct Exchange<F, T> {
        #[pin]
        answer: Answer<F>,
        is_last: bool,
        connects: bool,
        // Until there is a response.
        link: Option<Arc<Link<T>>>,
    }
}

pin_project! {
    #[project = AnswerProjection]
    enum Answer<F> {
        Health,
        /// What is wrong with the body was known from the start.
        Refusal,
        App { #[pin] future: F },
    }
}

impl<F, B, E, T> Future for Exchange<F, T>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<CountedBody<B, T>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(link) = this.link else {
            return Poll::Pending;
        };
        let answered = match this.answer.project() {
            AnswerProjection::Health => Ok(health_answer(&link.setup)),
            AnswerProjection::Refusal => Ok(Response::new(Content::Own { bytes: None })),
            AnswerProjection::App { future } => {
                ready!(future.poll(cx)).map(|response| response.map(Content::of_app))
            }
        };
        // Whatever the app made of a body that goes wrong, the answer is that it does.
        let broken = link.broken();
        let mut response = match broken {
            Some(refusal) => refusal_answer(refusal),
            None => answered?,
        };
        let switches = switches(*this.connects, response.status());
        if switches && *this.connects {
            // What follows is no body (RFC 9110, section 9.3.6), and hyper would refuse the answer.
            response.headers_mut().remove(header::CONTENT_LENGTH);
            response.headers_mut().remove(header::TRANSFER_ENCODING);
        }
        link.answered(response.status(), switches);
        let is_last = *this.is_last || broken.is_some() || link.setup.announces_close();
        if is_last && !switches {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        link.observe_answer(response.headers());
        Poll::Ready(Ok(response.map(|content| CountedBody {
            content,
            end: End {
                link: this.link.take(),
            },
        })))
    }
}

/// Whether the answer gives the socket to the app.
fn switches(connects: bool, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (connects && status.is_success())
}

fn refusal_answer<B>(refusal: Refusal) -> Response<Content<B>> {
    let mut response = Response::new(Content::Own {
        bytes: Some(refusal.text().into()),
    });
    *response.status_mut() =
        StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let text = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

fn health_answer<B>(setup: &Setup) -> Response<Content<B>> {
    let answer = setup.health.answer();
    let status = if answer.healthy {
        StatusCode::OK
    } else {
        StatusCode::from_u16(setup.worker.settings().unhealthy_status)
            .unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
    };
    let mut response = Response::new(Content::Own {
        bytes: Some(answer.body.into()),
    });
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

pin_project! {
    /// A response body that says when HTTP has all of it.
    pub(crate) struct CountedBody<B, T> {
        #[pin]
        content: Content<B>,
        end: End<T>,
    }
}

pin_project! {
    #[project = ContentProjection]
    enum Content<B> {
        App { #[pin] body: B },
        Own { bytes: Option<Bytes> },
    }
}

impl<B> Content<B> {
    fn of_app(body: B) -> Self {
        Self::App { body }
    }
}

/// hyper drops a body as soon as it needs no more of it.
struct End<T> {
    /// Always there: it comes from [`Exchange`].
    link: Option<Arc<Link<T>>>,
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.hand_over();
        }
    }
}

impl<B: Body<Data = Bytes>, T> Body for CountedBody<B, T> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = match this.content.project() {
            ContentProjection::App { body } => ready!(body.poll_frame(cx)),
            ContentProjection::Own { bytes } => bytes.take().map(Frame::data).map(Ok),
        };
        if let (Some(Ok(frame)), Some(link)) = (&frame, &this.end.link) {
            link.count_body(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::App { body } => body.is_end_stream(),
            Content::Own { bytes } => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::App { body } => body.size_hint(),
            Content::Own { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}
