//! The app and its sockets.

use super::Support::Now;
use super::{Limits, Setting, UNSAID};

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        path: "app",
        support: Now(|draft| &mut draft.app),
        example: r#""./server""#,
        doc: "What runs. A program that every worker executes: a path (relative to `chdir`) or a name found in PATH. Or a Python app: `main:app`, `pkg.main:make()`. Usually given on the command line instead.",
        ..UNSAID
    },
    Setting {
        path: "args",
        support: Now(|draft| &mut draft.config.app.args),
        default: "[]",
        example: r#"["--fd", "{fd}"]"#,
        doc: "Its arguments, before those that follow `--` on the command line. `{fd}`, `{port}` and `{worker}` become the first listener's descriptor, its port and the worker's slot.",
        ..UNSAID
    },
    Setting {
        path: "chdir",
        support: Now(|draft| &mut draft.config.app.chdir),
        default: r#"".""#,
        example: r#""/srv/app""#,
        doc: "Working directory of the workers.",
        flags: &["--chdir"],
        ..UNSAID
    },
    Setting {
        path: "env",
        support: Now(|draft| &mut draft.config.app.env),
        default: "{}",
        example: r#"{ KEY = "value" }"#,
        doc: "Variables added to the environment of the workers.",
        flags: &["--env", "-e"],
        repeatable: true,
        gunicorn: Some("raw_env"),
        ..UNSAID
    },
    Setting {
        path: "pidfile",
        support: Now(|draft| &mut draft.pidfile),
        example: r#""/run/gracefork.pid""#,
        doc: "Where the master writes its pid once it listens; it removes the file when it exits. A relative path begins where gracefork was started. A file that names a process which has gone is replaced, one of a process that runs is an error. A change takes effect at the next start.",
        flags: &["--pid", "-p"],
        ..UNSAID
    },
    Setting {
        path: "listen.bind",
        support: Now(|draft| &mut draft.config.listen.bind),
        default: r#"["0.0.0.0:8000"]"#,
        example: r#"["[::]:8000", "unix:/run/app.sock"]"#,
        doc: "Where clients connect: \"host:port\", \"[::]:8000\", \":8000\" (all IPv4 addresses), \"unix:/run/app.sock\" or \"fd:3\" (an inherited socket). When it is given nowhere, PORT=8080 in the environment stands for \"0.0.0.0:8080\".",
        flags: &["--bind", "-b"],
        repeatable: true,
        ..UNSAID
    },
    Setting {
        path: "listen.backlog",
        support: Now(|draft| &mut draft.config.listen.backlog),
        default: "2048",
        example: "512",
        doc: "How many connections may wait in the kernel until a worker accepts them; a reload changes it for sockets that are kept, too.",
        limits: Limits::between(1, i32::MAX as u64),
        flags: &["--backlog"],
        ..UNSAID
    },
];
