//! The measures, a room each; every one starts its own servers and ends them.

pub(crate) mod balance;
pub(crate) mod blocked;
pub(crate) mod memory;
pub(crate) mod speed;
