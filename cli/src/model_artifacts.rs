//! Checks what a policy names to verify model files with: manifests and keys.
//!
//! The model files themselves are not read: they can be large, and are often on another machine.
//! The host verifies them. Here a wrong manifest or key is reported at the policy's line, before a
//! process starts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tensorgate_artifact::model_signing::{
    Certificate, MAX_BUNDLE_BYTES, ModelKey, Roots, TrustedRoot,
};
use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_policy::policy::{ArtifactTrust, Model, ModelSigner};
use tensorgate_policy::{Fault, Policy, Severity, hex};
use tensorgate_policy_text::path::below;
use tensorgate_signature::PublicKey;

const MANIFEST_FIX: &str = "a file that `tensorgate model manifest MODEL --output FILE` wrote; the path is relative to the policy";
const KEY_FIX: &str = "a public key on P-256, P-384 or P-521, or of Ed25519, as `openssl pkey -pubout` prints it, or root certificates";
const TRUSTED_ROOT_FIX: &str =
    "the trusted root of the Sigstore instance, JSON, as its clients have it in trusted_root.json";

/// Every manifest and key that cannot be used. File names are relative to `root`. A missing file
/// has the severity `missing`.
pub fn faults(policy: &Policy, root: &Path, missing: Severity) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut checked = BTreeSet::new();
    let mut manifests: BTreeMap<&str, Read> = BTreeMap::new();
    let mut signers: BTreeMap<&String, &ModelSigner> = BTreeMap::new();
    for (model, version, artifact) in policy.artifacts() {
        match artifact.trust() {
            ArtifactTrust::Manifest { path, sha256 } => {
                let read = manifests
                    .entry(path)
                    .or_insert_with(|| Read::file(&root.join(path)));
                let at = location(model, version);
                if checked.insert(at.clone()) {
                    faults.extend(manifest_fault(&at, (path.as_str(), sha256), read, missing));
                }
            }
            ArtifactTrust::Signed { keys, .. } => signers.extend(keys),
        }
    }
    let signers = signers.into_iter();
    faults.extend(signers.filter_map(|(name, signer)| signer_fault(name, signer)));
    faults
}

/// Where the policy has the artifact of a version. Versions with the model's share it.
pub fn location(model: &Model, version: &str) -> String {
    let name = model.name();
    if model.has_own_artifact(version) {
        below("models", &[name, "versions", version, "artifact"])
    } else {
        below("models", &[name, "artifact"])
    }
}

/// A manifest's file.
enum Read {
    /// Its digest, and whether it is a JSON object. The digest of another file is not printed: it
    /// may be a link to a secret.
    Digest {
        sha256: [u8; 32],
        is_json: bool,
    },
    Missing,
    Unreadable(String),
}

impl Read {
    fn file(file: &Path) -> Self {
        let most = u64::try_from(MAX_BUNDLE_BYTES).unwrap_or(u64::MAX);
        match read_at_most(file, most) {
            Ok(Some(bytes)) => Self::Digest {
                sha256: Sha256::digest(&bytes).into(),
                is_json: bytes.starts_with(b"{"),
            },
            Ok(None) => Self::Unreadable(format!("is larger than {most} bytes")),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::Missing,
            Err(error) => Self::Unreadable(format!("cannot be read: {error}")),
        }
    }
}

fn manifest_fault(
    at: &str,
    (file, expected): (&str, &[u8; 32]),
    read: &Read,
    missing: Severity,
) -> Option<Fault> {
    let fault = |severity, field: &str, what: &str, fix: &str| Fault {
        severity,
        path: format!("{at}.{field}"),
        message: format!("manifest {file} {what}"),
        fix: Some(fix.into()),
    };
    match read {
        Read::Missing => Some(fault(missing, "manifest", "is missing", MANIFEST_FIX)),
        Read::Unreadable(why) => Some(fault(Severity::Error, "manifest", why, MANIFEST_FIX)),
        Read::Digest { sha256, .. } if sha256 == expected => None,
        Read::Digest { sha256, is_json } => {
            let own_fix = format!("sha256: \"{}\", if you reviewed this manifest", hex(sha256));
            let fix = if *is_json {
                own_fix.as_str()
            } else {
                MANIFEST_FIX
            };
            let what = "differs from its sha256";
            Some(fault(Severity::Error, "sha256", what, fix))
        }
    }
}

fn signer_fault(name: &str, signer: &ModelSigner) -> Option<Fault> {
    let (field, message) = match signer {
        ModelSigner::Ed25519(key) => ("ed25519", PublicKey::new(*key).err()?.to_string()),
        ModelSigner::PublicKey(pem) => ("public_key", ModelKey::from_pem(pem).err()?.to_string()),
        ModelSigner::Certificates(pem) => ("certificates", check_roots(pem).err()?),
        ModelSigner::Identity { trusted_root, .. } => {
            let fault = TrustedRoot::read(trusted_root.as_bytes()).err()?;
            return Some(Fault {
                severity: Severity::Error,
                path: below("keys", &[name, "trusted_root"]),
                message: fault.to_string(),
                fix: Some(TRUSTED_ROOT_FIX.into()),
            });
        }
    };
    Some(Fault {
        severity: Severity::Error,
        path: below("keys", &[name, field]),
        message,
        fix: Some(KEY_FIX.into()),
    })
}

/// Whether there is a root among certificates.
fn check_roots(pem: &str) -> Result<(), String> {
    let certificates = Certificate::from_pem(pem).map_err(|fault| fault.to_string())?;
    Roots::new(certificates).map_err(|fault| fault.to_string())?;
    Ok(())
}
