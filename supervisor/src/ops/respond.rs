//! Pure: the bytes of a request head in, the bytes of an answer out.
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200 `ok`, or 503 and the phase |
//! | `/readyz` | 200 `ready`, or 503 and why in one line |
//! | `/status` | 200, [`View`] as JSON |
//! | `/metrics` | 200, OpenMetrics text |
//! | any other | 404 |
//!
//! GET and HEAD only (405), heads up to [`MAX_HEAD`] (431), 400 for what is not HTTP/1. A query
//! is ignored, a body is not read, and every answer says `Connection: close`.

use httparse::{EMPTY_HEADER, Request};

use super::metrics::{self, Metrics};
use super::view::{Depth, View};

/// The longest request head that is read, in bytes.
pub(super) const MAX_HEAD: usize = 8 * 1024;

/// More header fields than any probe or scraper sends.
const MAX_FIELDS: usize = 64;

const TEXT: &str = "text/plain; charset=utf-8";

/// An answer, ready to be written.
pub(super) struct Answer {
    /// Status line, header and body.
    pub(super) bytes: Vec<u8>,
    /// Whether it tells a readiness probe that the pod is not ready.
    pub(super) unready: bool,
}

/// Answers the request that `head` begins with, or says that more of it must come (none).
///
/// `ended` says that no more will come; then, or with [`MAX_HEAD`] bytes, there always is an
/// answer. `view` is asked only where the answer needs it.
pub(super) fn respond(
    head: &[u8],
    ended: bool,
    metrics: &Metrics,
    view: &mut dyn FnMut(Depth) -> View,
) -> Option<Answer> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut request = Request::new(&mut fields);
    let refused = match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => None,
        Ok(httparse::Status::Partial) if head.len() >= MAX_HEAD => Some(Status::HeadTooLarge),
        Ok(httparse::Status::Partial) if ended => Some(Status::BadRequest),
        Ok(httparse::Status::Partial) => return None,
        Err(httparse::Error::TooManyHeaders) => Some(Status::HeadTooLarge),
        Err(_) => Some(Status::BadRequest),
    };
    let method = request.method.unwrap_or_default();
    let reply = match refused {
        Some(status) => Reply::refusal(status),
        None => route(
            method,
            path(request.path.unwrap_or_default()),
            metrics,
            view,
        ),
    };
    Some(reply.into_answer(method == "HEAD"))
}

fn route(
    method: &str,
    path: &str,
    metrics: &Metrics,
    view: &mut dyn FnMut(Depth) -> View,
) -> Reply {
    let (page, depth): (fn(&View, &Metrics) -> Reply, Depth) = match path {
        "/livez" => (livez, Depth::Counts),
        "/readyz" => (readyz, Depth::Counts),
        "/status" => (status, Depth::Memory),
        "/metrics" => (scrape, Depth::Counts),
        _ => return Reply::refusal(Status::NotFound),
    };
    match method {
        "GET" | "HEAD" => page(&view(depth), metrics),
        _ => Reply::refusal(Status::MethodNotAllowed),
    }
}

fn livez(view: &View, _: &Metrics) -> Reply {
    if view.live {
        Reply::line(Status::Ok, "ok")
    } else {
        Reply::line(Status::Unavailable, view.phase)
    }
}

fn readyz(view: &View, _: &Metrics) -> Reply {
    if view.ready {
        return Reply::line(Status::Ok, "ready");
    }
    let mut reply = match view.phase {
        "boot" | "ready" => Reply::line(
            Status::Unavailable,
            &format!("{} of {} workers ready", view.ready_workers, view.target),
        ),
        leaving => Reply::line(Status::Unavailable, leaving),
    };
    reply.unready = true;
    reply
}

fn status(view: &View, _: &Metrics) -> Reply {
    match serde_json::to_vec_pretty(view) {
        Ok(mut body) => {
            body.push(b'\n');
            Reply::new(Status::Ok, "application/json", body)
        }
        Err(error) => Reply::line(Status::Broken, &error.to_string()),
    }
}

