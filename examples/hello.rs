//! A plain function as a gracefork worker. Run it: `gracefork target/release/hello`, or alone.
use std::time::{Duration, Instant};
use worker_http::{Body, Request, Response, http::StatusCode};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let worker = worker_api::Worker::init()?;
    let health = worker.health();
    let answer = move |request: Request| {
        let (head, body) = request.into_parts();
        let path = head.uri.path().trim_start_matches('/');
        let (route, time) = path.split_once('/').unwrap_or((path, ""));
        let (status, body) = match (head.method.as_str(), route) {
            ("GET", "") => (StatusCode::OK, "hello".into()),
            ("POST", "echo") => (StatusCode::OK, Body::reader(body)),
            ("GET", "health") => match health.answer() {
                answer if answer.healthy => (StatusCode::OK, answer.body.into()),
                answer => (StatusCode::SERVICE_UNAVAILABLE, answer.body.into()),
            },
            ("GET", "slow") => pass(time, std::thread::sleep),
            ("GET", "spin") => pass(time, |time| {
                let start = Instant::now();
                while start.elapsed() < time {}
            }),
            _ => (StatusCode::NOT_FOUND, Body::empty()),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response
    };
    Ok(worker_http::serve(worker, answer)?)
}

fn pass(seconds: &str, how: fn(Duration)) -> (StatusCode, Body) {
    let Ok(Ok(time)) = seconds.parse().map(Duration::try_from_secs_f64) else {
        return (StatusCode::BAD_REQUEST, "how many seconds?".into());
    };
    how(time);
    (StatusCode::OK, "done".into())
}
