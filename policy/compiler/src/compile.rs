//! Compiles a version of a policy for its enforcement points.

use std::io;

use sha2::{Digest as _, Sha256};
use tensorgate_policy::policy::filter_part;
use tensorgate_policy::{Compiled, Fault, HostTarget, Policy, Target, hex};

use crate::raw;
use crate::validate::validate;

/// Hex digits of the digest in the name of a version.
const GENERATION_DIGITS: usize = 16;
/// Maximum number of warnings for the log of each process. `check` shows all.
const MAX_WARNINGS: usize = 20;

/// A version of a policy: as written, with included files, and validated.
#[derive(Clone, Debug)]
pub struct Version {
    /// The name of the version: the first 16 hex digits of the digest. Filter and host must agree
    /// on it.
    pub generation: String,
    /// SHA-256 of the policy's canonical JSON.
    pub digest: [u8; 32],
    /// The policy as written.
    pub raw: raw::Policy,
    /// The policy.
    pub policy: Policy,
    /// Warnings of the validation.
    pub warnings: Vec<Fault>,
}

impl Version {
    /// Validates a written policy.
    ///
    /// # Errors
    /// Every fault of the policy, warnings included.
    pub fn new(raw: raw::Policy) -> Result<Self, Vec<Fault>> {
        let (policy, warnings) = validate(&raw)?;
        let digest = canonical_digest(&raw).map_err(|cause| {
            let cause = format!("the policy cannot be written as JSON: {cause}");
            vec![Fault::error("", cause)]
        })?;
        let mut generation = hex(&digest);
        generation.truncate(GENERATION_DIGITS);
        Ok(Self {
            generation,
            digest,
            raw,
            policy,
            warnings,
        })
    }

    /// The same with a name that says more to the reader of a test.
    #[must_use]
    pub fn named(self, generation: &str) -> Self {
        Self {
            generation: generation.to_owned(),
            ..self
        }
    }

    /// Compiles it for a host that takes it over as a whole.
    pub fn for_host(&self) -> Compiled {
        self.compile(Target::Host(HostTarget::default()))
    }

    /// Compiles it for an enforcement point.
    pub fn compile(&self, target: Target) -> Compiled {
        let policy = self.policy.clone();
        Compiled {
            generation: self.generation.clone(),
            digest: self.digest,
            policy: match target {
                Target::Filter(_) => filter_part(policy),
                Target::Host(_) => policy,
            },
            target,
            warnings: self.warnings.iter().take(MAX_WARNINGS).cloned().collect(),
        }
    }
}

/// SHA-256 of a policy's canonical JSON, with every model written in full. The JSON is digested as
/// a stream, because it can be many times as large as the policy.
fn canonical_digest(policy: &raw::Policy) -> serde_json::Result<[u8; 32]> {
    struct Digested(Sha256);
    impl io::Write for Digested {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    // The serializer writes a few bytes at a time.
    let mut to = io::BufWriter::new(Digested(Sha256::new()));
    serde_json::to_writer(&mut to, policy)?;
    let digested = to
        .into_inner()
        .map_err(|error| serde_json::Error::io(error.into_error()))?;
    Ok(digested.0.finalize().into())
}

#[cfg(test)]
mod tests;
