//! What holds for every driver, held against this one.

type Pod = crate::pod::Pod<crate::pod::Tokio>;

#[path = "accounting.rs"]
mod accounting;
#[path = "drain.rs"]
mod drain;
#[path = "hints.rs"]
mod hints;
#[path = "protocol.rs"]
mod protocol;
#[path = "refusal.rs"]
mod refusal;
#[path = "upgrade.rs"]
mod upgrade;
