//! The seeds of the fuzz target `config`, and what was once found, through the same function.
#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

#[path = "../../fuzz/entries/config.rs"]
mod config;

#[test]
fn the_config_file_takes_its_seeds() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/config");
    let seeds = std::fs::read_dir(seeds).unwrap();
    let ran = seeds.map(|seed| config::run(&std::fs::read(seed.unwrap().path()).unwrap()));
    assert!(ran.count() > 10);
}
