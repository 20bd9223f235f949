//! What the access log wants to know of a request, kept until the request is over.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use worker_api::Worker;
use worker_api::access_log::{AccessLog, Fields, Record};

/// The worker's access log, and the header fields that its lines need.
#[derive(Debug)]
pub(crate) struct Access {
    log: AccessLog,
    request: Vec<HeaderName>,
    response: Vec<HeaderName>,
}

/// What is forgotten of a request before it is over.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) remote: Option<SocketAddr>,
    version: Version,
    request: Vec<Option<HeaderValue>>,
    response: Vec<Option<HeaderValue>>,
}

/// A request that is over.
pub(crate) struct Outcome<'a> {
    pub(crate) method: &'a Method,
    pub(crate) target: &'a Uri,
    pub(crate) status: Option<StatusCode>,
    pub(crate) body_bytes: u64,
    pub(crate) took: Duration,
}

impl Access {
    /// `None` where nothing is to be logged.
    pub(crate) fn of(worker: &Worker) -> Option<Self> {
        let log = worker.access_log()?.clone();
        let names = |names: &[String]| -> Vec<HeaderName> {
            let names = names.iter().map(|name| HeaderName::try_from(name.as_str()));
            // The format takes nothing but names. No other can come, and none may be left out.
            let nobody = HeaderName::from_static("-");
            names.map(|name| name.unwrap_or(nobody.clone())).collect()
        };
        Some(Self {
            request: names(log.format().request_fields()),
            response: names(log.format().response_fields()),
            log,
        })
    }

    /// A request's head is there.
    pub(crate) fn observe(&self, version: Version, headers: &HeaderMap) -> Box<Observed> {
        Box::new(Observed {
            remote: None,
            version,
            request: last_values(&self.request, headers),
            response: Vec::new(),
        })
    }

    /// Whether lines tell of fields of the answer.
    pub(crate) fn wants_answer(&self) -> bool {
        !self.response.is_empty()
    }

    /// The head of its answer is there.
    pub(crate) fn observe_answer(&self, observed: &mut Observed, headers: &HeaderMap) {
        observed.response = last_values(&self.response, headers);
    }

    /// The request is over.
    pub(crate) fn log(&self, observed: &Observed, outcome: &Outcome<'_>) {
        let target = outcome.target;
        let whole;
        let written = match target.path_and_query() {
            Some(path) if target.authority().is_none() => path.as_str(),
            _ => {
                whole = target.to_string();
                &whole
            }
        };
        self.log.log(&Record {
            at: SystemTime::now(),
            took: outcome.took,
            remote: observed.remote,
            method: outcome.method.as_str(),
            target: written,
            path: target.path(),
            query: target.query().unwrap_or_default(),
            protocol: protocol(observed.version),
            status: outcome.status.map(|status| status.as_u16()),
            body_bytes: outcome.body_bytes,
            fields: observed,
        });
    }
}

impl Fields for Observed {
    fn request(&self, index: usize) -> Option<&[u8]> {
        self.request.get(index)?.as_ref().map(HeaderValue::as_bytes)
    }

    fn response(&self, index: usize) -> Option<&[u8]> {
        self.response
            .get(index)?
            .as_ref()
            .map(HeaderValue::as_bytes)
    }
}

/// Of a field that comes more than once the last counts, as with gunicorn.
fn last_values(names: &[HeaderName], headers: &HeaderMap) -> Vec<Option<HeaderValue>> {
    let last = |name| headers.get_all(name).iter().next_back().cloned();
    names.iter().map(last).collect()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}
