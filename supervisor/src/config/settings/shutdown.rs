//! `[shutdown]` with its probe, and `[reload]`.

use super::Support::Now;
use super::{Limits, MOST_WORKERS, SOME_TIME, Setting, UNSAID};

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        path: "shutdown.grace_period",
        support: Now(|draft| &mut draft.config.shutdown.grace_period),
        default: r#""30s""#,
        example: r#""60s""#,
        doc: "When SIGKILL follows SIGTERM: terminationGracePeriodSeconds less what preStop takes. `lameduck`, `drain_timeout` and `kill_margin` must fit into it.",
        limits: SOME_TIME,
        flags: &["--grace-period"],
        seconds: true,
        ..UNSAID
    },
    Setting {
        path: "shutdown.lameduck",
        support: Now(|draft| &mut draft.lameduck),
        default: r#""auto""#,
        example: r#""35s""#,
        doc: "How long the pod says unhealthy and still serves after SIGTERM. \"auto\": what `probe` needs plus 3s when it is given, else 10s under Kubernetes (KUBERNETES_SERVICE_HOST is set), else 0s.",
        flags: &["--lameduck"],
        seconds: true,
        ..UNSAID
    },
    Setting {
        path: "shutdown.lameduck_quiet",
        support: Now(|draft| &mut draft.config.shutdown.lameduck_quiet),
        default: r#""0s""#,
        example: r#""2s""#,
        doc: "End lameduck early once the probe has seen the pod unhealthy often enough and no other request came for so long.",
        ..UNSAID
    },
    Setting {
        path: "shutdown.unready_delay",
        support: Now(|draft| &mut draft.config.shutdown.unready_delay),
        default: r#""0s""#,
        example: r#""1s""#,
        doc: "How long after SIGTERM the pod still says healthy; part of `lameduck`.",
        ..UNSAID
    },
    Setting {
        path: "shutdown.drain_timeout",
        support: Now(|draft| &mut draft.drain_timeout),
        default: r#""auto""#,
        example: r#""15s""#,
        doc: "How long requests in flight may take once lameduck is over. \"auto\": what `lameduck` and `kill_margin` leave of `grace_period`.",
        flags: &["--graceful-timeout"],
        seconds: true,
        gunicorn: Some("graceful_timeout"),
        ..UNSAID
    },
    Setting {
        path: "shutdown.kill_margin",
        support: Now(|draft| &mut draft.config.shutdown.kill_margin),
        default: r#""5s""#,
        example: r#""2s""#,
        doc: "Time kept back to force and reap what is left before the SIGKILL.",
        ..UNSAID
    },
    Setting {
        path: "shutdown.probe.period",
        support: Now(|draft| &mut draft.probe.period),
        example: r#""10s""#,
        doc: "What the readiness probe's periodSeconds is set to. With one key of `probe` given, the others are as in Kubernetes: 10s, 3 and 1s.",
        limits: SOME_TIME,
        ..UNSAID
    },
    Setting {
        path: "shutdown.probe.failure_threshold",
        support: Now(|draft| &mut draft.probe.failure_threshold),
        example: "3",
        doc: "What its failureThreshold is set to.",
        limits: Limits::between(1, 1000),
        ..UNSAID
    },
    Setting {
        path: "shutdown.probe.timeout",
        support: Now(|draft| &mut draft.probe.timeout),
        example: r#""2s""#,
        doc: "What its timeoutSeconds is set to.",
        limits: SOME_TIME,
        ..UNSAID
    },
    Setting {
        path: "reload.surge",
        support: Now(|draft| &mut draft.config.reload.surge),
        default: "1",
        example: "2",
        doc: "How many new workers boot at once during a reload.",
        limits: Limits::between(1, MOST_WORKERS),
        ..UNSAID
    },
];
