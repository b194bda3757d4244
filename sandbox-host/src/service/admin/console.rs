//! The routes of the console: the page, the parts that its script asks for again, and the files
//! that it needs.
//!
//! All readers share one rendered page, which is made again once it is a second old and someone
//! asks for it. So what the console costs does not depend on its readers, and a slow one holds up
//! no other.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use tensorgate_console::{ICON, SCRIPT, STYLE};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Admin, snapshot};

/// The age from which on a page is rendered again.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Of the time, rendering takes at most one part in this many: a policy may have many models.
const RENDER_SHARE: u32 = 20;
/// Everything on the page is of this server, and no script or style is inline.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";
const HTML: &str = "text/html; charset=utf-8";

/// The page that was rendered last.
#[derive(Clone, Default)]
pub struct RenderedPage(Arc<Mutex<Option<Rendered>>>);

struct Rendered {
    page: Bytes,
    sections: Bytes,
    /// When it is too old.
    until: Instant,
}

/// A part of the page, or all of it.
#[derive(Clone, Copy)]
enum Part {
    Page,
    Sections,
}

pub(super) fn routes() -> Router<Admin> {
    let script = async || response("text/javascript; charset=utf-8", SCRIPT);
    let style = async || response("text/css; charset=utf-8", STYLE);
    Router::new()
        .route("/", get(page))
        .route("/console/sections", get(sections))
        .route("/console/console.js", get(script))
        .route("/console/console.css", get(style))
        .route(
            "/console/icon.svg",
            get(async || response("image/svg+xml", ICON)),
        )
}

async fn page(State(admin): State<Admin>) -> Response {
    rendered(admin, Part::Page).await
}

async fn sections(State(admin): State<Admin>) -> Response {
    rendered(admin, Part::Sections).await
}

/// The page of the present. It is rendered by one reader while others wait for it.
async fn rendered(admin: Admin, part: Part) -> Response {
    let mut last = Arc::clone(&admin.console.0).lock_owned().await;
    let now = Instant::now();
    if let Some(rendered) = last.as_ref().filter(|rendered| now < rendered.until) {
        return rendered.response(part);
    }
    // The lock goes along, so that readers who leave do not begin more than one rendering.
    let rendering = tokio::task::spawn_blocking(move || {
        let snapshot = snapshot::collect(&admin);
        let page = tensorgate_console::page(&snapshot).into();
        let sections = tensorgate_console::sections(&snapshot).into();
        let done = Instant::now();
        let took = done.saturating_duration_since(now);
        let pause = took.saturating_mul(RENDER_SHARE).max(MAX_AGE);
        let rendered = Rendered {
            page,
            sections,
            until: done.checked_add(pause).unwrap_or(done),
        };
        let response = rendered.response(part);
        *last = Some(rendered);
        response
    });
    match rendering.await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(
                cause = error.to_string(),
                "the console could not be rendered"
            );
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl Rendered {
    fn response(&self, part: Part) -> Response {
        let body = match part {
            Part::Page => &self.page,
            Part::Sections => &self.sections,
        };
        response(HTML, body.clone())
    }
}

fn response(content_type: &'static str, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
