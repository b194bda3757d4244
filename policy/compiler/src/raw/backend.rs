//! Inference servers in the policy document.

use serde::{Deserialize, Serialize};
use tensorgate_policy::values::BackendKind;

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
    /// Maximum requests in flight, over all endpoints.
    pub max_in_flight: Option<u64>,
    /// Adaptive concurrency limit; off if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    /// Maximum queued requests; more are rejected.
    pub queue: Option<u64>,
    /// Timeout of a dispatch, including queue and retries.
    pub timeout_ms: Option<u64>,
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
    pub attempts: Option<u64>,
    /// Retry budget in percent of the requests to the backend.
    pub budget_percent: Option<u64>,
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
    /// Interval for a ready backend.
    pub interval_s: Option<u64>,
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
    /// Consecutive failures that eject an endpoint.
    pub consecutive_failures: Option<u64>,
    /// Duration of the first ejection; twice as long the second time in a row, three times the
    /// third, at most 5 minutes.
    pub base_ejection_s: Option<u64>,
    /// Maximum percentage of ejected endpoints.
    pub max_ejection_percent: Option<u64>,
}

/// Circuit breaker of a backend after consecutive failures of any endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CircuitBreaker {
    /// Consecutive failures without an answer, of any endpoints, that open the circuit.
    pub consecutive_failures: Option<u64>,
    /// Duration of the first open state; doubled each time the next probe fails, at most a minute.
    pub open_s: Option<u64>,
}
