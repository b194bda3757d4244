//! Who signed a component: looked at before anything of it is parsed, and again at each reload, where nothing of it is loaded anew.
//!
//! What is verified is that a key has signed the digest that the policy names; the sandbox takes no bytes but those of that digest. So what
//! was verified is what is compiled, whatever becomes of the files in between.

use std::collections::{BTreeMap, BTreeSet};

use tensorgate_artifact::component::{self, SignatureFault, Signed};
use tensorgate_policy::Policy;
use tensorgate_policy::policy::Handler;

use crate::config::{self, ConfigError, Folders};
use crate::sandbox::Role;

/// A component that its policy wants signed, and is not.
#[derive(Debug, thiserror::Error)]
#[error("handler {handler}: {cause}")]
pub struct UnsignedFault {
    handler: String,
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("no signature: {0}")]
    File(ConfigError),
    #[error(transparent)]
    Signature(#[from] SignatureFault),
}

impl UnsignedFault {
    /// Without the handler's name.
    pub fn cause(&self) -> String {
        self.cause.to_string()
    }
}

/// Who signed a handler's component, `None` where its policy does not ask. Reads the signature that lies beside it.
///
/// # Errors
/// If it is not there, or is not one that the policy lets in.
pub fn verify(
    name: &str,
    rule: &Handler,
    folders: &Folders,
) -> Result<Option<Signed>, UnsignedFault> {
    let Some(asked) = rule.signed_by() else {
        return Ok(None);
    };
    let verified = config::signature(folders, rule.component())
        .map_err(Cause::File)
        .and_then(|file| Ok(component::verify(&file, rule.sha256(), asked)?));
    verified.map(Some).map_err(|cause| UnsignedFault {
        handler: name.to_owned(),
        cause,
    })
}

/// Who signed which of the handlers in use, by their names, and those whose component is not signed as the policy asks.
pub(crate) fn of(
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
