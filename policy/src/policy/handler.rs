//! Validated sandboxed handlers.

use alloc::collections::BTreeMap;
use alloc::string::String;

use super::{Fetch, Lookup, SignedBy};
use crate::values::getters;

/// Prefix of a component that is installed with the host instead of a file beside the policy.
pub const BUILTIN: &str = "builtin:";

/// A sandboxed handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    pub(crate) component: String,
    pub(crate) sha256: [u8; 32],
    pub(crate) signed_by: Option<SignedBy>,
    pub(crate) fuel: u64,
    pub(crate) memory_bytes: usize,
    pub(crate) timeout_ms: u64,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) fetch: Option<Fetch>,
    pub(crate) lookups: BTreeMap<String, Lookup>,
}

getters! { Handler {
    /// The component's file, relative to the policy, or [`BUILTIN`] and a name.
    component: &str,
    /// The file's digest.
    sha256: &[u8; 32],
    /// Required signature; `None` if the digest is enough.
    signed_by: Option<&SignedBy>,
    /// Fuel per call.
    fuel: u64,
    /// Linear memory per instance, in bytes.
    memory_bytes: usize,
    /// Timeout of a call including instantiation, in milliseconds.
    timeout_ms: u64,
    /// Values of its `config` import.
    config: &BTreeMap<String, String>,
    /// Lookups that it may request, by name.
    lookups: &BTreeMap<String, Lookup>,
    /// Files that the host fetches for it, if allowed.
    fetch: Option<&Fetch>,
} }

impl Handler {
    /// Maximum size of the resources that are fetched for one call, in bytes.
    pub fn max_resolved_bytes(&self) -> usize {
        let fetched = self
            .fetch
            .iter()
            .map(|rule| (rule.max_bytes(), rule.max_requests()));
        let looked_up = (self.lookups.values()).map(|rule| (rule.max_bytes(), rule.max_requests()));
        fetched
            .chain(looked_up)
            .fold(0, |all: usize, (bytes, requests)| {
                all.saturating_add(bytes.saturating_mul(requests))
            })
    }
}
