//! Validated sandboxed handlers and their signatures.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize};
use tensorgate_values::getters;

use super::{Fetch, Lookup};

/// Prefix of a component that is installed with the host instead of a file beside the policy.
pub const BUILTIN: &str = "builtin:";

/// A sandboxed handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handler {
    pub component: String,
    pub sha256: [u8; 32],
    pub signed_by: Option<SignedBy>,
    pub fuel: u64,
    pub memory_bytes: usize,
    pub timeout_ms: u64,
    pub config: BTreeMap<String, String>,
    pub fetch: Option<Fetch>,
    pub lookups: BTreeMap<String, Lookup>,
    pub parameters: BTreeSet<String>,
    pub has_public_errors: bool,
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
    /// Parameters of requests that its `context` shows.
    parameters: &BTreeSet<String>,
    /// Whether callers get its own text when it rejects an input.
    has_public_errors: bool,
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

/// Maximum length of a component's name.
const MAX_NAME_BYTES: usize = 128;
/// Maximum length of its version.
const MAX_VERSION_BYTES: usize = 64;

/// Keys of which one must have signed the component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedBy {
    pub keys: BTreeMap<String, [u8; 32]>,
    pub signed_as: Option<SignedAs>,
}

impl SignedBy {
    /// Ed25519 public keys by their names, at least one.
    pub const fn keys(&self) -> &BTreeMap<String, [u8; 32]> {
        &self.keys
    }

    /// Required name and version in the signature; any if absent.
    pub const fn signed_as(&self) -> Option<&SignedAs> {
        self.signed_as.as_ref()
    }
}

/// Name and version of a component in its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedAs {
    name: String,
    version: String,
}

impl SignedAs {
    /// Parses `name@version`. A name has letters, digits and `. _ - /`, at most 128 bytes, and no
    /// part is empty or begins with a dot. A version has letters, digits and `. _ -`, at most 64
    /// bytes, and begins with a letter or digit.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, version) = text.split_once('@')?;
        let of = |text: &str, marks: &[u8]| {
            (text.bytes()).all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
        };
        let parts = |part: &str| !part.is_empty() && !part.starts_with('.');
        let named = name.len() <= MAX_NAME_BYTES && of(name, b"._-/") && name.split('/').all(parts);
        let versioned = version.len() <= MAX_VERSION_BYTES
            && of(version, b"._-")
            && version.starts_with(|first: char| first.is_ascii_alphanumeric());
        (named && versioned).then(|| Self {
            name: name.into(),
            version: version.into(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl fmt::Display for SignedAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}
