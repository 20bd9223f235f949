//! What the native part has to say goes to standard error, in the form of the master's own lines.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Begins to log, unless it was begun; as the master's config says.
pub(crate) fn start() {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let level = variable("GRACEFORK_LOG_LEVEL").parse();
    let level = level.unwrap_or(LevelFilter::INFO);
    let for_people = match variable("GRACEFORK_LOG_FORMAT").as_str() {
        "text" => true,
        "json" => false,
        _ => io::stderr().is_terminal(),
    };
    let lines = fmt::layer().with_target(false).with_writer(io::stderr);
    let registry = tracing_subscriber::registry().with(level);
    // It fails where there is a subscriber already.
    let _ = if for_people {
        registry
            .with(lines.with_ansi(io::stderr().is_terminal()))
            .try_init()
    } else {
        registry.with(lines.json().flatten_event(true)).try_init()
    };
}
