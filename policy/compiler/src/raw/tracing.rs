//! Traces of requests.

use serde::{Deserialize, Serialize};

/// Traces of requests, sent to a receiver of OTLP. Envoy sends its spans there, and the host those
/// of the request, its handlers and its backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tracing {
    /// `https://host:port`, with a path if the receiver needs one; `/v1/traces` is appended. `http`
    /// only to this machine, or with `insecure`. The system's authorities vouch for `https`.
    pub endpoint: Option<String>,
    /// Permits `http` to other machines, for a network that encrypts by itself.
    pub insecure: bool,
    /// Fraction of requests whose spans are sent, from 0.0001 to 1; 0.01 by default. It is decided
    /// from the request's ID, and never by a client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<f64>,
    /// Clients whose `traceparent` is continued, with its decision to sample. The `traceparent` of
    /// other clients is only a link of the request's span.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trust: Vec<String>,
}
