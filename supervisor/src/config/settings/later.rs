//! Settings of parts that are not built yet: known, and refused.

use super::{Setting, UNSAID};

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        path: "workers.preload",
        example: "true",
        doc: "Load the app once, before the workers are forked.",
        flags: &["--preload"],
        gunicorn: Some("preload_app"),
        ..UNSAID
    },
    Setting {
        path: "reload.watch",
        example: r#"["src"]"#,
        doc: "Paths whose change reloads, for development.",
        flags: &["--reload"],
        gunicorn: Some("reload_extra_files"),
        ..UNSAID
    },
    Setting {
        path: "python.executable",
        example: r#""python3""#,
        doc: "The interpreter that hosts Python apps.",
        ..UNSAID
    },
    Setting {
        path: "python.interface",
        example: r#""asgi""#,
        doc: "WSGI or ASGI.",
        flags: &["--worker-class", "-k"],
        gunicorn: Some("worker_class"),
        ..UNSAID
    },
    Setting {
        path: "python.loop",
        example: r#""uvloop""#,
        doc: "The event loop of ASGI apps.",
        flags: &["--asgi-loop"],
        gunicorn: Some("asgi_loop"),
        ..UNSAID
    },
    Setting {
        path: "python.lifespan",
        example: r#""on""#,
        doc: "Whether ASGI's lifespan protocol is spoken.",
        flags: &["--asgi-lifespan"],
        gunicorn: Some("asgi_lifespan"),
        ..UNSAID
    },
    Setting {
        path: "python.config",
        example: r#""gunicorn_config.py""#,
        doc: "Hooks and settings of a gunicorn config file.",
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
    Setting {
        path: "security.user",
        example: r#""www-data""#,
        doc: "The user that workers run as.",
        flags: &["--user", "-u"],
        ..UNSAID
    },
    Setting {
        path: "security.group",
        example: r#""www-data""#,
        doc: "The group that workers run as.",
        flags: &["--group", "-g"],
        ..UNSAID
    },
    Setting {
        path: "security.umask",
        example: r#""022""#,
        doc: "File mode bits that workers never set.",
        flags: &["--umask", "-m"],
        ..UNSAID
    },
];
