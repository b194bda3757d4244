//! What `render` hands to every enforcement point: one policy and the generation that names it.

use alloc::string::String;
use serde::{Deserialize, Serialize};

use crate::raw;

/// A policy as it travels to a filter's configuration and to the sandbox host; JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Names this policy: the first 16 hex digits of the SHA-256 of `policy`'s canonical JSON. Gate and host
    /// must agree on it.
    pub generation: String,
    /// The policy, includes merged and key files inlined.
    pub policy: raw::Policy,
}

impl Bundle {
    /// The largest that a filter takes as its configuration, bytes of JSON: it bounds one copy in each VM. A hundred thousand clients are 12 MiB.
    pub const MAX_BYTES: usize = 16 << 20;
}
