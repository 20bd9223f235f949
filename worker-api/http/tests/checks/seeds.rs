//! The seeds of the fuzz targets, and what was once found, through the same functions.

use std::path::Path;

#[path = "../../../../fuzz/entries/connection.rs"]
mod connection;
#[path = "../../../../fuzz/entries/proxy.rs"]
mod proxy;
#[path = "../../../../fuzz/entries/watcher.rs"]
mod watcher;

fn replay(target: &str, run: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let seeds = std::fs::read_dir(seeds.join(target)).unwrap();
    let ran = seeds.map(|seed| run(&std::fs::read(seed.unwrap().path()).unwrap()));
    assert!(ran.count() > 10);
}

#[test]
fn the_watcher_takes_its_seeds() {
    replay("watcher", watcher::run);
}

#[test]
fn a_connection_takes_its_seeds() {
    replay("connection", connection::run);
}

#[test]
fn the_proxy_header_takes_its_seeds() {
    replay("proxy", proxy::run);
}
