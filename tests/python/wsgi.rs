//! PEP 3333, watched by `wsgiref.validate`.

use super::{answers, app_file, hosted, numbers};
use crate::harness::Server;
use crate::harness::programs::need;

#[test]
fn every_shape_of_a_wsgi_app_passes_the_validator() {
    let builder = need!(hosted("validated:app", "sys"), "the package");
    let server = builder.set("workers.threads", 2).start();
    answers(&server, "/plain", 200, "hello");
    answers(&server, "/stream", 200, &numbers(100));
    server.wait_log(&["the parts are closed"]);
    answers(&server, "/writes", 200, "written, returned");
    let own = std::fs::read_to_string(app_file("validated.py")).unwrap();
    answers(&server, "/file", 200, &own);
    answers(&server, "/memory", 200, &"m".repeat(100_000));
    let mut connection = server.connect();
    let body = b"one\ntwo\nthree\n".repeat(1000);
    assert_eq!(connection.post("/echo", &body).unwrap().body, body);
    assert_eq!(connection.post("/lines", &body).unwrap().text(), "3000");
    assert_eq!(connection.post("/echo", b"").unwrap().body, b"");
    no_content(&server);
    assert_eq!(
        server.log.count(&["AssertionError"]),
        0,
        "{}",
        server.log.text()
    );
    server.shut_down();
}

#[test]
fn an_exception_before_the_head_is_a_500_and_after_it_the_end_of_the_connection() {
    let builder = need!(hosted("validated:app", "sys"), "the package");
    let server = builder.start();
    assert_eq!(server.get("/before").status, 500);
    server.wait_log(&["RuntimeError: before the head"]);
    let mut connection = server.connect();
    let cut = connection.get("/after");
    assert!(cut.is_err(), "{cut:?}");
    server.wait_log(&["RuntimeError: after the head"]);
    answers(&server, "/instead", 503, "instead");
    answers(&server, "/plain", 200, "hello");
    server.shut_down();
}

#[test]
fn a_hook_of_the_worker_knows_how_many_requests_it_has_served() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gunicorn_config.py");
    let hook = "def worker_exit(server, worker):\n    print('served', worker.nr, flush=True)\n";
    std::fs::write(&config, hook).unwrap();
    let builder = need!(hosted("validated:app", "sys"), "the package");
    let config = config.to_str().unwrap();
    let server = builder.workers(1).set("python.config", config).start();
    for _ in 0..3 {
        answers(&server, "/plain", 200, "hello");
    }
    server.shut_down();
    server.wait_log(&["served 3"]);
}

/// A 204 has no body, and no length of one; the connection goes on behind it.
fn no_content(server: &Server) {
    let mut connection = server.connect();
    connection
        .send(b"GET /empty HTTP/1.1\r\nHost: test\r\n\r\nGET /plain HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        .unwrap();
    let all = String::from_utf8(connection.wait_closed().unwrap()).unwrap();
    let (head, rest) = all.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 204"), "{all}");
    assert!(!head.to_lowercase().contains("content-length"), "{all}");
    assert!(
        rest.starts_with("HTTP/1.1 200") && rest.ends_with("hello"),
        "{all}"
    );
}
