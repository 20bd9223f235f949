//! What the app gets to know of a request, and what not, besides what hyper says.

use std::cell::Cell;

use bytes::Bytes;
use http::Request;
use worker_api::AllowedIps;

use crate::checks::Client;
use crate::link::Beginning;

thread_local! {
    static HANDED: Cell<Option<Client>> = const { Cell::new(None) };
}

/// The target of a request as it was sent: an extension of the requests whose
/// [`uri`](Request::uri) may not show it so. That drops a fragment, shows ``"<>` `` percent-encoded,
/// and gives an absolute form without a path one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTarget(pub Bytes);

/// Who has sent the request with which the service is being called: for a driver whose
/// [`Setup`](crate::Setup) says that it asks. A map of extensions costs three allocations.
pub(crate) fn handed_client() -> Option<Client> {
    HANDED.take()
}

/// Adds what is known of the client, and what hyper does not show.
pub(crate) fn introduce<B>(
    request: &mut Request<B>,
    beginning: Beginning,
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
        HANDED.set(Some(client));
    } else {
        request.extensions_mut().insert(client);
    }
}
