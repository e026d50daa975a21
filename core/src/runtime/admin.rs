//! The admin listener: health for the kubelet, metrics for Prometheus. It is never the listener that
//! users reach.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;

/// What the admin listener asks the program.
pub trait Health: Send + Sync + 'static {
    /// Nothing if others may be started that need the program, else one line that says what is missing.
    ///
    /// # Errors
    /// The line.
    fn started(&self) -> Result<(), String> {
        Ok(())
    }

    /// Nothing if the program can serve, else one line that says what is missing.
    ///
    /// # Errors
    /// The line.
    fn ready(&self) -> Result<(), String>;
}

/// The routes `/livez`, `/startupz`, `/readyz` and `/metrics`.
pub fn router<H: Health>(health: Arc<H>, registry: Registry) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/startupz", get(startupz::<H>))
        .route("/readyz", get(readyz::<H>))
        .with_state(health)
        .merge(
            Router::new()
                .route("/metrics", get(metrics))
                .with_state(Arc::new(registry)),
        )
}

async fn startupz<H: Health>(State(health): State<Arc<H>>) -> (StatusCode, String) {
    told(health.started())
}

async fn readyz<H: Health>(State(health): State<Arc<H>>) -> (StatusCode, String) {
    told(health.ready())
}

fn told(state: Result<(), String>) -> (StatusCode, String) {
    match state {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")),
    }
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_format) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
