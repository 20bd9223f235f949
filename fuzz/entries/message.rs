//! The control channel: what can be read can be written and read again.

use worker_api::message::{Command, MAX_MESSAGE, Report};

pub(crate) fn run(data: &[u8]) {
    for report in Report::decode(data).unwrap_or_default() {
        let frame = report.encode();
        assert!(frame.len() <= MAX_MESSAGE);
        assert_eq!(Report::decode(&frame), Ok(vec![report]));
    }
    for command in Command::decode(data).unwrap_or_default() {
        let frame = command.encode();
        assert!(frame.len() <= MAX_MESSAGE);
        assert_eq!(Command::decode(&frame), Ok(vec![command]));
    }
}
