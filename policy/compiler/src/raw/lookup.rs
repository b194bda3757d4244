//! Feature services that the host queries for handlers.

use serde::{Deserialize, Serialize};
use tensorgate_policy::values::{KeyType, LookupKind};

use super::BackendTls;
use super::number::{Bytes, KeyBytes, Milliseconds, Number, Requests};

/// A feature service and its allowed queries. The host writes the request; a handler only chooses
/// keys and features.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Lookup {
    /// Protocol of the service.
    pub kind: Option<LookupKind>,
    /// `https://host:port`, or `http://host:port`.
    pub endpoint: Option<String>,
    /// Path of the service. For `rest`, with `{key}` as a segment; for `feast`,
    /// `/get-online-features` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// For `feast`: name of the entity's join key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Type of a key; `string` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyType>,
    /// Maximum length of a key.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub max_key_bytes: Number<1, 256, 64, KeyBytes>,
    /// Maximum keys per lookup; 16 by default, one for `rest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_keys: Option<u64>,
    /// Features that handlers may query.
    pub features: Vec<String>,
    /// Maximum lookups per handler call.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub max_requests: Number<1, 16, 4, Requests>,
    /// Maximum size of a response.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub max_bytes: Number<1, { 4 << 20 }, { 64 << 10 }, Bytes>,
    /// Timeout of a lookup, including name resolution.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub timeout_ms: Number<1, 60_000, 100, Milliseconds>,
    /// Maximum concurrent lookups of one handler; one client gets at most half. 32 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// Private networks that are allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_private: Vec<String>,
    /// TLS to an `https` endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
    /// File of a bearer token for `authorization`. It is read again for each lookup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_file: Option<String>,
}
