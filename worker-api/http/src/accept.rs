//! Accepting from listeners that all workers of a pod share, for every driver.
//!
//! Reading order: [`policy`] decides, purely; [`gate`] asks it and has the [`seat`]s follow;
//! [`acceptor`] takes the connections of one listener.

mod acceptor;
mod gate;
mod policy;
mod seat;

pub(crate) use acceptor::{Acceptor, Watch};
pub(crate) use gate::{Gate, Open};
pub(crate) use seat::Seat;
