//! A box for what the app computes a response with.

use std::pin::Pin;

use http::Request;
use hyper::body::Incoming;

use crate::introduce::Introduction;
use crate::service::App;

/// An app whose futures live on their own, and no longer than their request.
///
/// hyper keeps a place for one in each connection as long as that is open. A router's is large,
/// and an idle connection shall be small; a box costs a request nothing that can be measured.
#[derive(Clone)]
pub(super) struct Boxed<S>(pub(super) S);

impl<S: App> App for Boxed<S> {
    type Answer = S::Answer;
    type Error = S::Error;
    type Future = Pin<Box<S::Future>>;

    fn answer(&self, request: Request<Incoming>, introduction: Introduction) -> Self::Future {
        Box::pin(self.0.answer(request, introduction))
    }
}
