//! Verifies the signature of a model.

use serde::Serialize;

use super::bundle::{Bundle, BundleFault, Material};
use super::chain::{ChainFault, Roots};
use super::keys::ModelKey;
use super::manifest::Manifest;
use super::requirements::{Requirements, SignedAt, TimeSource, Unmet};
use super::sigstore::{IdentityFault, TrustedIdentity};
use super::statement::{StatementFault, read_statement};
use tensorgate_signature::envelope::pae;

/// Whom a verifier trusts. The bundle must be signed in the same way. [`verify_identity`] verifies
/// signatures by Sigstore identities.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// A key.
    Key(&'a ModelKey),
    /// Each signing certificate below these roots.
    Roots(&'a Roots),
}

/// Why a model's signature is rejected. All texts are for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The file is not a bundle that can be verified here.
    #[error(transparent)]
    Bundle(#[from] BundleFault),
    /// Signed in another way than the verifier expects.
    #[error("the bundle is signed by {found}, and {expected} is trusted")]
    Method {
        /// How it is signed.
        found: &'static str,
        /// What is trusted.
        expected: &'static str,
    },
    /// The certificate chain is not valid.
    #[error(transparent)]
    Chain(#[from] ChainFault),
    /// The Sigstore identity is not the trusted one, or is not proven.
    #[error(transparent)]
    Identity(#[from] IdentityFault),
    /// The signature is not one of the trusted key, and the bundle names another key.
    #[error("the bundle is signed by the key {hint:?}, and {trusted} is trusted")]
    OtherKey {
        /// The bundle's fingerprint of its key.
        hint: String,
        /// The fingerprint of the trusted key.
        trusted: String,
    },
    /// The signature is not one of the signer's key.
    #[error(
        "the signature does not match: the bundle was changed, another key has signed it, or \
         release 0.2 of model-signing, whose signatures have another form"
    )]
    Signature,
    /// What was signed is not a statement about a model.
    #[error(transparent)]
    Statement(#[from] StatementFault),
}

/// Who has signed a model. Scripts rely on the shape of its JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Signer {
    /// The trusted key.
    Key {
        /// Its fingerprint.
        fingerprint: String,
    },
    /// A certificate below a trusted root.
    Certificate {
        /// SHA-256 of the certificate in hex digits.
        fingerprint: String,
        /// Its common name. For information: the trusted roots decide.
        name: String,
    },
    /// The trusted Sigstore identity.
    Identity {
        /// SHA-256 of its certificate in hex digits.
        fingerprint: String,
        /// Its mail address or URI.
        #[serde(rename = "name")]
        identity: String,
        /// The provider that vouches for it.
        provider: String,
        /// When a log took the signature in, or a time stamp authority had it, in seconds since
        /// 1970.
        logged_s: u64,
    },
}

/// A manifest and who has signed it. The model itself is not compared yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What was signed.
    pub manifest: Manifest,
    /// Who has signed it.
    pub signer: Signer,
    /// The model's name as it is signed.
    pub subject: String,
    /// When it was signed, if the signature says so.
    pub signed_at: Option<SignedAt>,
}

impl Verified {
    /// `proven_at` is a time that others than the signer have signed. It goes before the signer's.
    fn new(manifest: Manifest, signer: Signer, proven_at: Option<SignedAt>) -> Self {
        let stated_at = manifest.signed_at_s.map(|time_s| SignedAt {
            time_s,
            source: TimeSource::Statement,
        });
        Self {
            subject: manifest.name.clone(),
            manifest,
            signer,
            signed_at: proven_at.or(stated_at),
        }
    }

    /// Checks that the signature is the one that a verifier requires.
    ///
    /// # Errors
    /// It is about another model, or was made too early or at an unknown time.
    pub fn require(&self, required: &Requirements<'_>) -> Result<(), Unmet> {
        required.check(&self.subject, self.signed_at)
    }
}

/// Verifies a bundle at a time in seconds since 1970, which certificates must be valid at.
///
/// # Errors
/// Why it is rejected.
pub fn verify(bundle: &[u8], trust: Trust<'_>, now_s: u64) -> Result<Verified, Rejection> {
    let Bundle {
        material,
        payload,
        signature,
    } = Bundle::read(bundle)?;
    let signed = pae(&payload);
    let signer = match (trust, material) {
        (Trust::Key(key), Material::Key { hint }) => {
            check_key(key, hint, &signed, &signature)?;
            Signer::Key {
                fingerprint: key.fingerprint(),
            }
        }
        (Trust::Roots(roots), Material::Certificates(chain)) => {
            let signer = roots.signer(&chain, now_s)?;
            let key = signer.model_key();
            if !key.is_some_and(|key| key.verifies(&signed, &signature)) {
                return Err(Rejection::Signature);
            }
            Signer::Certificate {
                name: signer.name(),
                fingerprint: signer.fingerprint(),
            }
        }
        (trust, material) => {
            let expected = match trust {
                Trust::Key(_) => "a key",
                Trust::Roots(_) => "a root certificate",
            };
            let found = method(&material);
            return Err(Rejection::Method { found, expected });
        }
    };
    let manifest = read_statement(&payload)?;
    Ok(Verified::new(manifest, signer, None))
}

/// Verifies a bundle of a Sigstore identity. Certificates must be valid when the log took the
/// signature in, and at the times of its time stamps.
///
/// It is apart from [`verify`], so that programs that need no identities do not link it.
///
/// # Errors
/// Why it is rejected.
pub fn verify_identity(bundle: &[u8], trusted: &TrustedIdentity) -> Result<Verified, Rejection> {
    let Bundle {
        material,
        payload,
        signature,
    } = Bundle::read(bundle)?;
    let material = match material {
        Material::Identity(material) => material,
        other => {
            return Err(Rejection::Method {
                found: method(&other),
                expected: "a Sigstore identity",
            });
        }
    };
    let signed_at = trusted.check(&material, &payload, &signature)?;
    let key = material.certificate.model_key();
    if !key.is_some_and(|key| key.verifies(&pae(&payload), &signature)) {
        return Err(Rejection::Signature);
    }
    let signer = Signer::Identity {
        identity: trusted.identity.clone(),
        provider: trusted.provider.clone(),
        fingerprint: material.certificate.fingerprint(),
        logged_s: signed_at.time_s,
    };
    let manifest = read_statement(&payload)?;
    Ok(Verified::new(manifest, signer, Some(signed_at)))
}

fn method(material: &Material) -> &'static str {
    match material {
        Material::Key { .. } => "a key",
        Material::Certificates(_) => "a certificate",
        Material::Identity(_) => "a Sigstore identity",
    }
}

/// Verifies a signature by key. The hint is not signed and only explains a signature that does not
/// match.
fn check_key(
    key: &ModelKey,
    hint: Option<String>,
    signed: &[u8],
    signature: &[u8],
) -> Result<(), Rejection> {
    if key.verifies(signed, signature) {
        return Ok(());
    }
    let trusted = key.fingerprint();
    Err(match hint {
        Some(hint) if hint != trusted => Rejection::OtherKey {
            hint: super::json::excerpt(&hint),
            trusted,
        },
        _ => Rejection::Signature,
    })
}

#[cfg(test)]
mod tests;
