//! The admin server: the console, health, readiness, policy versions, status and metrics. It is
//! read-only and never on the data plane's socket. It starts before handlers are compiled, so that
//! a liveness probe does not end a host that compiles for minutes.

mod access;
mod console;
mod snapshot;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tensorgate_policy::denial::UNAVAILABLE_RETRY_S;
use tensorgate_sandbox::RunningCompilations;
use tensorgate_settings::admin::{COMPILING, COMPILING_HANDLER, GatewayStatus};
use tensorgate_settings::bounds::Bounds;
use tensorgate_settings::sources::Sources;
use tensorgate_telemetry::exposition::Exposition;
use tensorgate_telemetry::labels::GatewayLabels;
use tensorgate_telemetry::metrics::Metrics;
use tensorgate_watch::blocks::BlocksShown;

use crate::policy_store::policy_versions::Status;
use crate::policy_store::waiting_policy::WaitingStatus;
use crate::server::reader_credential::ReaderCredential;
use crate::service::App;
use access::Access;
pub use console::RenderedPage;

/// The most admin connections: of a scraper, a kubelet, a browser. A further one displaces another.
pub const MAX_CONNECTIONS: usize = 64;
/// Connections that were displaced and are not closed yet.
const CLOSING: usize = 16;
/// The timeout of a connection's first request, and of each head.
const HEAD_TIME: Duration = Duration::from_secs(2);
/// The limits on admin connections.
pub const BOUNDS: Bounds = Bounds {
    connections: MAX_CONNECTIONS.saturating_add(CLOSING),
    streams: 16,
    head_bytes: 16 << 10,
    head_fields: 64,
    head_time: HEAD_TIME,
};

/// The state behind the admin server.
#[derive(Clone)]
pub struct Admin {
    /// Set once the first policy is active and the data plane listens.
    pub app: Arc<OnceLock<Arc<App>>>,
    /// The metrics, available from the start.
    pub metrics: Arc<Metrics>,
    /// Returns the number of lost log lines.
    pub dropped_lines: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// The file that describes the policy's source files.
    pub sources: PathBuf,
    /// The handlers that are being compiled.
    pub compiling: RunningCompilations,
    /// The console's page, which all readers share.
    pub console: RenderedPage,
}

impl Admin {
    /// Reads the current source files' description.
    async fn sources(&self) -> Sources {
        let file = self.sources.clone();
        let read = tokio::task::spawn_blocking(move || Sources::read(&file));
        read.await.unwrap_or_default()
    }

    /// Why the host is not ready before its first policy is active.
    fn compiling(&self) -> Vec<String> {
        let names = self.compiling.names().into_iter();
        let handlers = names.map(|name| format!("{COMPILING_HANDLER}{name}"));
        std::iter::once(COMPILING.to_owned())
            .chain(handlers)
            .collect()
    }

    /// The response before its first policy is active.
    fn not_started(&self) -> Response {
        let text = self.compiling().join("\n");
        (StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n")).into_response()
    }
}

/// The response of `/generations`.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    status: Status,
    /// A policy that would make ready models unready, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_policy: Option<WaitingStatus>,
    #[serde(flatten)]
    sources: Sources,
}

/// The query of `/readyz` that asks only whether the first policy is in force.
const STARTED: &str = "started";

/// The routes of the admin server at an address. Other machines need the credential for most.
pub fn router(admin: Admin, address: SocketAddr, credential: Option<ReaderCredential>) -> Router {
    let access = Arc::new(Access::new(address, credential));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/generations", get(generations))
        .route("/blocks", get(blocks))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .merge(console::routes())
        .with_state(admin)
        .layer(from_fn_with_state(access, check_access))
        .layer(map_response(complete))
}

/// Adds what every response has: nothing keeps it, and no browser takes it for another type. Says
/// when to ask again what is not available yet.
async fn complete(mut response: Response) -> Response {
    let is_unavailable = response.status() == StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    if is_unavailable {
        let wait = HeaderValue::from(UNAVAILABLE_RETRY_S);
        headers.insert(header::RETRY_AFTER, wait);
    }
    response
}

