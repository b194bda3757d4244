//! Feature lookups: features and keys are checked, the host builds the request, and the response is
//! parsed into numbers.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::json;
use tensorgate_base::egress_log::{EgressRecord, ResolveFailure};
use tensorgate_net::client_tls::client_tls;
use tensorgate_net::exchange::{
    Destination, EgressError, EgressRequest, addresses, body, send, single,
};
use tensorgate_net::pem::TlsError;
use tensorgate_net::permits::EgressPermits;
use tensorgate_net::resolve::Resolve;
use tensorgate_net::tls::Tls;
use tensorgate_policy::policy::Lookup;
use tensorgate_policy::values::{KeyType, LookupKind};
use tensorgate_sandbox::{CallContext, FeatureColumn};
use tensorgate_telemetry::metrics::Metrics;
use tensorgate_wire::json_members;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use super::features::{from_feast, from_object};
use super::metrics::CapabilityMetrics;
use super::pending_record::PendingRecord;

/// The largest token file in bytes.
const MAX_TOKEN_BYTES: u64 = 8 << 10;

/// A client for one feature service, for one handler.
pub(super) struct LookupClient {
    handler: String,
    name: String,
    rule: Lookup,
    tls: Option<Arc<Tls>>,
    token: Option<PathBuf>,
    resolver: Arc<dyn Resolve>,
    counts: CapabilityMetrics,
    pub(super) permits: Arc<EgressPermits>,
}

impl LookupClient {
    pub(super) fn new(
        (handler, name): (&str, &str),
        rule: &Lookup,
        root: &Path,
        resolver: Arc<dyn Resolve>,
        metrics: &Metrics,
    ) -> Result<Self, TlsError> {
        let tls = || client_tls(root, rule.authorities().cloned());
        let tls = rule.tls().then(tls);
        Ok(Self {
            handler: handler.to_owned(),
            name: name.to_owned(),
            rule: rule.clone(),
            tls: tls.transpose()?,
            token: rule.bearer_file().map(|file| root.join(file)),
            resolver,
            counts: CapabilityMetrics::new(metrics, handler, name),
            permits: EgressPermits::new(rule.concurrency()),
        })
    }

    /// Looks up a column of values for each feature, and records the outcome.
    pub(super) async fn look_up(
        &self,
        features: &[String],
        keys: &[String],
        behalf: &CallContext,
        request_deadline: Option<Instant>,
    ) -> Result<Vec<FeatureColumn>, ResolveFailure> {
        let timeout = Duration::from_millis(self.rule.timeout_ms());
        let (host, _) = self.rule.place();
        let reached = EgressRecord {
            handler: self.handler.clone(),
            lookup: self.name.clone(),
            host: host.to_owned(),
            ..EgressRecord::default()
        };
        let mut telling =
            PendingRecord::new(reached, behalf, &self.counts, timeout, request_deadline);
        let ends = telling.deadline();
        let found = self.once((features, keys), &behalf.client, telling.record());
        let found = tokio::time::timeout_at(ends, found)
            .await
            .unwrap_or_else(|_| {
                Err(EgressError::new(
                    ResolveFailure::Timeout,
                    "it did not finish within its deadline",
                ))
            });
        telling.finish(found)
    }

    async fn once(
        &self,
        (features, keys): (&[String], &[String]),
        client: &Arc<str>,
        record: &mut EgressRecord,
    ) -> Result<Vec<FeatureColumn>, EgressError> {
        let unavailable = |error: io::Error| EgressError::new(ResolveFailure::Unavailable, error);
        self.rule
            .takes(features, keys)
            .map_err(|cause| EgressError::new(ResolveFailure::Refused, cause))?;
        let (host, port) = self.rule.place();
        let admits = |address| self.rule.admits(address);
        let addresses = addresses(&*self.resolver, (host, client), admits).await?;
        let (method, path, body_bytes) = self.request(features, keys);
        let mut fields = Vec::new();
        if !body_bytes.is_empty() {
            fields.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        fields.extend(self.credential().await.map_err(unavailable)?);
        let question = EgressRequest {
            destination: Destination {
                addresses: &addresses,
                host,
                port,
                tls: self.tls.as_ref(),
            },
            method,
            path: &path,
            accept: "application/json",
            fields,
            body: body_bytes,
        };
        let mut answer = send(question).await.map_err(unavailable)?;
        record.status = Some(answer.head.status.as_u16());
        match answer.head.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return Err(EgressError::new(
                    ResolveFailure::NotFound,
                    "the service has no such key",
                ));
            }
            other => {
                let cause = format!("the service responded with {other}");
                return Err(EgressError::new(ResolveFailure::Unavailable, cause));
            }
        }
        let declared = single(&answer.head.headers, &CONTENT_TYPE).unwrap_or_default();
        let declared = declared.split(';').next().unwrap_or_default().trim();
        if !declared.eq_ignore_ascii_case("application/json")
            || answer.head.headers.contains_key(CONTENT_ENCODING)
        {
            return Err(EgressError::new(
                ResolveFailure::WrongType,
                "its answer is not plain JSON",
            ));
        }
        let data = body(&mut answer, self.rule.max_bytes(), record).await?;
        let malformed = |cause: String| EgressError::new(ResolveFailure::WrongType, cause);
        let members = json_members(&data).map_err(|denial| malformed(denial.cause))?;
        let read = match self.rule.kind() {
            LookupKind::Feast => from_feast(&members, features, keys.len()),
            LookupKind::Rest => from_object(&members, features),
        };
        read.map_err(malformed)
    }

    /// The request. It has nothing of the guest's own but keys of the policy's type and features of
    /// the policy's list.
    fn request(&self, features: &[String], keys: &[String]) -> (Method, String, Bytes) {
        match self.rule.kind() {
            LookupKind::Rest => {
                let key = keys.first().map(String::as_str).unwrap_or_default();
                (Method::GET, self.rule.path(key), Bytes::new())
            }
            LookupKind::Feast => {
                let keys: Vec<_> = keys
                    .iter()
                    .map(|key| match (self.rule.key(), key.parse::<i64>()) {
                        (KeyType::Int, Ok(number)) => json!(number),
                        _ => json!(key),
                    })
                    .collect();
                let document = json!({
                    "features": features,
                    "entities": {(self.rule.entity()): keys},
                    "full_feature_names": features.iter().any(|name| name.contains(':')),
                });
                (
                    Method::POST,
                    self.rule.path(""),
                    document.to_string().into(),
                )
            }
        }
    }

    /// The host's credential. No guest sees it, and it is never logged.
    async fn credential(&self) -> io::Result<Option<(HeaderName, HeaderValue)>> {
        let Some(file) = &self.token else {
            return Ok(None);
        };
        let mut text = String::new();
        let file = tokio::fs::File::open(file).await?;
        file.take(MAX_TOKEN_BYTES).read_to_string(&mut text).await?;
        let mut value =
            HeaderValue::try_from(format!("Bearer {}", text.trim())).map_err(io::Error::other)?;
        value.set_sensitive(true);
        Ok(Some((AUTHORIZATION, value)))
    }
}
