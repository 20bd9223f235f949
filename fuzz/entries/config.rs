//! The config file: read, or refused with all that is wrong.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;

use gracefork::config::{Sources, load};
use rustix::fs::{MemfdFlags, memfd_create};

pub(crate) fn run(data: &[u8]) {
    let fd = memfd_create("config", MemfdFlags::CLOEXEC).expect("a file in memory");
    let mut file = File::from(fd);
    file.write_all(data).expect("room for it");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let sources = Sources {
        file: Some(path.into()),
        app_optional: true,
        ..Sources::default()
    };
    match load(&sources) {
        Ok(loaded) => drop(format!("{loaded:?}")),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
}
