//! `[workers]` and `[workers.restart]`.

use super::Support::Now;
use super::{Limits, MOST_THREADS, MOST_WORKERS, SOME_TIME, Setting, UNSAID};

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        path: "workers.count",
        support: Now(|draft| &mut draft.config.workers.count),
        default: r#""auto""#,
        example: "4",
        doc: "How many workers run; \"auto\" is the CPU quota of the cgroup, rounded up. Where there is none (a pod without a CPU limit) it is every CPU of the machine: give a number then.",
        limits: Limits::between(1, MOST_WORKERS),
        flags: &["--workers", "-w"],
        variable: Some("WEB_CONCURRENCY"),
        gunicorn: Some("workers"),
        ..UNSAID
    },
    Setting {
        path: "workers.min_ready",
        support: Now(|draft| &mut draft.config.workers.min_ready),
        default: "1",
        example: "2",
        doc: "The pod is ready from so many Ready workers on.",
        limits: Limits::between(1, MOST_WORKERS),
        ..UNSAID
    },
    Setting {
        path: "workers.threads",
        support: Now(|draft| &mut draft.config.workers.threads),
        default: "1",
        example: "4",
        doc: "App calls at once in one worker, for apps that block: connections, health and drain are never held up.",
        limits: Limits::between(1, MOST_THREADS),
        flags: &["--threads"],
        ..UNSAID
    },
    Setting {
        path: "workers.level",
        support: Now(|draft| &mut draft.config.workers.level),
        default: r#""auto""#,
        example: r#""notify""#,
        doc: "How a worker talks to the master: signals only (plain), sd_notify (notify) or worker-api (native); \"auto\" finds out, and takes a worker that has not spoken for `ready_after` to be plain and Ready: name the level of one that takes longer to start.",
        flags: &["--level"],
        ..UNSAID
    },
    Setting {
        path: "workers.ready_after",
        support: Now(|draft| &mut draft.config.workers.ready_after),
        default: r#""1s""#,
        example: r#""3s""#,
        doc: "A plain worker counts as Ready when it has lived so long. A reload waits so long with its first new worker, of every level.",
        ..UNSAID
    },
    Setting {
        path: "workers.stop_signal",
        support: Now(|draft| &mut draft.config.workers.stop_signal),
        default: r#""SIGTERM""#,
        example: r#""SIGINT""#,
        doc: "What tells a plain or notify worker to finish and exit.",
        ..UNSAID
    },
    Setting {
        path: "workers.term_immediately",
        support: Now(|draft| &mut draft.config.workers.term_immediately),
        default: "false",
        example: "true",
        doc: "Send plain and notify workers SIGTERM when lameduck begins, for programs that turn unhealthy on it; `stop_signal` follows at drain.",
        ..UNSAID
    },
    Setting {
        path: "workers.boot_timeout",
        support: Now(|draft| &mut draft.config.workers.boot_timeout),
        default: r#""60s""#,
        example: r#""120s""#,
        doc: "A worker that is not Ready after so long is given up.",
        limits: SOME_TIME,
        ..UNSAID
    },
    Setting {
        path: "workers.hang_timeout",
        support: Now(|draft| &mut draft.config.workers.hang_timeout),
        default: r#""30s""#,
        example: r#""60s""#,
        doc: "A worker that promised to show life and has not for so long is killed. For Python apps: how long calls may last; a worker is killed when as many last longer as it has threads.",
        flags: &["--timeout", "-t"],
        seconds: true,
        gunicorn: Some("timeout"),
        ..UNSAID
    },
    Setting {
        path: "workers.max_requests",
        support: Now(|draft| &mut draft.config.workers.max_requests),
        default: "0",
        example: "10000",
        doc: "Replace a native worker after so many requests.",
        flags: &["--max-requests"],
        ..UNSAID
    },
    Setting {
        path: "workers.max_requests_jitter",
        support: Now(|draft| &mut draft.config.workers.max_requests_jitter),
        default: "0",
        example: "1000",
        doc: "Up to so many requests more, drawn for each worker, so that they are not replaced all at once.",
        flags: &["--max-requests-jitter"],
        ..UNSAID
    },
    Setting {
        path: "workers.max_lifetime",
        support: Now(|draft| &mut draft.config.workers.max_lifetime),
        default: r#""0s""#,
        example: r#""12h""#,
        doc: "Replace a worker when it has lived so long.",
        ..UNSAID
    },
    Setting {
        path: "workers.max_rss",
        support: Now(|draft| &mut draft.config.workers.max_rss),
        default: "0",
        example: r#""512MiB""#,
        doc: "Replace a worker whose resident memory is above this.",
        ..UNSAID
    },
    Setting {
        path: "workers.preload",
        support: Now(|draft| &mut draft.config.workers.preload),
        default: "false",
        example: "true",
        doc: "Import a Python app once, before the workers are forked: they share its memory and start at once.",
        flags: &["--preload"],
        gunicorn: Some("preload_app"),
        ..UNSAID
    },
    Setting {
        path: "workers.restart.backoff",
        support: Now(|draft| &mut draft.config.workers.restart.backoff),
        default: r#""100ms""#,
        example: r#""500ms""#,
        doc: "Wait before the second replacement in a row; it doubles from then on. The first is at once.",
        limits: SOME_TIME,
        ..UNSAID
    },
    Setting {
        path: "workers.restart.backoff_max",
        support: Now(|draft| &mut draft.config.workers.restart.backoff_max),
        default: r#""30s""#,
        example: r#""10s""#,
        doc: "The wait grows no longer than this.",
        limits: SOME_TIME,
        ..UNSAID
    },
    Setting {
        path: "workers.restart.crash_limit",
        support: Now(|draft| &mut draft.config.workers.restart.crash_limit),
        default: "5",
        example: "3",
        doc: "So many failures in a row before the first worker is Ready end the start.",
        limits: Limits::between(1, 1000),
        ..UNSAID
    },
];
