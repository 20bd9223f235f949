//! `[health]`, `[http]` and `[log]`.

use super::Support::Now;
use super::{Limits, SOME_TIME, Setting, UNSAID};

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        path: "health.listen",
        support: Now(|draft| &mut draft.config.health.listen),
        example: r#""127.0.0.1:9090""#,
        doc: "The ops listener, on a port of its own: /livez, /readyz, /metrics, /status. Off when left out.",
        flags: &["--health-listen"],
        ..UNSAID
    },
    Setting {
        path: "health.path",
        support: Now(|draft| &mut draft.config.health.path),
        example: r#""/health""#,
        doc: "Path that native workers answer before the app does. Off when left out.",
        ..UNSAID
    },
    Setting {
        path: "health.unhealthy_status",
        support: Now(|draft| &mut draft.config.health.unhealthy_status),
        default: "503",
        example: "500",
        doc: "Status of an unhealthy answer at `health.path`; the ops listener's is 503.",
        limits: Limits::between(400, 599),
        ..UNSAID
    },
    Setting {
        path: "http.keep_alive",
        support: Now(|draft| &mut draft.config.http.keep_alive),
        default: r#""75s""#,
        example: r#""620s""#,
        doc: "How long a native worker keeps an idle connection: longer than the load balancer's idle time-out.",
        flags: &["--keep-alive"],
        seconds: true,
        gunicorn: Some("keepalive"),
        ..UNSAID
    },
    Setting {
        path: "http.header_timeout",
        support: Now(|draft| &mut draft.config.http.header_timeout),
        default: r#""10s""#,
        example: r#""30s""#,
        doc: "How long the head of a request may take to arrive at a native worker.",
        limits: SOME_TIME,
        ..UNSAID
    },
    Setting {
        path: "http.body_timeout",
        support: Now(|draft| &mut draft.config.http.body_timeout),
        default: r#""60s""#,
        example: r#""5m""#,
        doc: "How long a request's body may stand still while the app waits for it.",
        ..UNSAID
    },
    Setting {
        path: "http.write_timeout",
        support: Now(|draft| &mut draft.config.http.write_timeout),
        default: r#""60s""#,
        example: r#""5m""#,
        doc: "How long a response may wait for room to be written, since its client does not read; the connection is closed then.",
        ..UNSAID
    },
    Setting {
        path: "http.max_connections",
        support: Now(|draft| &mut draft.config.http.max_connections),
        default: "1000",
        example: "10000",
        doc: "A native worker with so many connections accepts no more.",
        limits: Limits::least(1),
        flags: &["--worker-connections"],
        gunicorn: Some("worker_connections"),
        ..UNSAID
    },
    Setting {
        path: "http.limit_request_line",
        support: Now(|draft| &mut draft.config.http.limit_request_line),
        default: "4094",
        example: "8190",
        doc: "Bytes of a request's first line; 0 is as many as can be. Beyond: 414.",
        limits: Limits::between(0, 65_534),
        flags: &["--limit-request-line"],
        ..UNSAID
    },
    Setting {
        path: "http.limit_request_fields",
        support: Now(|draft| &mut draft.config.http.limit_request_fields),
        default: "100",
        example: "200",
        doc: "Fields of a request's head; 0 is as many as can be. Beyond: 431.",
        limits: Limits::between(0, 16_384),
        flags: &["--limit-request-fields"],
        ..UNSAID
    },
    Setting {
        path: "http.limit_request_field_size",
        support: Now(|draft| &mut draft.config.http.limit_request_field_size),
        default: "8190",
        example: "16380",
        doc: "Bytes of one field of the head, with its line end; 0 is the default. Beyond: 431, as for more than 400 KiB of head altogether.",
        flags: &["--limit-request-field_size"],
        ..UNSAID
    },
    Setting {
        path: "http.max_body",
        support: Now(|draft| &mut draft.config.http.max_body),
        default: "0",
        example: r#""10MiB""#,
        doc: "Bytes of a request's body. Beyond: 413.",
        ..UNSAID
    },
    Setting {
        path: "http.forwarded_allow_ips",
        support: Now(|draft| &mut draft.config.http.forwarded_allow_ips),
        default: r#"["127.0.0.1", "::1"]"#,
        example: r#"["10.0.0.0/8"]"#,
        doc: "Proxies whose X-Forwarded-* fields are believed: addresses, networks, or \"*\". Whoever comes by a Unix socket is believed too.",
        flags: &["--forwarded-allow-ips"],
        variable: Some("FORWARDED_ALLOW_IPS"),
        ..UNSAID
    },
    Setting {
        path: "http.proxy_protocol",
        support: Now(|draft| &mut draft.config.http.proxy_protocol),
        default: "false",
        example: "true",
        doc: "Connections may begin with a PROXY header, version 1 or 2, from `proxy_allow_ips` alone.",
        flags: &["--proxy-protocol"],
        ..UNSAID
    },
    Setting {
        path: "http.proxy_allow_ips",
        support: Now(|draft| &mut draft.config.http.proxy_allow_ips),
        default: r#"["127.0.0.1", "::1"]"#,
        example: r#"["10.0.0.0/8"]"#,
        doc: "Balancers whose PROXY headers are believed, where `proxy_protocol` is on; from anybody else such a header gets 403. What they pass on may be a client's own X-Forwarded-* fields: name only those in `forwarded_allow_ips` who write these themselves. Whoever comes by a Unix socket is believed too.",
        flags: &["--proxy-allow-from"],
        ..UNSAID
    },
    Setting {
        path: "log.level",
        support: Now(|draft| &mut draft.config.log.level),
        default: r#""info""#,
        example: r#""debug""#,
        doc: "Events of this severity and above are logged.",
        flags: &["--log-level"],
        gunicorn: Some("loglevel"),
        ..UNSAID
    },
    Setting {
        path: "log.format",
        support: Now(|draft| &mut draft.config.log.format),
        default: r#""auto""#,
        example: r#""json""#,
        doc: "How a line looks; \"auto\" is text on a terminal and JSON otherwise.",
        ..UNSAID
    },
    Setting {
        path: "log.file",
        support: Now(|draft| &mut draft.config.log.file),
        default: r#""-""#,
        example: r#""/var/log/gracefork.log""#,
        doc: "Where lines go: \"-\" is standard error; a file is reopened on SIGUSR1.",
        flags: &["--log-file", "--error-logfile"],
        gunicorn: Some("errorlog"),
        ..UNSAID
    },
    Setting {
        path: "log.access",
        support: Now(|draft| &mut draft.config.log.access),
        default: r#""off""#,
        example: r#""-""#,
        doc: "Where native workers log each request: \"-\" is standard output; a file is reopened on SIGUSR1. A reader that is too slow loses lines, and holds nobody up.",
        flags: &["--access-logfile"],
        gunicorn: Some("accesslog"),
        ..UNSAID
    },
    Setting {
        path: "log.access_format",
        support: Now(|draft| &mut draft.config.log.access_format),
        default: r#"'%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'"#,
        example: r#""json""#,
        doc: "How a logged request looks: \"json\", or a format of gunicorn's atoms. Times are in UTC, paths as the client encoded them.",
        flags: &["--access-logformat"],
        gunicorn: Some("access_log_format"),
        ..UNSAID
    },
];