fn scrape(view: &View, metrics: &Metrics) -> Reply {
    match metrics.text(view) {
        Ok(text) => Reply::new(Status::Ok, metrics::CONTENT_TYPE, text.into_bytes()),
        Err(error) => Reply::line(Status::Broken, &error.to_string()),
    }
}

/// The path of a request target: without the query, and without the scheme and authority that a
/// client may send as if to a proxy.
fn path(target: &str) -> &str {
    let path = if target.starts_with('/') {
        target
    } else {
        let authority = target.split_once("://").map_or("", |(_, rest)| rest);
        authority.find('/').map_or("", |start| &authority[start..])
    };
    path.split_once('?').map_or(path, |(path, _)| path)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    HeadTooLarge,
    Broken,
    Unavailable,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::Broken => "500 Internal Server Error",
            Status::Unavailable => "503 Service Unavailable",
        }
    }
}

struct Reply {
    status: Status,
    content_type: &'static str,
    body: Vec<u8>,
    unready: bool,
}

impl Reply {
    fn new(status: Status, content_type: &'static str, body: Vec<u8>) -> Reply {
        Reply {
            status,
            content_type,
            body,
            unready: false,
        }
    }

    /// A body of one line of text.
    fn line(status: Status, text: &str) -> Reply {
        Reply::new(status, TEXT, format!("{text}\n").into_bytes())
    }

    /// The status line says all.
    fn refusal(status: Status) -> Reply {
        Reply::line(status, status.line())
    }

