//! What holds for every driver, held against this one.

type Pod = crate::pod::Pod<crate::pod::Baton>;

#[path = "drain.rs"]
mod drain;
#[path = "hints.rs"]
mod hints;
#[path = "protocol.rs"]
mod protocol;
#[path = "upgrade.rs"]
mod upgrade;
