//! What can go wrong before a worker serves.

use std::io;

/// Why serving could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The worker has no listener, or it was taken before.
    #[error("the worker has no listener left to accept from")]
    NoListener,
    /// The runtime does not take a listener.
    #[error("cannot accept from {name}: {source}")]
    Register {
        /// The listener's name.
        name: String,
        /// What the runtime says.
        source: io::Error,
    },
    /// The kernel refused a descriptor or a thread.
    #[error("cannot set the driver up: {0}")]
    Driver(#[source] io::Error),
}
