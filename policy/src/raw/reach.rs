//! What the host brings for a handler that asks for it.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::ByteSize;

/// Files that the host fetches for a handler, over `https` alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fetch {
    /// Host names; `*.example.com` is every name below `example.com`.
    pub hosts: Vec<String>,
    /// Ports; 443 unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u64>,
    /// Media types of the files, without parameters; `image/jpeg` and `image/png` unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub content_types: Vec<String>,
    /// The largest file.
    pub max_bytes: Option<ByteSize>,
    /// One file, from the question for its host's address to its last byte.
    pub timeout_ms: Option<u64>,
    /// Files that one call of the handler may ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u64>,
    /// Redirects that are followed, each judged as the first URL was; none unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirects: Option<u64>,
    /// Fetches at once, of all of the handler's calls; one client has half of them at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// Networks that may be reached although they are private. Addresses of other private networks are refused, whatever name stands for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_private: Vec<String>,
    /// PEM file of the authorities that vouch for the hosts; the machine's own unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}
