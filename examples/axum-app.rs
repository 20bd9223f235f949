//! An axum app as a gracefork worker. Run it: `gracefork target/release/axum-app`, or alone.

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use worker_api::{Health, Worker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let worker = Worker::init()?;
    let app = Router::new()
        .route("/", get(async || "hello"))
        .route("/health", get(health))
        .route("/slow/{seconds}", get(slow))
        .route("/echo", post(async |body: Bytes| body))
        .with_state(worker.health());
    Ok(worker_http::tokio::serve(worker, app).await?)
}

async fn health(State(health): State<Health>) -> impl IntoResponse {
    let answer = health.answer();
    let status = match answer.healthy {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, [(CONTENT_TYPE, "application/json")], answer.body)
}

async fn slow(Path(seconds): Path<f64>) -> Result<&'static str, StatusCode> {
    let pause = Duration::try_from_secs_f64(seconds).map_err(|_| StatusCode::BAD_REQUEST)?;
    tokio::time::sleep(pause).await;
    Ok("slept")
}
