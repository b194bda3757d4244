//! The compiled form of a policy, which filters and sandbox hosts load instead of its text.
//!
//! The text is read and validated once, where it is compiled. The compiled form is a header of 24
//! bytes, then the fields of [`Compiled`] in the encoding of postcard. The header names the format,
//! which is the release and a digest of the layout of all types, and has a checksum of the fields.
//! Loading checks the structure only: whether the bytes are complete and unchanged, indices exist
//! and names are in order. It does not validate the policy again, and anyone can compute the
//! checksum, so the bytes must come from a trusted source, as the text must.
//!
//! The same policy has the same bytes on every machine.

mod configuration;
mod structure;

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::fault::Fault;
use tensorgate_values::{FNV_OFFSET, HeaderMode, fnv1a};

use crate::policy::Policy;
pub use configuration::{FilterConfiguration, FilterConfigurationFault};

/// Length of the header, in bytes.
pub const HEADER_BYTES: usize = 24;

/// The first bytes of each compiled policy.
const MAGIC: [u8; 8] = *b"tgpolicy";

/// A digest of the names, fields and types of everything in a compiled policy. A test fails if it
/// is another one: bytes of one layout must not be loaded as another.
const LAYOUT: u64 = 0x7fa2_4c66_757f_eb9d;

/// The format of compiled policies that this release writes and reads. The same layout may mean
/// something else in another release.
pub const FORMAT: u64 = fnv1a(LAYOUT, env!("CARGO_PKG_VERSION").as_bytes());

/// Maximum length of a host's policy, in bytes. The part of it that filters read then fits into a
/// configuration in base64.
pub const MAX_BYTES: usize = FilterConfiguration::MAX_PLAIN_BYTES / 4 * 3;

/// A policy for an enforcement point, with its version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compiled {
    /// Policy version. Filter and host must agree on it.
    pub generation: String,
    /// SHA-256 of the policy's canonical JSON, which distinguishes two policies of one version.
    pub digest: [u8; 32],
    /// What it was compiled for.
    pub target: Target,
    /// Warnings of the validation, for the log; not all, if there are many.
    pub warnings: Vec<Fault>,
    /// The policy. For a filter, only the part that filters read.
    pub policy: Policy,
}

/// The enforcement point that a policy is compiled for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A filter in a proxy.
    Filter(FilterTarget),
    /// A sandbox host.
    Host(HostTarget),
}

/// What a filter has to know besides the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterTarget {
    /// The filter that the module is, by name; the combined filter if absent.
    pub name: Option<String>,
    /// How the filter treats headers while it evaluates a body.
    pub headers: HeaderMode,
    /// Whether a sandbox host is behind the filter. Without one the filter signs no context, and
    /// nothing judges or charges a request after it.
    pub host: bool,
    /// Id of the policy among those of one proxy. What the filter keeps in the proxy's shared data
    /// is kept under it: the next version of the policy continues it, another policy has its own.
    pub policy_id: String,
}

impl Default for FilterTarget {
    /// The combined filter in front of a host, in any proxy.
    fn default() -> Self {
        Self {
            name: None,
            headers: HeaderMode::default(),
            host: true,
            policy_id: String::new(),
        }
    }
}

/// How a sandbox host takes over a policy from the one in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostTarget {
    /// The version that this policy only restricts. The host then reuses everything it has loaded
    /// for that version, so an unreadable file cannot delay a revocation.
    pub tightens: Option<String>,
    /// If present, the host holds this policy back while it would make a ready model unready. The
    /// models of this list do not count, because their contracts only tighten.
    pub hold: Option<Vec<String>>,
}

impl Target {
    /// The filter that it is for.
    ///
    /// # Errors
    /// It is for a host.
    pub fn filter(self) -> Result<FilterTarget, LoadFault> {
        match self {
            Self::Filter(target) => Ok(target),
            Self::Host(_) => Err(LoadFault::ForHost),
        }
    }

    /// The host that it is for.
    ///
    /// # Errors
    /// It is for a filter.
    pub fn host(self) -> Result<HostTarget, LoadFault> {
        match self {
            Self::Host(target) => Ok(target),
            Self::Filter(_) => Err(LoadFault::ForFilter),
        }
    }
}

/// Why bytes are not loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadFault {
    /// They do not begin like a compiled policy.
    #[error("is not a compiled policy")]
    NotCompiled,
    /// They are a compiled policy in the format of another release.
    #[error(
        "was compiled by another release (format {found:016x}, this release reads {FORMAT:016x}): render it with the release of this program"
    )]
    Format {
        /// Its format.
        found: u64,
    },
    /// They are for a sandbox host, and a filter loads them.
    #[error(
        "was compiled for a sandbox host, not for a filter: a filter gets its own from `render`"
    )]
    ForHost,
    /// They are for a filter, and a sandbox host loads them.
    #[error(
        "was compiled for a filter, not for a sandbox host: a host gets bundle.bin from `render`"
    )]
    ForFilter,
    /// They are damaged.
    #[error("is damaged ({0}): render it again")]
    Damaged(&'static str),
}

impl Compiled {
    /// Writes the compiled form.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Only a sequence of unknown length cannot be written, and no type has one. A header alone
        // would not be loaded.
        with_header(&postcard::to_allocvec(self).unwrap_or_default())
    }

    /// Loads a compiled policy.
    ///
    /// It is compiled with the settings of the crate that calls it, because filters need it small.
    ///
    /// # Errors
    /// The bytes are of another format or damaged.
    #[inline]
    pub fn load(bytes: &[u8]) -> Result<Self, LoadFault> {
        const SHORT: LoadFault = LoadFault::Damaged("it ends too early");
        let rest = bytes.strip_prefix(&MAGIC).ok_or(LoadFault::NotCompiled)?;
        let (format, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let found = u64::from_be_bytes(*format);
        if found != FORMAT {
            return Err(LoadFault::Format { found });
        }
        let (checksum, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        if u64::from_be_bytes(*checksum) != fnv1a(FNV_OFFSET, rest) {
            return Err(LoadFault::Damaged("bytes are missing or changed"));
        }
        let (compiled, rest) = postcard::take_from_bytes::<Self>(rest).map_err(|fault| {
            if fault == postcard::Error::DeserializeUnexpectedEnd {
                return SHORT;
            }
            LoadFault::Damaged("a value is malformed")
        })?;
        if !rest.is_empty() {
            return Err(LoadFault::Damaged("bytes follow its end"));
        }
        structure::check(&compiled.policy).map_err(LoadFault::Damaged)?;
        Ok(Self {
            policy: compiled.policy.with_summaries(),
            ..compiled
        })
    }
}

/// Whether bytes begin like a compiled policy.
pub fn is_compiled(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Puts the header in front of the encoded fields.
pub fn with_header(fields: &[u8]) -> Vec<u8> {
    let checksum = fnv1a(FNV_OFFSET, fields);
    [
        &MAGIC[..],
        &FORMAT.to_be_bytes(),
        &checksum.to_be_bytes(),
        fields,
    ]
    .concat()
}

#[cfg(test)]
mod tests;
