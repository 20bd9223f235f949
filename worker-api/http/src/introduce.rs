//! What the app gets to know of a request, and what not, besides what hyper says.

use std::cell::Cell;

use bytes::Bytes;
use http::Request;
use worker_api::AllowedIps;

use crate::checks::Client;
use crate::hints::EarlyHints;
use crate::link::Beginning;

thread_local! {
    static HANDED: Cell<Option<Handed>> = const { Cell::new(None) };
}

/// The target of a request as it was sent: an extension of the requests whose
/// [`uri`](Request::uri) may not show it so. That drops a fragment, shows ``"<>` `` percent-encoded,
/// and gives an absolute form without a path one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTarget(pub Bytes);

/// What comes with a request besides itself.
#[derive(Debug)]
pub(crate) struct Handed {
    /// Who has sent it.
    pub(crate) client: Client,
    /// The way to its hints, if it may have any.
    pub(crate) hints: Option<EarlyHints>,
}

/// What comes with the request with which the service is being called: for a driver whose
/// [`Setup`](crate::Setup) says that it asks. A map of extensions costs three allocations.
pub(crate) fn handed() -> Handed {
    HANDED.take().unwrap_or_else(|| Handed {
        client: Client::direct(None),
        hints: None,
    })
}

/// Adds what is known of the client, what hyper does not show, and the way to early hints.
pub(crate) fn introduce<B>(
    request: &mut Request<B>,
    beginning: Beginning,
    hints: Option<EarlyHints>,
    believed: &AllowedIps,
    hand: bool,
) {
    let mut client = beginning.client;
    if let Some(oddity) = beginning.oddity {
        if oddity.forwarded {
            let hops = request.headers().get_all("x-forwarded-for");
            let hops = hops.iter().map(|value| value.as_bytes());
            client = client.forwarded(oddity.https, hops, believed);
        }
        if let Some(target) = oddity.target {
            request.extensions_mut().insert(RawTarget(target.into()));
        }
    }
    if hand {
        HANDED.set(Some(Handed { client, hints }));
        return;
    }
    request.extensions_mut().insert(client);
    if let Some(hints) = hints {
        request.extensions_mut().insert(hints);
    }
}
