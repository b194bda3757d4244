//! Files that the host fetches on behalf of a handler.

use serde::{Deserialize, Serialize};

use super::number::{Bytes, Milliseconds, Number, Redirects, Requests};

/// Files that the host fetches for a handler, over `https` only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fetch {
    /// Host names; `*.example.com` allows every subdomain of `example.com`.
    pub hosts: Vec<String>,
    /// Ports; 443 by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u64>,
    /// Media types of files, without parameters; `image/jpeg` and `image/png` by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub content_types: Vec<String>,
    /// Maximum size of a file; it is held in memory and copied into the guest.
    pub max_bytes: Number<1, { 64 << 20 }, { 4 << 20 }, Bytes>,
    /// Timeout of a fetch, including name resolution.
    pub timeout_ms: Number<1, 60_000, 500, Milliseconds>,
    /// Maximum fetches per handler call.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub max_requests: Number<1, 16, 4, Requests>,
    /// Maximum redirects, each checked like the first URL; none by default.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub redirects: Number<0, 4, 0, Redirects>,
    /// Maximum concurrent fetches of the handler; one client gets at most half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// Private networks that are allowed. Addresses of other private networks are rejected for any
    /// name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_private: Vec<String>,
    /// CA file for the hosts, PEM; the system's by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}
