#![no_main]

#[path = "../entries/connection.rs"]
mod entry;
#[allow(dead_code, reason = "tests read more of an outcome")]
#[path = "../../worker-api/http/tests/checks/wire.rs"]
mod wire;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
