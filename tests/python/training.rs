//! The load that the native module's profile is made with.

use std::process::{Command, Stdio};

use crate::harness::programs::{gracefork, hosting_python, need, root};

#[test]
fn the_training_of_the_native_module_gets_every_answer() {
    let python = need!(hosting_python("ctypes"), "the package");
    // It has deadlines of its own, and ends what it has started.
    let output = Command::new(python)
        .arg(root().join("worker-api/python/pep517/training/train.py"))
        .arg(gracefork())
        .arg("1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
