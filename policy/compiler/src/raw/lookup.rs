//! Feature services that the host queries for handlers.

use serde::{Deserialize, Serialize};
use tensorgate_policy::values::{KeyType, LookupKind};

use super::{BackendTls, ByteSize};

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
    /// Maximum length of a key; 64 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_key_bytes: Option<u64>,
    /// Maximum keys per lookup; 16 by default, one for `rest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_keys: Option<u64>,
    /// Features that handlers may query.
    pub features: Vec<String>,
    /// Maximum lookups per handler call; 4 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u64>,
    /// Maximum size of a response; 64 KiB by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<ByteSize>,
    /// Timeout of a lookup, including name resolution; 100 ms by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
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
