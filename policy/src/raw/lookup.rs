//! Feature services that the host asks for handlers.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::{BackendTls, ByteSize};

/// A feature service: what may be asked of it, and how it is asked. The host writes the request; a handler chooses keys and features alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Lookup {
    /// What it speaks.
    pub kind: Option<LookupKind>,
    /// `https://host:port`, or `http://host:port`.
    pub endpoint: Option<String>,
    /// Where it is asked. Of `rest`, with `{key}` as a segment of its own; of `feast`, `/get-online-features` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of `feast`, the name of the entity's join key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// What a key is; `string` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyType>,
    /// A key's length; 64 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_key_bytes: Option<u64>,
    /// Keys that one lookup may name; 16 unless given, one of `rest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_keys: Option<u64>,
    /// Features that handlers may ask for.
    pub features: Vec<String>,
    /// Lookups that one call of a handler may ask for; 4 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u64>,
    /// The largest answer; 64 KiB unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<ByteSize>,
    /// One lookup, from the question for the host's address to the answer's last byte; 100 ms unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Lookups at once, of all calls of one handler; one client has half of them at most. 32 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// Networks that may be reached although they are private.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_private: Vec<String>,
    /// TLS to an `https` endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
    /// A file with a token that goes along as `authorization: Bearer`. It is read again for each lookup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_file: Option<String>,
}

/// What a feature service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LookupKind {
    /// Feast's online feature server: `POST` of entities and features.
    Feast,
    /// `GET` of one key's path; the answer is an object of features.
    Rest,
}

/// What a key is, as a service gets it.
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