/// Rejects requests of those who may not read it.
async fn check_access(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let Err(status) = access.check(&request) else {
        return next.run(request).await;
    };
    match status {
        StatusCode::MISDIRECTED_REQUEST => {
            let text = "the Host of this request is not a loopback name or address\n";
            (status, text).into_response()
        }
        StatusCode::UNAUTHORIZED => {
            let challenge = "Basic realm=\"tensorgate\", charset=\"UTF-8\"";
            (status, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
        }
        _ => status.into_response(),
    }
}

/// Whether the host accepts requests. Further lines list why not, what else is wrong, and which
/// models are not ready. With `?started`, it only counts whether the first policy is in force: for
/// a probe that must not wait for other containers.
async fn ready(State(admin): State<Admin>, uri: Uri) -> Response {
    if uri.query() == Some(STARTED) && admin.app.get().is_some() {
        return "started\n".into_response();
    }
    let (unready, others) = match admin.app.get() {
        Some(app) => {
            let others = app.warnings().into_iter().chain(app.unready_models());
            (app.unready(), others.collect())
        }
        None => (admin.compiling(), Vec::new()),
    };
    let (status, word) = if unready.is_empty() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    let mut text = format!("{word}\n");
    for line in unready.iter().chain(&others) {
        text.push_str(line);
        text.push('\n');
    }
    (status, text).into_response()
}

/// The active policy, the older ones that are kept, the result of the last bundle, and changed
/// files that are not active yet.
async fn generations(State(admin): State<Admin>) -> Response {
    let Some(app) = admin.app.get() else {
        return admin.not_started();
    };
    let shown = Shown {
        status: app.policy_versions.status(),
        waiting_policy: app.waiting_policy.status(),
        sources: admin.sources().await,
    };
    json(&shown)
}

/// The records about blocked clients, the ended ones too while they are kept.
async fn blocks(State(admin): State<Admin>) -> Response {
    let Some(app) = admin.app.get() else {
        return admin.not_started();
    };
    let shown = BlocksShown {
        blocks: app.blocks.listed(),
    };
    json(&shown)
}

/// What the host did in the last minutes and what is wrong with it now. With `?after=NUMBER`, the
/// changes after that one.
async fn status(State(admin): State<Admin>, uri: Uri) -> Response {
    let Some(app) = admin.app.get() else {
        return admin.not_started();
    };
    let mut fields = uri.query().unwrap_or_default().split('&');
    let after = fields.find_map(|field| field.strip_prefix("after=")?.parse().ok());
    let mut status = app.gate_state.status(after);
    status.learning = app.tap.learning().into_iter().map(str::to_owned).collect();
    json(&status)
}

/// A response in JSON.
fn json(shown: &impl Serialize) -> Response {
    match serde_json::to_string(shown) {
        Ok(text) => (
            [(header::CONTENT_TYPE, "application/json")],
            format!("{text}\n"),
        )
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The metrics, in the format that the scraper names.
async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let metrics = &admin.metrics;
    let buffered = admin.app.get().map_or(0, |app| app.budget.used());
    metrics
        .buffered_bytes
        .set(i64::try_from(buffered).unwrap_or(i64::MAX));
    let handlers = admin.app.get().map(|app| &app.handler_memory);
    let gauge = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
    metrics
        .handler_memory_bytes
        .set(handlers.map_or(0, |account| gauge(account.used_bytes())));
    metrics
        .handler_memory_limit_bytes
        .set(handlers.map_or(0, |account| gauge(account.limit_bytes())));
    metrics
        .log_lines_dropped
        .set(i64::try_from((admin.dropped_lines)()).unwrap_or(i64::MAX));
    if let Some(app) = admin.app.get() {
        count_gateways(&app.policy_versions.gateways(), metrics);
    }
    let sources = admin.sources().await;
    metrics
        .held
        .set(i64::try_from(sources.held.len()).unwrap_or(i64::MAX));
    metrics
        .revocations_held
        .set(i64::from(sources.revocations_held.is_some()));
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|field| field.to_str().ok());
    let format = Exposition::accepted(accept.unwrap_or_default());
    match metrics.text() {
        Ok(text) => (
            [(header::CONTENT_TYPE, format.content_type())],
            format.page(text),
        )
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Sets the gauge of gateways, by whether their policy versions are loaded.
fn count_gateways(gateways: &[GatewayStatus], metrics: &Metrics) {
    for (known, label) in [(true, "true"), (false, "false")] {
        let count = gateways.iter().filter(|gateway| gateway.known == known);
        let count = i64::try_from(count.count()).unwrap_or(i64::MAX);
        let labels = GatewayLabels { known: label };
        metrics.gateways.get_or_create(&labels).set(count);
    }
}
