//! The operator's side: is it alive, is it ready, what has it counted. Reads only; never on the data plane's socket.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::serve::App;
use crate::server::Bounds;

/// Where it listens unless told otherwise.
pub const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9902);
/// What OpenMetrics asks for.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds on the operator's own connections: a scraper, a kubelet, a browser.
pub const BOUNDS: Bounds = Bounds {
    connections: 64,
    streams: 16,
    head_bytes: 16 << 10,
    head_fields: 64,
};

/// The admin's routes.
pub fn router(app: Arc<App>, dropped_lines: Arc<dyn Fn() -> u64 + Send + Sync>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/generations", get(generations))
        .route("/metrics", get(metrics))
        .with_state(Admin { app, dropped_lines })
}

#[derive(Clone)]
struct Admin {
    app: Arc<App>,
    dropped_lines: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// Handlers are loaded before anything listens, so what is left to be ready is the backends and, where nothing is answered without it, the audit log.
async fn ready(State(admin): State<Admin>) -> Response {
    if admin.app.ready() {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        let mut text = "not ready\n".to_owned();
        for line in admin.app.unready() {
            text.push_str(&line);
            text.push('\n');
        }
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

/// Which policy serves, which older ones are held, and what became of the last bundle.
async fn generations(State(admin): State<Admin>) -> Response {
    match serde_json::to_string(&admin.app.generations.status()) {
        Ok(text) => (
            [(header::CONTENT_TYPE, "application/json")],
            format!("{text}\n"),
        )
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let metrics = &admin.app.metrics;
    metrics
        .buffered_bytes
        .set(i64::try_from(admin.app.budget.used()).unwrap_or(i64::MAX));
    metrics
        .log_lines_dropped
        .set(i64::try_from((admin.dropped_lines)()).unwrap_or(i64::MAX));
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
