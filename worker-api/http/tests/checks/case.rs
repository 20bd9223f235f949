//! Cases as `../shared/http-fixtures` and `tests/corpus` have them, and the ways to send them.

use serde::Deserialize;

use crate::wire::{Outcome, Seen, send};

/// A stream of bytes, and what is to come of it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) settings: serde_json::Map<String, serde_json::Value>,
    /// In latin-1.
    bytes: String,
    /// For a valid one: the requests that the app must see.
    requests: Option<Vec<Expected>>,
    /// For an invalid one: the status of the answer; none is a close without an answer.
    status: Option<u16>,
}

#[derive(Clone, Debug, Deserialize)]
struct Expected {
    method: String,
    target: String,
    version: [u64; 2],
    headers: Vec<(String, String)>,
    body: String,
    #[serde(default)]
    trailers: Vec<(String, String)>,
}

impl Case {
    /// Sends it in every way, and says what is wrong.
    pub(crate) fn faults(&self) -> Vec<String> {
        let bytes: Vec<u8> = self
            .bytes
            .chars()
            .map(|c| u8::try_from(c).unwrap())
            .collect();
        let mut ways = vec![
            ("whole", vec![bytes.as_slice()]),
            (
                "by lines",
                bytes.split_inclusive(|byte| *byte == b'\n').collect(),
            ),
            ("by bytes", bytes.chunks(1).collect()),
        ];
        ways.extend((1..=8).map(|seed| ("in random pieces", random_pieces(&bytes, seed))));
        let faults = ways.into_iter().filter_map(|(way, pieces)| {
            let outcome = send(pieces);
            let fault = self.fault(&outcome)?;
            Some(format!("{} {way}: {fault}\n  {outcome:?}", self.name))
        });
        faults.collect()
    }

    fn fault(&self, outcome: &Outcome) -> Option<String> {
        if !outcome.closed {
            return Some("the connection stays open".to_owned());
        }
        let statuses = outcome.statuses();
        let Some(requests) = &self.requests else {
            let end = statuses.last().copied();
            if end != self.status {
                return Some(format!("{:?} instead of {:?}", statuses, self.status));
            }
            // Requests before the bad one have been answered.
            let before = statuses.len() - usize::from(self.status.is_some());
            let answered = statuses[..before].iter().all(|status| *status == 200);
            return (outcome.seen.len() != before || !answered)
                .then(|| "the app saw a bad request".to_owned());
        };
        let seen: Vec<_> = requests.iter().map(Expected::seen).collect();
        if seen != outcome.seen {
            return Some(format!("seen {:?}\ninstead of {seen:?}", outcome.seen));
        }
        (statuses != vec![200; seen.len()]).then(|| format!("answered {statuses:?}"))
    }
}

impl Expected {
    fn seen(&self) -> Seen {
        let sorted = |fields: &[(String, String)]| {
            let mut fields = fields.to_vec();
            fields.sort_by(|one, other| one.0.cmp(&other.0));
            fields
        };
        Seen {
            method: self.method.clone(),
            target: self.target.clone(),
            version: self.version,
            headers: sorted(&self.headers),
            body: self.body.clone(),
            trailers: sorted(&self.trailers),
        }
    }
}

/// The same pieces for the same seed.
fn random_pieces(bytes: &[u8], seed: u64) -> Vec<&[u8]> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let most = rest.len().min(1 << (random >> 60));
        let len = usize::try_from(random % 0xffff).unwrap() % most + 1;
        let (piece, behind) = rest.split_at(len);
        pieces.push(piece);
        rest = behind;
    }
    pieces
}
