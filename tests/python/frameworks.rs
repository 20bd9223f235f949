//! The frameworks' own worlds.

use super::{answers, app_file, hosted, numbers};
use crate::harness::programs::need;
use crate::harness::{Server, Signal};

#[test]
fn flask_streams_takes_bodies_and_answers_for_its_own_errors() {
    for threads in [1, 8] {
        let builder = need!(hosted("flask_app:app", "flask"), "the package, and Flask");
        let server = builder.set("workers.threads", threads).start();
        answers(&server, "/stream", 200, &numbers(1000));
        echoes(&server, 300_000);
        fails(&server);
        let told = server.get("/where").json();
        assert_eq!(told["url"], "http://test/where");
        assert_eq!(told["address"], "127.0.0.1");
        server.shut_down();
    }
}

#[test]
fn logging_to_standard_output_is_seen_at_once() {
    let builder = need!(hosted("flask_app:app", "flask"), "the package, and Flask");
    let server = builder.env("PYTHONUNBUFFERED", "1").start();
    answers(&server, "/log/cinnamon", 200, "cinnamon");
    server.wait_log(&["app says: cinnamon"]);
    server.shut_down();
}

#[test]
fn django_is_served_as_wsgi() {
    let builder = need!(
        hosted("django_app:wsgi", "django"),
        "the package, and Django"
    );
    django(&builder.set("workers.threads", 4).start());
}

#[test]
fn django_is_served_as_asgi() {
    let builder = need!(
        hosted("django_app:asgi", "django"),
        "the package, and Django"
    );
    django(&builder.start());
}

#[test]
fn fastapi_streams_and_has_its_state_in_every_request() {
    let builder = need!(
        hosted("fastapi_app:app", "fastapi"),
        "the package, and FastAPI"
    );
    let server = builder.start();
    answers(&server, "/state", 200, "\"once\"");
    answers(&server, "/stream", 200, &numbers(1000));
    echoes(&server, 300_000);
    server.shut_down();
    assert_eq!(server.log.count(&["the app starts"]), 2);
    assert_eq!(server.log.count(&["the app ends"]), 2);
}

#[test]
fn a_background_task_of_fastapi_is_done_before_its_worker_goes() {
    let builder = need!(
        hosted("fastapi_app:app", "fastapi"),
        "the package, and FastAPI"
    );
    let server = builder.start();
    answers(&server, "/task/pepper", 200, "\"pepper\"");
    server.shut_down();
    server.wait_log(&["the task says pepper"]);
}

#[test]
fn prometheus_counts_over_all_workers_and_forgets_the_dead() {
    let builder = need!(
        hosted("prometheus_app:app", "prometheus_client"),
        "the package, and prometheus_client"
    );
    let folder = tempfile::tempdir().unwrap();
    let server = builder
        .set(
            "python.config",
            app_file("prometheus_config.py").to_str().unwrap(),
        )
        .env("PROMETHEUS_MULTIPROC_DIR", folder.path().to_str().unwrap())
        .start();
    let mut seen = std::collections::BTreeSet::new();
    let mut asked = 0;
    server.wait("an answer of each worker", || {
        asked += 1;
        seen.insert(server.get("/").text());
        (seen.len() == 2).then_some(())
    });
    let metrics = server.get("/metrics").text();
    assert!(
        metrics.contains(&format!("served_total {asked}.0")),
        "{metrics}"
    );
    assert!(metrics.contains("alive 2.0"), "{metrics}");

    let victim = server.watch(server.worker_pids()[0]);
    victim.signal(Signal::KILL);
    server.wait_log(&[&format!("worker {} is marked dead", victim.pid)]);
    let metrics = server.get("/metrics").text();
    assert!(
        metrics.contains(&format!("served_total {asked}.0")),
        "{metrics}"
    );
    assert!(metrics.contains("alive 1.0"), "{metrics}");
    server.shut_down();
}

#[test]
fn a_middleware_of_fastapi_finds_the_bodies_of_files() {
    let builder = hosted("middleware_app:app", "fastapi");
    let server = need!(builder, "the package, and FastAPI").start();
    let answer = server.get("/file");
    let file = std::fs::read(app_file("middleware_app.py")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-read"), Some(&*file.len().to_string()));
    assert!(answer.body == file, "{}", answer.text());
    server.shut_down();
}

fn django(server: &Server) {
    answers(server, "/", 200, "hello");
    answers(server, "/waits", 200, "waited");
    answers(server, "/stream", 200, &numbers(1000));
    echoes(server, 300_000);
    fails(server);
    let mut connection = server.connect();
    connection
        .send(
            b"POST /form HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 8\r\n\
            Content-Type: application/x-www-form-urlencoded\r\n\r\nword=tea",
        )
        .unwrap();
    let told = connection.read_response().unwrap().json();
    assert_eq!(told["word"], "tea");
    assert_eq!(told["url"], "http://shop.test/form");
    server.shut_down();
}

/// A body comes back as it was.
#[track_caller]
fn echoes(server: &Server, length: usize) {
    let body: Vec<u8> = (0..length)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    let answer = server.connect().post("/echo", &body).unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "{} bytes came back", answer.body.len());
}

/// The framework's own page of an error; the connection serves on.
#[track_caller]
fn fails(server: &Server) {
    let mut connection = server.connect();
    assert_eq!(connection.get("/fails").unwrap().status, 500);
    server.wait_log(&["RuntimeError: the app's own"]);
    assert_eq!(connection.get("/").unwrap().text(), "hello");
}
