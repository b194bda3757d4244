//! Values that a policy chooses from a list: where limits are counted, kinds of backends and
//! lookups, formats of keys, outcomes of handler calls, and what happens when a service fails.

use serde::{Deserialize, Serialize};

/// Where a limit is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Scope {
    /// In each gateway, and for contents and messages of streams in each host.
    #[default]
    Local,
    /// In the rate-limit service, for all its gateways.
    Global,
}

impl Scope {
    /// Whether it is counted locally.
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::Local)
    }
}

/// Fallback while the rate-limit service fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ServiceFailure {
    /// The same limit, counted in each gateway.
    #[default]
    Local,
    /// Requests under such a limit are rejected: `overloaded`.
    Deny,
}

/// Who may query liveness and readiness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Health {
    /// Everyone.
    Public,
    /// Known clients.
    #[default]
    Clients,
}

/// Format of an API key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum KeyFormat {
    /// `tg_`, 27 base-62 digits and a checksum, as `tensorgate keys new` makes it.
    #[default]
    Tensorgate,
    /// 20 to 512 visible ASCII characters without `"`, `,`, `;` and `\`, not like a JWT.
    Any,
}

impl KeyFormat {
    /// Whether it is tensorgate's own.
    pub const fn is_tensorgate(&self) -> bool {
        matches!(self, Self::Tensorgate)
    }
}

/// Protocol of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BackendKind {
    /// OIP over gRPC, such as Triton.
    OpenInference,
    /// TF Serving's own protocol over gRPC.
    TfServing,
    /// TorchServe's own protocol over gRPC.
    #[serde(rename = "torchserve")]
    TorchServe,
    /// OpenAI's API over HTTP/1.1, such as vLLM.
    #[serde(rename = "openai")]
    OpenAi,
    /// A server's own JSON over HTTP/1.1, such as BentoML and Ray Serve.
    HttpJson,
    /// The included CPU server; OIP over gRPC.
    Embedded,
}

impl BackendKind {
    /// Whether its servers speak HTTP/1.1; all others speak gRPC.
    pub const fn is_http1(self) -> bool {
        match self {
            Self::OpenAi | Self::HttpJson => true,
            Self::OpenInference | Self::TfServing | Self::TorchServe | Self::Embedded => false,
        }
    }
}

/// Which requests share a kept HTTP/1.1 connection to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ConnectionSharing {
    /// Those of all clients, one after another.
    #[default]
    Shared,
    /// Those of one client.
    PerClient,
    /// None: a connection carries one request.
    OneRequest,
}

impl ConnectionSharing {
    /// Whether all clients share connections.
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Shared)
    }
}

/// Protocol of a feature service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LookupKind {
    /// Feast's online feature server: `POST` with entities and features.
    Feast,
    /// `GET` of one key's path; the response is an object of features.
    Rest,
}

/// Type of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum KeyType {
    /// A text of letters, digits and `.`, `_`, `:`, `@`, `-`.
    #[default]
    String,
    /// A whole number of 64 bits.
    Int,
}

/// What happens to a request whose line cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum AuditFailure {
    /// It is rejected.
    #[default]
    Refuse,
    /// It is answered, and the line is counted as dropped.
    Allow,
}

/// Version of OCSF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OcsfVersion {
    /// 1.8.0.
    #[default]
    #[serde(rename = "1.8.0")]
    V1_8,
    /// 1.9.0, which has the profile `record_integrity`.
    #[serde(rename = "1.9.0")]
    V1_9,
}

/// Outcome of a handler's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CallOutcome {
    /// Tensors that satisfy the contract.
    Answered,
    /// The handler rejected the input.
    Rejected,
    /// A limit was exceeded, or the handler trapped, failed or violated its contract.
    Fault,
}

impl core::fmt::Display for CallOutcome {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Answered => "answered",
            Self::Rejected => "rejected",
            Self::Fault => "fault",
        })
    }
}

/// How a filter treats request headers while it evaluates the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeaderMode {
    /// Forwards headers and body at once, except for the end of a body that the filter judges: it
    /// waits for the verdict. Works in every proxy.
    #[default]
    Forward,
    /// Holds headers until the verdict. In Envoy this needs `allow_on_headers_stop_iteration`;
    /// otherwise Envoy delivers no body while headers are held.
    Hold,
}