    fn into_answer(self, head_only: bool) -> Answer {
        let allow = match self.status {
            Status::MethodNotAllowed => "Allow: GET, HEAD\r\n",
            _ => "",
        };
        let mut bytes = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            self.status.line(),
            self.content_type,
            self.body.len(),
        )
        .into_bytes();
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        Answer {
            bytes,
            unready: self.unready,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::SystemTime;

    use super::super::tests::{view, worker};
    use super::*;

    /// The whole answer to `head`, for a pod as `view` shows it.
    fn answer_for(head: &[u8], view: &View) -> Option<String> {
        let metrics = Metrics::new(SystemTime::UNIX_EPOCH, &[]);
        let answer = respond(head, false, &metrics, &mut |_| view.clone())?;
        Some(String::from_utf8(answer.bytes).unwrap())
    }

    fn answer(head: &str) -> String {
        answer_for(head.as_bytes(), &view()).expect("an answer")
    }

    fn body(answer: &str) -> &str {
        answer.split_once("\r\n\r\n").unwrap().1
    }

    fn assert_status(head: &[u8], ended: bool, status: &str) {
        let metrics = Metrics::new(SystemTime::UNIX_EPOCH, &[]);
        let answer = respond(head, ended, &metrics, &mut |_| view()).expect("an answer");
        let text = String::from_utf8(answer.bytes).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(!answer.unready);
    }

    #[test]
    fn livez_is_ok_to_the_byte() {
        assert_eq!(
            answer("GET /livez HTTP/1.1\r\nHost: pod\r\n\r\n"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\nok\n"
        );
    }

    #[test]
    fn livez_is_503_while_workers_are_forced() {
        let mut view = view();
        (view.live, view.phase) = (false, "force");
        let answer = answer_for(b"GET /livez HTTP/1.0\r\n\r\n", &view).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert_eq!(body(&answer), "force\n");
    }

    #[test]
    fn readyz_says_why_it_is_not_ready() {
        let mut view = view();
        let cases = [
            ("ready", true, "200", "ready\n"),
            // `unready_delay` still runs: the phase alone does not decide.
            ("lameduck", true, "200", "ready\n"),
            ("boot", false, "503", "2 of 4 workers ready\n"),
            ("ready", false, "503", "2 of 4 workers ready\n"),
            ("lameduck", false, "503", "lameduck\n"),
            ("drain", false, "503", "drain\n"),
        ];
        for (phase, ready, status, why) in cases {
            (view.phase, view.ready, view.ready_workers) = (phase, ready, 2);
            let metrics = Metrics::new(SystemTime::UNIX_EPOCH, &[]);
            let head = b"GET /readyz HTTP/1.1\r\n\r\n";
            let answer = respond(head, false, &metrics, &mut |_| view.clone()).unwrap();
            let text = String::from_utf8(answer.bytes).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            assert_eq!(body(&text), why);
            assert_eq!(answer.unready, !ready);
        }
    }

    #[test]
    fn status_is_json_with_durations_in_seconds() {
        let answer = answer("GET /status HTTP/1.1\r\n\r\n");
        assert!(answer.contains("\r\nContent-Type: application/json\r\n"));
        let json: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
        assert_eq!(json["phase"], "ready");
        assert_eq!(json["uptime_seconds"], 61.5);
        assert_eq!(json["last_reload"]["outcome"], "rolled_back");
        assert_eq!(json["last_reload"]["age_seconds"], 0.25);
        assert_eq!(json["workers"][1]["slot"], 1);
        assert_eq!(json["workers"][0]["responses"]["2xx"], 117);
        assert_eq!(json["workers"][0]["status"], serde_json::Value::Null);
        assert_eq!(json["workers"][0]["age_seconds"], 4.1);
    }

    #[test]
    fn status_keeps_the_documented_order() {
        let answer = answer("GET /status HTTP/1.1\r\n\r\n");
        let at = |field: &str| answer.find(&format!("\"{field}\": ")).expect(field);
        assert!(at("phase") < at("live") && at("live") < at("ready"));
        assert!(at("uptime_seconds") < at("last_reload") && at("last_reload") < at("workers"));
        assert!(at("slot") < at("pid") && at("pid") < at("rss_bytes"));
    }

    #[test]
    fn status_stays_json_whatever_a_worker_says_of_itself() {
        let mut view = view();
        let said = "\"},\n\u{7}</script>\u{1f986}";
        view.workers = vec![worker(0)];
        view.workers[0].status = Some(said.to_owned());
        let answer = answer_for(b"GET /status HTTP/1.1\r\n\r\n", &view).unwrap();
        let json: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
        assert_eq!(json["workers"][0]["status"], said);
    }

    #[test]
    fn metrics_are_openmetrics() {
        let answer = answer("GET /metrics HTTP/1.1\r\n\r\n");
        assert!(answer.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0;"));
        assert!(body(&answer).ends_with("# EOF\n"));
    }

    /// Names in the first column of a table, `{labels}` and the dot of a field left out.
    fn documented(text: &str) -> BTreeSet<String> {
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        let cells = rows.map(|row| row.split(" | ").next().unwrap_or_default());
        let names = cells.flat_map(|cell| cell.split(['`', ',', ' ']));
        let names = names.map(|name| name.split('{').next().unwrap_or_default());
        let names = names.map(|name| name.trim_start_matches('.').to_owned());
        names.filter(|name| !name.is_empty()).collect()
    }

    fn chapter<'a>(text: &'a str, title: &str) -> &'a str {
        let (_, rest) = text.split_once(&format!("\n## {title}\n")).expect(title);
        rest.split_once("\n## ").map_or(rest, |(own, _)| own)
    }

    fn operations() -> String {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        std::fs::read_to_string(file).unwrap()
    }

    #[test]
    fn the_docs_name_every_field_of_status() {
        fn fields(value: &serde_json::Value, into: &mut BTreeSet<String>) {
            for (name, value) in value.as_object().into_iter().flatten() {
                into.insert(name.clone());
                // What is below these is told in their own rows.
                if !["last_reload", "responses", "hosts"].contains(&name.as_str()) {
                    let inner = value.as_array().and_then(|all| all.first());
                    let is_request = name == "oldest_requests";
                    inner
                        .filter(|_| !is_request)
                        .into_iter()
                        .for_each(|one| fields(one, into));
                }
            }
        }
        let answer = answer("GET /status HTTP/1.1\r\n\r\n");
        let mut told = BTreeSet::new();
        fields(&serde_json::from_str(body(&answer)).unwrap(), &mut told);
        assert_eq!(documented(chapter(&operations(), "`/status`")), told);
    }

    #[test]
    fn the_docs_name_every_metric() {
        let answer = answer("GET /metrics HTTP/1.1\r\n\r\n");
        let types = body(&answer)
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "));
        let told = types.map(|line| match line.split_once(' ') {
            Some((name, "counter")) => format!("{name}_total"),
            Some((name, _)) => name.to_owned(),
            None => panic!("{line}"),
        });
        let told: BTreeSet<String> = told.collect();
        assert_eq!(documented(chapter(&operations(), "`/metrics`")), told);
    }

    #[test]
    fn content_length_is_exact_and_head_has_no_body() {
        for path in ["/livez", "/readyz", "/status", "/metrics", "/nowhere"] {
            let get = answer(&format!("GET {path} HTTP/1.1\r\n\r\n"));
            let head = answer(&format!("HEAD {path} HTTP/1.1\r\n\r\n"));
            let (fields, body) = get.split_once("\r\n\r\n").unwrap();
            assert_eq!(head, format!("{fields}\r\n\r\n"));
            let length = format!("Content-Length: {}", body.len());
            assert!(fields.lines().any(|line| line == length), "{fields}");
        }
    }

    #[test]
    fn a_query_and_an_absolute_target_lead_to_the_path() {
        for target in [
            "/livez?verbose=1&x=/status",
            "http://pod:9090/livez",
            "HTTP://pod/livez?x",
        ] {
            let answer = answer(&format!("GET {target} HTTP/1.1\r\n\r\n"));
            assert_eq!(body(&answer), "ok\n", "{target}");
        }
    }

    #[test]
    fn unknown_paths_are_404() {
        for target in [
            "/",
            "/livez/",
            "/livezz",
            "*",
            "http://pod",
            "x://y?/livez/",
            "/%6civez",
        ] {
            let head = format!("GET {target} HTTP/1.1\r\n\r\n");
            assert_status(head.as_bytes(), false, "404");
        }
    }

    #[test]
    fn other_methods_are_told_what_is_allowed() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "get"] {
            let answer = answer(&format!(
                "{method} /readyz HTTP/1.1\r\nContent-Length: 9\r\n\r\n"
            ));
            assert!(
                answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"),
                "{answer}"
            );
            assert!(answer.contains("\r\nAllow: GET, HEAD\r\n"));
        }
    }

    #[test]
    fn a_head_in_parts_is_awaited_and_one_cut_short_is_400() {
        let head = b"GET /livez HTTP/1.1\r\nHost: pod\r\n\r\n";
        for cut in 1..head.len() {
            assert!(
                answer_for(&head[..cut], &view()).is_none(),
                "answered at {cut}"
            );
            assert_status(&head[..cut], true, "400");
        }
    }

    #[test]
    fn what_is_not_http_is_400_at_once() {
        let hellos: [&[u8]; 5] = [
            b"\x16\x03\x01\x02\x00\x01",
            b"GET /livez HTTP/2.0\r\n",
            b"GET  HTTP/1.1\r\n",
            b"GET /livez HTTP/1.1\r\nno field\r\n",
            b"\0\0\0\0",
        ];
        for hello in hellos {
            assert_status(hello, false, "400");
        }
    }

    #[test]
    fn a_head_of_8_kib_is_answered_and_a_longer_one_is_431() {
        let mut head = b"GET /livez HTTP/1.1\r\nCookie: ".to_vec();
        head.resize(MAX_HEAD - 4, b'x');
        assert!(answer_for(&head, &view()).is_none());
        head.extend_from_slice(b"\r\n\r\n");
        assert_status(&head, false, "200");
        head.truncate(MAX_HEAD - 4);
        head.resize(MAX_HEAD, b'x');
        assert_status(&head, false, "431");
    }

    #[test]
    fn too_many_fields_are_431() {
        let head = format!(
            "GET /livez HTTP/1.1\r\n{}\r\n",
            "a: b\r\n".repeat(MAX_FIELDS + 1)
        );
        assert_status(head.as_bytes(), false, "431");
    }
}
