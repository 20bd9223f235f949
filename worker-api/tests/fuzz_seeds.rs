//! The seeds of the fuzz target `message`, and what was once found, through the same function.

#[path = "../../fuzz/entries/message.rs"]
mod message;

#[test]
fn the_control_channel_takes_its_seeds() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/message");
    let seeds = std::fs::read_dir(seeds).unwrap();
    let ran = seeds.map(|seed| message::run(&std::fs::read(seed.unwrap().path()).unwrap()));
    assert!(ran.count() > 10);
}
