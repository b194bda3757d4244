//! Verifies component signatures, before a component is parsed, and again at each reload.
//!
//! A signature covers the digest that the policy names, and the sandbox only accepts a component
//! with that digest. So the verified component is the compiled one, even if files change in
//! between.

use std::collections::{BTreeMap, BTreeSet};

use tensorgate_base::payload::Role;
use tensorgate_policy::Policy;
use tensorgate_policy::policy::Handler;
use tensorgate_signature::SignatureFault;

use crate::bundle::BundleError;
use crate::component::{self, Signed};
use crate::folders::{self, Folders};

/// A component without a signature that its policy requires.
#[derive(Debug, thiserror::Error)]
#[error("handler {handler}: {cause}")]
pub struct UnsignedFault {
    handler: String,
    /// The digest in the policy, which the signature has to cover.
    digest: [u8; 32],
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("no signature: {0}")]
    File(BundleError),
    #[error(transparent)]
    Signature(#[from] SignatureFault),
}

impl UnsignedFault {
    /// The handler's name.
    pub fn handler(&self) -> &str {
        &self.handler
    }

    /// The digest of the component in the policy.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The cause, without the handler's name.
    pub fn cause(&self) -> String {
        self.cause.to_string()
    }
}

/// Verifies the signature file of a handler's component. Returns `None` if its policy requires
/// none.
///
/// # Errors
/// Returns an error if the file is missing, or its key is not one that the policy accepts.
pub fn verify(
    name: &str,
    rule: &Handler,
    folders: &Folders,
) -> Result<Option<Signed>, UnsignedFault> {
    let Some(asked) = rule.signed_by() else {
        return Ok(None);
    };
    let verified = folders::signature(folders, rule.component())
        .map_err(Cause::File)
        .and_then(|file| Ok(component::verify(&file, rule.sha256(), asked)?));
    verified.map(Some).map_err(|cause| UnsignedFault {
        handler: name.to_owned(),
        digest: *rule.sha256(),
        cause,
    })
}

/// Verifies the handlers in use. Returns the signers by handler name, and the components without a
/// required signature.
pub fn signers_of(
    policy: &Policy,
    used: &BTreeSet<(String, Role)>,
    folders: &Folders,
) -> (BTreeMap<String, Signed>, Vec<UnsignedFault>) {
    let (mut signed, mut faults) = (BTreeMap::new(), Vec::new());
    let used: BTreeSet<_> = used.iter().map(|(name, _)| name).collect();
    for (name, rule) in policy.handlers() {
        if !used.contains(name) {
            continue;
        }
        match verify(name, rule, folders) {
            Ok(Some(by)) => {
                signed.insert(name.clone(), by);
            }
            Ok(None) => {}
            Err(fault) => faults.push(fault),
        }
    }
    (signed, faults)
}
