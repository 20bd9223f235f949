//! `[python]`.

use super::Support::Now;
use super::{Setting, UNSAID};

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        path: "python.executable",
        support: Now(|draft| &mut draft.python.executable),
        default: r#""python3""#,
        example: r#"".venv/bin/python""#,
        doc: "The interpreter that hosts the app, with the package gracefork installed. Left as it is, a python3 beside gracefork itself is taken, else the one in PATH.",
        ..UNSAID
    },
    Setting {
        path: "python.interface",
        support: Now(|draft| &mut draft.python.interface),
        default: r#""auto""#,
        example: r#""asgi""#,
        doc: "What the app is called by; \"auto\" finds out from the app. gunicorn's worker classes sync, gthread and uvicorn.workers.UvicornWorker are understood; the latter is \"uvicorn\": ASGI, and where `http.limit_request_*` are not set they are 65534, 1000 and 65535, since uvicorn has no such limits.",
        flags: &["--worker-class", "-k"],
        gunicorn: Some("worker_class"),
        ..UNSAID
    },
    Setting {
        path: "python.loop",
        support: Now(|draft| &mut draft.python.event_loop),
        default: r#""auto""#,
        example: r#""uvloop""#,
        doc: "The event loop of an ASGI app; \"auto\" is uvloop where it is installed.",
        flags: &["--asgi-loop"],
        gunicorn: Some("asgi_loop"),
        ..UNSAID
    },
    Setting {
        path: "python.lifespan",
        support: Now(|draft| &mut draft.python.lifespan),
        default: r#""auto""#,
        example: r#""on""#,
        doc: "Whether an ASGI app is told of its start and end; \"auto\" leaves it to the app, \"on\" demands that it listens.",
        flags: &["--asgi-lifespan"],
        gunicorn: Some("asgi_lifespan"),
        ..UNSAID
    },
    Setting {
        path: "python.root_path",
        support: Now(|draft| &mut draft.python.root_path),
        example: r#""/shop""#,
        doc: "Where an ASGI app is mounted by the proxy in front of it: `root_path` of its scopes. Their `path` begins with it, whether or not the proxy takes it off. A WSGI app takes SCRIPT_NAME from the environment.",
        flags: &["--root-path"],
        gunicorn: Some("root_path"),
        ..UNSAID
    },
    Setting {
        path: "python.ws_max_message_size",
        support: Now(|draft| &mut draft.python.ws_max_message_size),
        default: "16777216",
        example: "65536",
        doc: "Bytes of the longest message that a WebSocket takes; 0 is any number. Beyond: it is closed with 1009.",
        flags: &["--websocket-max-message-size"],
        gunicorn: Some("websocket_max_message_size"),
        ..UNSAID
    },
    Setting {
        path: "python.ws_ping_interval",
        support: Now(|draft| &mut draft.python.ws_ping_interval),
        default: r#""20s""#,
        example: r#""50s""#,
        doc: "A WebSocket whose client has been silent for so long is sent a ping, and cut off when nothing comes for as long again. 0 = never.",
        ..UNSAID
    },
    Setting {
        path: "python.ws_close_grace",
        support: Now(|draft| &mut draft.python.ws_close_grace),
        default: r#""5s""#,
        example: r#""1s""#,
        doc: "When a worker leaves, its WebSockets are told (1001, or 1012 where another worker takes over). So long their clients have to say good-bye before they are cut off.",
        ..UNSAID
    },
    Setting {
        path: "python.path",
        support: Now(|draft| &mut draft.python.path),
        default: "[]",
        example: r#"["src", "vendor"]"#,
        doc: "Folders that the app, its hooks and its config file are imported from, before all others. Relative ones begin at `chdir`.",
        flags: &["--pythonpath"],
        gunicorn: Some("pythonpath"),
        ..UNSAID
    },
    Setting {
        path: "python.config",
        support: Now(|draft| &mut draft.python.config),
        example: r#""gunicorn_config.py""#,
        doc: "A gunicorn config file, for its hooks and settings; they are under everything else that is given. `-c FILE.py`, `-c file:FILE` and `-c python:MODULE` say the same, and gunicorn.conf.py in the working directory is found where no config file is named.",
        gunicorn: Some("config"),
        ..UNSAID
    },
];
