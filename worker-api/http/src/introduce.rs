//! What the app gets to know of a request, and what not, besides what hyper says.

use bytes::Bytes;
use http::Request;
use worker_api::AllowedIps;

use crate::checks::Client;
use crate::hints::EarlyHints;
use crate::link::Beginning;

/// The target of a request as it was sent: an extension of the requests whose
/// [`uri`](Request::uri) may not show it so. That drops a fragment, shows ``"<>` `` percent-encoded,
/// and gives an absolute form without a path one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTarget(pub Bytes);

/// What comes with a request besides itself.
#[derive(Debug)]
#[non_exhaustive]
pub struct Introduction {
    /// Who has sent it.
    pub client: Client,
    /// The way to its hints, if it may have any.
    pub hints: Option<EarlyHints>,
}

/// Tells who has sent a request, and adds to it what hyper does not show.
pub(crate) fn introduce<B>(
    request: &mut Request<B>,
    beginning: Beginning,
    believed: &AllowedIps,
) -> Client {
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
    client
}
