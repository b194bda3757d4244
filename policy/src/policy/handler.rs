//! Validated sandboxed handlers.

use alloc::collections::BTreeMap;
use alloc::string::String;

use super::{Fetch, Lookup, SignedBy};

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

impl Handler {
    /// The component's file, relative to the policy, or [`BUILTIN`] and a name.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// The file's digest.
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Required signature; `None` if the digest is enough.
    pub const fn signed_by(&self) -> Option<&SignedBy> {
        self.signed_by.as_ref()
    }

    /// Fuel per call.
    pub const fn fuel(&self) -> u64 {
        self.fuel
    }

    /// Linear memory per instance, in bytes.
    pub const fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Timeout of a call including instantiation, in milliseconds.
    pub const fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    /// Values of its `config` import.
    pub const fn config(&self) -> &BTreeMap<String, String> {
        &self.config
    }

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

    /// Lookups that it may request, by name.
    pub const fn lookups(&self) -> &BTreeMap<String, Lookup> {
        &self.lookups
    }

    /// Files that the host fetches for it, if allowed.
    pub const fn fetch(&self) -> Option<&Fetch> {
        self.fetch.as_ref()
    }
}
