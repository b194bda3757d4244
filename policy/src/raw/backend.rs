//! Inference servers, as they are written.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// An inference server, or several that serve the same models.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Backend {
    /// `open-inference` (OIP over gRPC), `tf-serving` and `torchserve` (their own over gRPC), `openai` (its API over HTTP/1.1), `http-json` (JSON of its own over HTTP/1.1, by its models' `json`) or `embedded` (the CPU server that comes along).
    pub kind: Option<BackendKind>,
    /// For all but `embedded`: `http://host:port` or, with `tls`, `https://host:port`; up to 64, all serving the same models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// For `embedded`: the folder of models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<String>,
    /// For `https` endpoints: whom to trust there, and who the gate is to them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
    /// Requests at the backend at once, over all of its endpoints.
    pub max_in_flight: Option<u64>,
    /// Learning how many of those the backend is quickest with; not done unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    /// Requests that wait for a place; more are shed.
    pub queue: Option<u64>,
    /// A dispatch, the wait for a place and every retry included.
    pub timeout_ms: Option<u64>,
    /// Sending a request again that found no server; not done unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How often each endpoint is asked whether it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// When an endpoint that fails is left alone for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// When nothing is sent to any endpoint for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
}

/// TLS to a backend. Files are read again for a new connection once they were replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BackendTls {
    /// PEM certificates of the authorities that may vouch for a server.
    pub ca: Option<String>,
    /// PEM certificate chain that the gate shows; with `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
    /// PEM private key of `cert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The SPIFFE ID that a server's certificate must hold, in place of the endpoint's host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<String>,
    /// `unix:/path` of an agent of SPIFFE's Workload API, in place of `ca`, `cert` and `key`: it says whom to trust and who the gate is, and renews both. With `spiffe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_api: Option<String>,
}

/// Sending a request again, to another endpoint where there is one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Retry {
    /// Times that one request is sent again at most.
    pub attempts: Option<u64>,
    /// Retries to the backend, in percent of the requests to it.
    pub budget_percent: Option<u64>,
}

/// Fewer requests at a backend at once than `max_in_flight`, as long as it gets as much done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AdaptiveConcurrency {
    /// Requests that may be there in any case.
    pub min_in_flight: Option<u64>,
}

/// Asking whether endpoints are ready.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthCheck {
    /// Between two questions to a backend that is ready.
    pub interval_s: Option<u64>,
    /// For `http-json`: the path whose GET answers 200 while the server is ready, such as `/readyz`. Unless given, one that takes connections counts as ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Leaving an endpoint alone that fails in a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OutlierDetection {
    /// Failures in a row that eject an endpoint.
    pub consecutive_failures: Option<u64>,
    /// How long for the first time; twice as long the second time in a row, three times the third, at most 5 minutes.
    pub base_ejection_s: Option<u64>,
    /// Endpoints that may be ejected at once, in percent.
    pub max_ejection_percent: Option<u64>,
}

/// Sending nothing at all to a backend whose endpoints fail in a row, each or all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CircuitBreaker {
    /// Failures with no answer between them, of whichever endpoints, that open it.
    pub consecutive_failures: Option<u64>,
    /// How long for the first time; twice as long each time that the request after it fails too, at most a minute.
    pub open_s: Option<u64>,
}

/// What a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BackendKind {
    /// OIP over gRPC: Triton and its like.
    OpenInference,
    /// TF Serving's own protocol over gRPC.
    TfServing,
    /// TorchServe's own protocol over gRPC.
    #[serde(rename = "torchserve")]
    TorchServe,
    /// OpenAI's API over HTTP/1.1: vLLM and its like.
    #[serde(rename = "openai")]
    OpenAi,
    /// JSON of a server's own over HTTP/1.1: BentoML, Ray Serve and home-made ones.
    HttpJson,
    /// The CPU server that comes along; OIP over gRPC too.
    Embedded,
}
