//! What a host has loaded, and does not need any more.

use std::fs;

use super::{answers, hosted_in};
use crate::harness::programs::need;
use crate::harness::{Signal, eventually};

/// Maps a file twice for good, reads all of it, and changes one of the two, which nothing can be
/// written to from then on: as a loader does with what it relocates.
const APP: &str = "
import ctypes
import mmap

with open('big', 'rb') as file:
    kept = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    both = mmap.PROT_READ | mmap.PROT_WRITE
    changed = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=both)
assert not any(kept[::4096]) and not any(changed[::4096])
changed[0:3] = b'two'
address = ctypes.addressof(ctypes.c_char.from_buffer(changed))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), len(changed), mmap.PROT_READ) == 0

def app(environ, start):
    start('200 OK', [])
    return [changed[0:3] + b' %d' % any(kept[::4096])]
";

const SIZE: usize = 1 << 20;

#[test]
fn what_a_host_does_not_need_until_the_next_fork_is_not_its_memory() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("main.py"), APP).unwrap();
    fs::write(folder.path().join("big"), vec![0; SIZE]).unwrap();
    let builder = need!(
        hosted_in("main:app", "ctypes", folder.path()),
        "the package"
    );
    let server = builder.set("workers.preload", true).start();
    let host = server.status().hosts[0].pid;
    eventually("one of the two mappings is released", || {
        let mut resident = resident(host, "/big");
        resident.sort_unstable();
        matches!(resident[..], [0, changed] if changed >= SIZE)
    });
    answers(&server, "/", 200, "two 0");
    // Those that are forked from now on find everything as it was.
    for pid in server.worker_pids() {
        server.watch(pid).signal(Signal::KILL);
    }
    server.wait_status("two new workers", |status| {
        let all = status.workers.iter();
        all.filter(|worker| worker.restarts == 1).count() == 2 && status.ready_workers == 2
    });
    answers(&server, "/", 200, "two 0");
    server.shut_down();
}

/// Bytes of each mapping of files of that name, in the process's own count.
fn resident(pid: u32, name: &str) -> Vec<usize> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut found = Vec::new();
    let mut lines = smaps.lines();
    while let Some(line) = lines.next() {
        if line.ends_with(name) {
            let rss = lines.find(|line| line.starts_with("Rss:")).unwrap();
            let kilobytes = rss.split_ascii_whitespace().nth(1).unwrap();
            found.push(kilobytes.parse::<usize>().unwrap() * 1024);
        }
    }
    found
}
