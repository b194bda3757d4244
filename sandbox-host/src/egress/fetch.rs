//! File fetches: the URL is checked, its name resolved and every address checked. Then the response
//! is read up to its size limit. A redirect is another URL and is checked from the start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use tensorgate_base::egress_log::{EgressRecord, ResolveFailure};
use tensorgate_net::client_tls::client_tls;
use tensorgate_net::exchange::{
    Destination, EgressError, EgressRequest, addresses, body, send, single,
};
use tensorgate_net::pem::TlsError;
use tensorgate_net::permits::EgressPermits;
use tensorgate_net::resolve::Resolve;
use tensorgate_net::tls::Tls;
use tensorgate_policy::policy::{BackendTls, Fetch, Target};
use tensorgate_sandbox::{CallContext, FetchedFile};
use tensorgate_telemetry::metrics::Metrics;
use tokio::time::{Instant, timeout_at};

use super::metrics::CapabilityMetrics;
use super::pending_record::PendingRecord;

/// Fetches files for one handler.
pub(super) struct Fetcher {
    handler: String,
    rule: Fetch,
    accept: String,
    tls: Arc<Tls>,
    resolver: Arc<dyn Resolve>,
    counts: CapabilityMetrics,
    pub(super) permits: Arc<EgressPermits>,
}

/// The meaning of a response's head.
enum Head {
    /// The body is the file.
    File { content_type: String },
    /// A redirect.
    Elsewhere(String),
}

impl Fetcher {
    pub(super) fn new(
        handler: &str,
        rule: &Fetch,
        root: &Path,
        resolver: Arc<dyn Resolve>,
        metrics: &Metrics,
    ) -> Result<Self, TlsError> {
        let tls = client_tls(root, rule.ca().map(BackendTls::of_authorities))?;
        Ok(Self {
            handler: handler.to_owned(),
            rule: rule.clone(),
            accept: rule.content_types().join(", "),
            tls,
            resolver,
            counts: CapabilityMetrics::new(metrics, handler, ""),
            permits: EgressPermits::new(rule.concurrency()),
        })
    }

    /// Fetches a file and records the outcome, also if the caller leaves.
    pub(super) async fn fetch(
        &self,
        url: &str,
        behalf: &CallContext,
        request_deadline: Option<Instant>,
    ) -> Result<FetchedFile, ResolveFailure> {
        let timeout = Duration::from_millis(self.rule.timeout_ms());
        let target = self.rule.target(url);
        let reached = EgressRecord {
            handler: self.handler.clone(),
            host: target
                .map(|target| target.host.to_owned())
                .unwrap_or_default(),
            ..EgressRecord::default()
        };
        let mut telling =
            PendingRecord::new(reached, behalf, &self.counts, timeout, request_deadline);
        let ends = telling.deadline();
        let file = timeout_at(ends, self.follow(url, &behalf.client, telling.record()))
            .await
            .unwrap_or_else(|_| {
                Err(EgressError::new(
                    ResolveFailure::Timeout,
                    "it did not finish within its deadline",
                ))
            });
        telling.finish(file)
    }

    async fn follow(
        &self,
        url: &str,
        client: &Arc<str>,
        record: &mut EgressRecord,
    ) -> Result<FetchedFile, EgressError> {
        let mut url = url.to_owned();
        for left in (0..=self.rule.redirects()).rev() {
            match self.once(&url, client, record).await? {
                Ok(file) => return Ok(file),
                Err(elsewhere) if left > 0 => {
                    record.redirects = record.redirects.saturating_add(1);
                    url = elsewhere;
                }
                Err(_) => {}
            }
        }
        Err(EgressError::new(
            ResolveFailure::Refused,
            "too many redirects",
        ))
    }

    /// Sends one request. Returns the file or the redirect's URL.
    async fn once(
        &self,
        url: &str,
        client: &Arc<str>,
        record: &mut EgressRecord,
    ) -> Result<Result<FetchedFile, String>, EgressError> {
        let refused = |cause: &str| EgressError::new(ResolveFailure::Refused, cause);
        let target = self.rule.target(url).map_err(refused)?;
        target.host.clone_into(&mut record.host);
        let admits = |address| self.rule.admits(address);
        let addresses = addresses(&*self.resolver, (target.host, client), admits).await?;
        let question = EgressRequest {
            destination: Destination {
                addresses: &addresses,
                host: target.host,
                port: target.port,
                tls: Some(&self.tls),
            },
            method: Method::GET,
            path: &target.path,
            accept: &self.accept,
            fields: Vec::new(),
            body: Bytes::new(),
        };
        let asked = send(question).await;
        let mut answer =
            asked.map_err(|error| EgressError::new(ResolveFailure::Unavailable, error))?;
        record.status = Some(answer.head.status.as_u16());
        match self.head(answer.head.status, &answer.head.headers, &target)? {
            Head::Elsewhere(url) => Ok(Err(url)),
            Head::File { content_type } => {
                let data = body(&mut answer, self.rule.max_bytes(), record).await?;
                Ok(Ok(FetchedFile { content_type, data }))
            }
        }
    }

    fn head(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        target: &Target<'_>,
    ) -> Result<Head, EgressError> {
        match status.as_u16() {
            200 => {}
            301 | 302 | 303 | 307 | 308 => {
                let location = single(headers, &LOCATION).unwrap_or_default();
                return elsewhere(location, target)
                    .map(Head::Elsewhere)
                    .ok_or_else(|| {
                        EgressError::new(ResolveFailure::Refused, "an invalid redirect")
                    });
            }
            400..=499 => {
                let cause = format!("the server responded with {status}");
                return Err(EgressError::new(ResolveFailure::NotFound, cause));
            }
            _ => {
                let cause = format!("the server responded with {status}");
                return Err(EgressError::new(ResolveFailure::Unavailable, cause));
            }
        }
        let wrong = |cause: &str| EgressError::new(ResolveFailure::WrongType, cause);
        // Compressed content would have to be decompressed.
        let plain = |encoding: &str| encoding.eq_ignore_ascii_case("identity");
        if headers.contains_key(CONTENT_ENCODING)
            && !single(headers, &CONTENT_ENCODING).is_some_and(plain)
        {
            return Err(wrong("it has a content encoding"));
        }
        let declared = single(headers, &CONTENT_TYPE).unwrap_or_default();
        let declared = declared.split(';').next().unwrap_or_default().trim();
        let content_type = (self.rule.content_types().iter())
            .find(|known| known.eq_ignore_ascii_case(declared))
            .ok_or_else(|| wrong("its content type is not allowed"))?;
        Ok(Head::File {
            content_type: content_type.clone(),
        })
    }
}

/// The URL of a redirect: an absolute one, or a path at the same host. Other forms are ambiguous.
fn elsewhere(location: &str, from: &Target<'_>) -> Option<String> {
    if location.starts_with("https://") {
        return Some(location.to_owned());
    }
    let path = location.starts_with('/') && !location.starts_with("//");
    let Target { host, port, .. } = from;
    path.then(|| format!("https://{host}:{port}{location}"))
}
