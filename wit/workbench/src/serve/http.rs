//! The HTTP side of the local server: one call of the handler for each POST, at any path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State as Extracted};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use tensorgate_base::local_host;
use tensorgate_base::payload::{Payload, Role};
use tensorgate_cli_common::ui::{Ui, printable_lines};
use tensorgate_sandbox::{HandlerError, HandlerOutput};
use tokio::net::TcpListener;

use super::requests::{self, JSON};
use super::{Live, Shared, State};
use crate::case_log::dropped_text;

/// Largest body of a request, bytes: that of a case.
const MAX_BODY_BYTES: usize = 64 << 20;

/// Header with the length of the JSON before binary outputs.
const JSON_LENGTH: &str = "inference-header-content-length";

/// What each request needs.
#[derive(Clone)]
struct Server {
    ui: Ui,
    shared: Shared,
    requests: Arc<AtomicU64>,
}

/// Answers requests until the process ends.
pub(super) async fn answer_all(
    listener: TcpListener,
    ui: Ui,
    shared: Shared,
) -> std::io::Result<()> {
    let server = Server {
        ui,
        shared,
        requests: Arc::default(),
    };
    let router = Router::new()
        .fallback(answer)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(server)
        .layer(from_fn(check_host));
    axum::serve(listener, router).await
}

/// Rejects requests that name another machine, before their bodies are read: a page in a browser
/// here could otherwise read the answers.
async fn check_host(request: Request, next: Next) -> Response {
    if local_host::is_named(&request) {
        return next.run(request).await;
    }
    let text = "the Host of this request is not a loopback name or address";
    Answer::error(StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

/// A response, and what the terminal shows of it.
struct Answer {
    status: StatusCode,
    body: Vec<u8>,
    json_bytes: Option<usize>,
    /// The error's text, or what the call used.
    story: String,
    /// The log lines of the handler that exceeded its quota.
    log_dropped: u64,
}

impl Answer {
    fn error(status: StatusCode, text: &str) -> Self {
        let document = serde_json::json!({"error": text});
        Self {
            status,
            body: document.to_string().into_bytes(),
            json_bytes: None,
            story: text.to_owned(),
            log_dropped: 0,
        }
    }

    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
        if let Some(bytes) = self.json_bytes {
            headers.insert(JSON_LENGTH, HeaderValue::from(bytes));
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            );
        }
        response
    }
}

async fn answer(
    Extracted(server): Extracted<Server>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let started = Instant::now();
    let number = server.requests.fetch_add(1, Ordering::Relaxed);
    let request_id = format!("serve-{}", number.saturating_add(1));
    let made = if method == Method::POST {
        let content_type = headers.get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        state_answer(&server, &request_id, content_type.unwrap_or_default(), body).await
    } else {
        let text = "POST Open Inference JSON, or a body with its media type, to any path";
        Answer::error(StatusCode::METHOD_NOT_ALLOWED, text)
    };
    let took_ms = started.elapsed().as_secs_f64() * 1e3;
    print(&server.ui, &request_id, &made, took_ms);
    made.into_response()
}

/// The answer to a request in the state of the server.
async fn state_answer(
    server: &Server,
    request_id: &str,
    content_type: &str,
    body: Bytes,
) -> Answer {
    match server.shared.get() {
        State::Live(live) => {
            let answer = call(&live, request_id, content_type, body).await;
            Answer {
                log_dropped: live.handler.take_dropped_log_lines(),
                ..answer
            }
        }
        State::Building => {
            let text = "the first build is running; the terminal says when it is live";
            Answer::error(StatusCode::SERVICE_UNAVAILABLE, text)
        }
        State::Failed(why) => {
            let text = format!("the project does not build:\n{why}");
            Answer::error(StatusCode::SERVICE_UNAVAILABLE, &text)
        }
    }
}

async fn call(live: &Live, request_id: &str, content_type: &str, body: Bytes) -> Answer {
    let input = match requests::input(live.world, content_type, body) {
        Ok(input) => input,
        Err(text) => return Answer::error(StatusCode::BAD_REQUEST, &text),
    };
    let (payload, form) = input.into_parts();
    let outcome = match (live.world.role(), payload) {
        (Role::Postprocess, Payload::Tensors(outputs)) => {
            live.handler.postprocess(request_id, outputs).await
        }
        (_, input) => live.handler.preprocess(request_id, input).await,
    };
    let HandlerOutput {
        tensors, fuel_used, ..
    } = match outcome {
        Ok(output) => output,
        Err(error) => return Answer::error(status(&error), &error.to_string()),
    };
    match requests::response(&live.name, tensors, form) {
        Ok(encoded) => Answer {
            status: StatusCode::OK,
            body: encoded.body,
            json_bytes: encoded.json_bytes,
            story: format!("{fuel_used} fuel"),
            log_dropped: 0,
        },
        Err(text) => Answer::error(StatusCode::INTERNAL_SERVER_ERROR, &text),
    }
}

/// The status that a caller of the gate would get.
const fn status(error: &HandlerError) -> StatusCode {
    match error {
        HandlerError::Rejected { .. } => StatusCode::BAD_REQUEST,
        HandlerError::Fault { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        HandlerError::Overloaded(_) | HandlerError::CircuitOpen(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

fn print(ui: &Ui, request_id: &str, answer: &Answer, took_ms: f64) {
    let status = answer.status.as_u16();
    if ui.json {
        ui.json_line(&serde_json::json!({
            "request_id": request_id,
            "status": status,
            "took_ms": took_ms,
            "story": answer.story,
            "log_dropped": answer.log_dropped,
        }));
        return;
    }
    let style = if answer.status.is_success() {
        "1;32"
    } else {
        "1;31"
    };
    let status = ui.paint(style, &status.to_string());
    let story = printable_lines(&answer.story);
    ui.line(&format!(
        "{request_id}: {status} in {took_ms:.1} ms: {story}"
    ));
    if let Some(text) = dropped_text(answer.log_dropped) {
        ui.line(&format!("{request_id}: {text}"));
    }
}
