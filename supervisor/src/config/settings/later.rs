//! Settings of parts that are not built yet: known, and refused.

use super::{Setting, UNSAID};

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        path: "reload.watch",
        example: r#"["src"]"#,
        doc: "Paths whose change reloads, for development.",
        flags: &["--reload"],
        gunicorn: Some("reload_extra_files"),
        ..UNSAID
    },
    Setting {
        path: "hooks.when_ready",
        example: r#"["/bin/notify", "up"]"#,
        doc: "Command that the master runs when the pod is ready.",
        ..UNSAID
    },
    Setting {
        path: "control.socket",
        example: r#""auto""#,
        doc: "Where a running master takes commands.",
        flags: &["--control-socket"],
        gunicorn: Some("control_socket"),
        ..UNSAID
    },
];
