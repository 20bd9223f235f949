//! What the core must do, one scenario a test.

mod boot;
mod crashes;
mod drain;
mod lameduck;
mod pod;
mod recycling;
mod reload;
mod reports;
mod scaling;
