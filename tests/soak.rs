//! Hosted Python apps in mixed load with clients that leave: a short run of `make soak-python`,
//! which tells more.

use std::process::Command;

use crate::harness::programs::{hosting_python, need, root};

#[test]
fn hosted_python_apps_keep_nothing_of_clients_who_come_stay_and_leave() {
    let python = need!(hosting_python("sys"), "the package");
    let output = Command::new(python)
        .arg("-B")
        .arg(root().join("tests/soak/soak.py"))
        .args(["--seconds", "10"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
}
