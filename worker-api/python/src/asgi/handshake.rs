//! Which requests ask for a WebSocket, and what they are told.

use bytes::Bytes;
use http::request::Parts;
use http::response;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};
use tungstenite::handshake::derive_accept_key;
use worker_http::hosted::Answer;

use super::deflate;
use crate::tokens::{has_token, tokens};

/// What a request asks for.
pub(super) enum Wish {
    Http,
    WebSocket(Offer),
    /// A WebSocket, in a way that nobody understands: the answer.
    Wrong(Box<response::Parts>),
}

/// A WebSocket that can be had.
pub(super) struct Offer {
    key: String,
    /// The subprotocols that the client would speak.
    pub(super) protocols: Vec<String>,
    /// Messages may be compressed.
    pub(super) deflates: bool,
}

impl Wish {
    /// Of a request with this head.
    pub(super) fn of(head: &Parts) -> Self {
        let fields = &head.headers;
        // Upgrade counts where Connection names it: RFC 9110, section 7.8.
        if !has_token(fields, &header::UPGRADE, "websocket")
            || !has_token(fields, &header::CONNECTION, "upgrade")
        {
            return Self::Http;
        }
        let is_whole = head.method == Method::GET && head.version >= Version::HTTP_11;
        let key = fields.get(header::SEC_WEBSOCKET_KEY);
        let key = key.filter(|key| key.len() == 24 && is_whole);
        let version = fields.get(header::SEC_WEBSOCKET_VERSION);
        match (key, version) {
            (Some(key), Some(version)) if version == "13" => Self::WebSocket(Offer {
                key: derive_accept_key(key.as_bytes()),
                protocols: tokens(fields, &header::SEC_WEBSOCKET_PROTOCOL)
                    .map(str::to_owned)
                    .collect(),
                deflates: deflate::is_offered(fields),
            }),
            (Some(_), Some(_)) => {
                let mut parts = head_of(StatusCode::UPGRADE_REQUIRED);
                let version = HeaderValue::from_static("13");
                parts.headers.insert(header::SEC_WEBSOCKET_VERSION, version);
                Self::Wrong(Box::new(parts))
            }
            _ => Self::Wrong(Box::new(head_of(StatusCode::BAD_REQUEST))),
        }
    }
}

impl Offer {
    /// The head that accepts it.
    pub(super) fn accept(
        self,
        protocol: Option<HeaderValue>,
        fields: HeaderMap,
    ) -> response::Parts {
        let mut parts = head_of(StatusCode::SWITCHING_PROTOCOLS);
        parts.headers = fields;
        let mut set = |name, value| parts.headers.insert(name, value);
        set(header::UPGRADE, HeaderValue::from_static("websocket"));
        set(header::CONNECTION, HeaderValue::from_static("upgrade"));
        // Base64 is a valid value.
        if let Ok(key) = HeaderValue::try_from(self.key) {
            set(header::SEC_WEBSOCKET_ACCEPT, key);
        }
        if let Some(protocol) = protocol {
            set(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        if self.deflates {
            let agreed = HeaderValue::from_static(deflate::AGREED);
            set(header::SEC_WEBSOCKET_EXTENSIONS, agreed);
        }
        parts
    }
}

/// The answer of an app that does not accept.
pub(super) fn forbidden() -> (response::Parts, Answer) {
    (head_of(StatusCode::FORBIDDEN), Answer::bytes(Bytes::new()))
}

fn head_of(status: StatusCode) -> response::Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts
}
