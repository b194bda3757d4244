//! What the files of a model must be: the manifest that a trusted signer signed, or whose digest
//! the policy has.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tensorgate_artifact::model_signing::{
    Certificate, MAX_BUNDLE_BYTES, Manifest, ModelKey, Pieces, Requirements, Roots, Trust,
    TrustedIdentity, TrustedRoot, Verified, read_statement, verify, verify_identity,
};
use tensorgate_base::unix_time::now_unix_s;
use tensorgate_models::files::{read_signature, signature_file};
use tensorgate_policy::hex;
use tensorgate_policy::policy::{ArtifactTrust, ModelArtifact, ModelSigner};
use tensorgate_policy::values::safe_text::printable;

/// A manifest that is trusted.
#[derive(Debug)]
pub(crate) struct Trusted {
    /// What the files must be.
    pub manifest: Manifest,
    /// The signer's name in the policy.
    pub signer: Option<String>,
}

/// The file of the signature or of the manifest.
pub(crate) fn trust_file(root: &Path, artifact: &ModelArtifact) -> PathBuf {
    named_file(artifact).map_or_else(
        || signature_file(&root.join(artifact.path())),
        |path| root.join(path),
    )
}

/// The file of the signature or of the manifest, if the policy names it.
fn named_file(artifact: &ModelArtifact) -> Option<&String> {
    match artifact.trust() {
        ArtifactTrust::Manifest { path, .. } => Some(path),
        ArtifactTrust::Signed { signature, .. } => signature.as_ref(),
    }
}

/// Whether two artifacts have the same files, and the same file says what they must be.
pub(crate) fn same_files(one: &ModelArtifact, other: &ModelArtifact) -> bool {
    one.path() == other.path() && named_file(one) == named_file(other)
}

/// Reads and verifies the manifest, at a time in seconds since 1970.
///
/// # Errors
/// Why it is not trusted.
pub(crate) fn trusted(
    file: &Path,
    artifact: &ModelArtifact,
    now_s: u64,
) -> Result<Trusted, String> {
    let shown = printable(&file.to_string_lossy());
    let bytes = read(file).map_err(|error| match artifact.trust() {
        ArtifactTrust::Manifest { .. } => format!("cannot read the manifest {shown}: {error}"),
        ArtifactTrust::Signed { .. } => format!(
            "cannot read the signature {shown}: {error}: sign the model with `tensorgate model sign`"
        ),
    })?;
    match artifact.trust() {
        ArtifactTrust::Manifest { sha256, .. } => {
            let found: [u8; 32] = Sha256::digest(&bytes).into();
            if found != *sha256 {
                return Err(format!(
                    "the SHA-256 of the manifest {shown} is {}, and the policy has {}",
                    hex(&found),
                    hex(sha256)
                ));
            }
            let manifest = read_statement(&bytes).map_err(|fault| format!("{shown}: {fault}"))?;
            Ok(Trusted {
                manifest,
                signer: None,
            })
        }
        ArtifactTrust::Signed {
            keys,
            subject,
            not_before_unix_s,
            ..
        } => {
            let required = Requirements {
                subject: subject.as_deref(),
                not_before_s: *not_before_unix_s,
            };
            let mut causes = Vec::new();
            for (name, signer) in keys {
                match verified(&bytes, signer, now_s) {
                    Ok(verified) => {
                        verified.require(&required).map_err(|unmet| {
                            format!("the signature {shown} by {name:?} is not enough: {unmet}")
                        })?;
                        return Ok(Trusted {
                            manifest: verified.manifest,
                            signer: Some(name.clone()),
                        });
                    }
                    Err(cause) => causes.push(format!("{name:?}: {cause}")),
                }
            }
            let causes = causes.join("; ");
            Err(format!(
                "the signature {shown} is of none of the signers that the policy names: {causes}"
            ))
        }
    }
}

/// The files of a model and the digests that a trusted manifest has of them. The files themselves
/// are not read. File names of the policy are relative to `root`.
///
/// # Errors
/// The manifest is not trusted, or has digests of parts of files only.
pub fn trusted_files(
    root: &Path,
    artifact: &ModelArtifact,
) -> Result<BTreeMap<PathBuf, [u8; 32]>, String> {
    let manifest = trusted(&trust_file(root, artifact), artifact, now_unix_s())?.manifest;
    if manifest.rules().pieces != Pieces::Files {
        return Err("its files are signed in shards: sign it without --shard-bytes".to_owned());
    }
    let model = root.join(artifact.path());
    let name = model.file_name().and_then(|name| name.to_str());
    let single = name.filter(|_| model.is_file());
    let single = single.map(|name| manifest.single_file_path(name));
    let files = manifest.resources().iter().filter_map(|resource| {
        let path = match single {
            Some(single) if single == resource.path => model.clone(),
            Some(_) => return None,
            None => model.join(&resource.path),
        };
        Some((path, resource.sha256))
    });
    Ok(files.collect())
}

/// Reads a file of bounded length.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    read_signature(file)?
        .ok_or_else(|| io::Error::other(format!("it is larger than {MAX_BUNDLE_BYTES} bytes")))
}

fn verified(
    bundle: &[u8],
    signer: &ModelSigner,
    now_s: u64,
) -> Result<Verified, Box<dyn std::error::Error>> {
    let of_key = |key: &ModelKey| verify(bundle, Trust::Key(key), now_s);
    let verified = match signer {
        ModelSigner::Ed25519(key) => of_key(&ModelKey::from_ed25519(key)?),
        ModelSigner::PublicKey(pem) => of_key(&ModelKey::from_pem(pem)?),
        ModelSigner::Certificates(pem) => {
            let roots = Roots::new(Certificate::from_pem(pem)?)?;
            verify(bundle, Trust::Roots(&roots), now_s)
        }
        ModelSigner::Identity {
            identity,
            provider,
            trusted_root,
        } => {
            let root = TrustedRoot::read(trusted_root.as_bytes());
            let trusted = TrustedIdentity {
                root: root.map_err(|fault| format!("its trusted root {fault}"))?,
                identity: identity.clone(),
                provider: provider.clone(),
            };
            verify_identity(bundle, &trusted)
        }
    };
    Ok(verified?)
}

#[cfg(test)]
mod tests;
