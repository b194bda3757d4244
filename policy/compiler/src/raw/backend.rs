//! Inference servers in the policy document.

use serde::{Deserialize, Serialize};
use tensorgate_policy::values::{BackendKind, ConnectionSharing};

use super::number::{Failures, Milliseconds, Number, Percent, Requests, Retries, Seconds};

/// Maximum requests in flight or queued: each holds a body.
const MAX_REQUESTS: u64 = 65_536;
/// Maximum consecutive failures.
const MAX_FAILURES: u64 = 1_000;

/// An inference server, or several that serve the same models.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Backend {
    /// `open-inference` (OIP over gRPC), `tf-serving` and `torchserve` (their own gRPC), `openai`
    /// (HTTP/1.1), `http-json` (JSON over HTTP/1.1, by its models' `json`) or `embedded` (the
    /// included CPU server).
    pub kind: Option<BackendKind>,
    /// For all but `embedded`: `http://host:port` or, with `tls`, `https://host:port`; up to 64,
    /// all serving the same models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// For `embedded`: the folder of models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<String>,
    /// For `https` endpoints: trusted authorities and the gate's identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
    /// For `openai` and `http-json`, which requests a kept connection carries: `shared` (of all
    /// clients), `per-client` (of one) or `one-request`. HTTP/1.1 does not say which request an
    /// answer belongs to: unless `shared`, no client gets a second answer to another's request.
    #[serde(skip_serializing_if = "ConnectionSharing::is_shared")]
    pub connections: ConnectionSharing,
    /// Maximum requests in flight, over all endpoints. The default keeps one GPU busy.
    pub max_in_flight: Number<1, MAX_REQUESTS, 64, Requests>,
    /// Adaptive concurrency limit; off if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    /// Maximum queued requests, by default twice those in flight; more are rejected.
    pub queue: Number<1, MAX_REQUESTS, 128, Requests>,
    /// Timeout of a dispatch, including queue and retries.
    pub timeout_ms: Number<1, 3_600_000, 2_000, Milliseconds>,
    /// Retries of requests that found no server; off if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Health checks of each endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// Ejection of failing endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// Circuit breaker for all endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
}

/// TLS to a backend. Replaced files are read again for new connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BackendTls {
    /// PEM certificates of the authorities that servers are verified with.
    pub ca: Option<String>,
    /// PEM certificate chain of the gate; with `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
    /// PEM private key of `cert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// SPIFFE ID of the server's certificate, instead of the endpoint's host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<String>,
    /// `unix:/path` of a SPIFFE Workload API agent, instead of `ca`, `cert` and `key`. It provides
    /// and renews trust and identity. With `spiffe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_api: Option<String>,
}

/// Retries, to another endpoint if possible.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Retry {
    /// Maximum retries of one request.
    pub attempts: Number<1, 5, 1, Retries>,
    /// Retry budget in percent of the requests to the backend; the default is Envoy's.
    pub budget_percent: Number<1, 100, 20, Percent>,
}

/// A concurrency limit below `max_in_flight` that keeps the throughput.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AdaptiveConcurrency {
    /// Minimum concurrency limit.
    pub min_in_flight: Option<u64>,
}

/// Health checks of endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthCheck {
    /// Interval for a ready backend. A result is valid for three intervals.
    pub interval_s: Number<1, 300, 5, Seconds>,
    /// For `http-json`: a path whose GET answers 200 while the server is ready, such as `/readyz`.
    /// By default a server that accepts connections is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Ejection of an endpoint after consecutive failures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OutlierDetection {
    /// Consecutive failures that eject an endpoint; the default is Envoy's.
    pub consecutive_failures: Number<1, MAX_FAILURES, 5, Failures>,
    /// Duration of the first ejection; twice as long the second time in a row, three times the
    /// third, at most 5 minutes.
    pub base_ejection_s: Number<1, 3_600, 30, Seconds>,
    /// Maximum percentage of ejected endpoints. With the default, one of two servers can be.
    pub max_ejection_percent: Number<0, 100, 50, Percent>,
}

/// Circuit breaker of a backend after consecutive failures of any endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CircuitBreaker {
    /// Consecutive failures without an answer, of any endpoints, that open the circuit.
    pub consecutive_failures: Number<1, MAX_FAILURES, 10, Failures>,
    /// Duration of the first open state; doubled each time the next probe fails, at most a minute.
    pub open_s: Number<1, 3_600, 1, Seconds>,
}
