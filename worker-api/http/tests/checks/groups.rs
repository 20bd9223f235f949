//! Runs cases with the settings that they need. A process has one worker with one set of
//! settings, so each set has a process of its own.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Map, Value};

use crate::case::Case;

/// Says which cases a process is to run: those with these settings, as JSON.
const GROUP: &str = "WORKER_HTTP_TEST_GROUP";

/// Settings under gunicorn's names, and their variables.
const SETTINGS: &[(&str, &str)] = &[
    ("limit_request_line", "GRACEFORK_LIMIT_REQUEST_LINE"),
    ("limit_request_fields", "GRACEFORK_LIMIT_REQUEST_FIELDS"),
    (
        "limit_request_field_size",
        "GRACEFORK_LIMIT_REQUEST_FIELD_SIZE",
    ),
    ("max_body", "GRACEFORK_MAX_BODY"),
    ("proxy_protocol", "GRACEFORK_PROXY_PROTOCOL"),
];

/// Runs all of them, from the test of this name. Cases that need a setting which gracefork does
/// not have are left out.
pub(crate) fn run(test: &str, cases: Vec<Case>) {
    let mut groups: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for case in cases {
        let settings = serde_json::to_string(&case.settings).unwrap();
        groups.entry(settings).or_default().push(case);
    }
    let faults: Vec<_> = match std::env::var(GROUP) {
        Ok(group) => groups[&group].iter().flat_map(Case::faults).collect(),
        Err(_) => {
            let groups = groups.iter();
            groups
                .filter_map(|(group, cases)| run_apart(test, group, cases))
                .collect()
        }
    };
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn run_apart(test: &str, group: &str, cases: &[Case]) -> Option<String> {
    let settings: Map<String, Value> = serde_json::from_str(group).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(GROUP, group);
    for (name, value) in &settings {
        let Some((_, variable)) = SETTINGS.iter().find(|(known, _)| known == name) else {
            let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
            println!(
                "left out, for want of a setting {name}: {}",
                names.join(", ")
            );
            return None;
        };
        let value = match value {
            Value::Bool(on) => u8::from(*on).to_string(),
            other => other.to_string(),
        };
        command.env(variable, value);
    }
    let output = command.output().unwrap();
    let fault = || format!("{group}:\n{}", String::from_utf8_lossy(&output.stderr));
    (!output.status.success()).then(fault)
}
