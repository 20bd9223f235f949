//! Hosted Python apps in mixed load with clients that leave: a short run of `make soak-python`,
//! which tells more.

use std::process::Command;
use std::time::Duration;

use crate::harness::command::run;
use crate::harness::programs::{hosting_python, need, root};
use crate::harness::schedule::alone;

#[test]
fn hosted_python_apps_keep_nothing_of_clients_who_come_stay_and_leave() {
    let python = need!(hosting_python("sys"), "the package");
    // Its clients would keep the machine from whoever is measured.
    let _alone = alone();
    let mut command = Command::new(python);
    command
        .arg("-B")
        .arg(root().join("tests/soak/soak.py"))
        .args(["--seconds", "10"]);
    let said = run(command, Duration::from_secs(240));
    assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
}
