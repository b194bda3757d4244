//! The compiled form of a policy, which filters load instead of its text.
//!
//! The text is read and validated once, where it is compiled. The compiled form is a header of 16
//! bytes, then the fields of [`Compiled`] in the encoding of postcard. The header names the format:
//! the release, and a digest of the layout of all types. Loading checks the structure only: whether
//! the bytes are complete, indices exist and names are in order. It does not validate the policy
//! again, so the bytes must come from a trusted source, as the text must.
//!
//! The same policy has the same bytes on every machine.

mod configuration;
mod structure;

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::policy::Policy;
use crate::values::fault::Fault;
use crate::values::{HeaderMode, fnv1a};
pub use configuration::{FilterConfiguration, FilterConfigurationFault};

/// The first bytes of each compiled policy.
const MAGIC: [u8; 8] = *b"tgpolicy";

/// A digest of the names, fields and types of everything in a compiled policy. A test fails if it
/// is another one: bytes of one layout must not be loaded as another.
const LAYOUT: u64 = 0x56b4_8e79_b5e3_f31f;

/// The format of compiled policies that this release writes and reads. The same layout may mean
/// something else in another release.
pub const FORMAT: u64 = fnv1a(LAYOUT, env!("CARGO_PKG_VERSION").as_bytes());

/// A policy for a filter, with its version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compiled {
    /// Policy version. Filter and host must agree on it.
    pub generation: String,
    /// How the filter treats headers while it evaluates a body.
    pub headers: HeaderMode,
    /// The filter that the module is, by name; the combined filter if absent.
    pub filter: Option<String>,
    /// Whether a sandbox host is behind the filter.
    pub host: bool,
    /// Warnings of the validation, for the log; not all, if there are many.
    pub warnings: Vec<Fault>,
    /// The part of the policy that filters read.
    pub policy: Policy,
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
    /// They are damaged.
    #[error("is damaged ({0}): render it again")]
    Damaged(&'static str),
}

impl Compiled {
    /// Writes the compiled form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = [MAGIC, FORMAT.to_be_bytes()].concat();
        // Only a sequence of unknown length cannot be written, and no type has one. A header alone
        // would not be loaded.
        bytes.extend(postcard::to_allocvec(self).unwrap_or_default());
        bytes
    }

    /// Loads a compiled policy.
    ///
    /// # Errors
    /// The bytes are of another format or damaged.
    pub fn load(bytes: &[u8]) -> Result<Self, LoadFault> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(LoadFault::NotCompiled)?;
        let (format, rest) = rest
            .split_first_chunk()
            .ok_or(LoadFault::Damaged("it ends too early"))?;
        let found = u64::from_be_bytes(*format);
        if found != FORMAT {
            return Err(LoadFault::Format { found });
        }
        let (compiled, rest) = postcard::take_from_bytes::<Self>(rest).map_err(|fault| {
            LoadFault::Damaged(match fault {
                postcard::Error::DeserializeUnexpectedEnd => "it ends too early",
                _ => "a value is malformed",
            })
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

#[cfg(test)]
mod tests;
