//! Signs the manifest of a model.

use super::bundle::{Bundle, MAX_BUNDLE_BYTES, Material};
use super::certificate::Certificate;
use super::chain::{ChainFault, check_signer};
use super::json::JsonFault;
use super::keys::ModelSigningKey;
use super::manifest::Manifest;
use super::statement::write_statement;
use tensorgate_signature::envelope::pae;

/// Why a manifest is not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignFault {
    /// The signing certificate is missing, not valid now or not for signing models.
    #[error(transparent)]
    Certificate(#[from] ChainFault),
    /// The certificate is of another key.
    #[error("the signing certificate {0:?} is not one of this key")]
    OtherKey(String),
    /// The model's name is empty.
    #[error("the model has no name; give the path of a folder or file that has one")]
    Unnamed,
    /// The bundle would be larger than a verifier reads.
    #[error("the bundle would be larger than {} bytes", MAX_BUNDLE_BYTES)]
    TooLarge,
    /// The statement or the bundle cannot be written.
    #[error("the bundle cannot be written: {0}")]
    Json(#[from] JsonFault),
    /// The library of the key's curve has failed.
    #[error("the key cannot sign")]
    Key,
}

/// Signs with a key. Returns the content of the bundle file.
///
/// # Errors
/// Why it is not signed.
pub fn sign_with_key(manifest: &Manifest, key: &ModelSigningKey) -> Result<String, SignFault> {
    let hint = Some(key.public().fingerprint());
    seal(manifest, key, Material::Key { hint })
}

/// Signs with a key and its certificate chain, the signing certificate first. `now_s` is the time
/// in seconds since 1970.
///
/// # Errors
/// Why it is not signed.
pub fn sign_with_certificates(
    manifest: &Manifest,
    key: &ModelSigningKey,
    chain: Vec<Certificate>,
    now_s: u64,
) -> Result<String, SignFault> {
    let signer = chain.first().ok_or(ChainFault::Empty)?;
    check_signer(signer, now_s)?;
    if signer.model_key() != Some(key.public()) {
        return Err(SignFault::OtherKey(signer.name()));
    }
    seal(manifest, key, Material::Certificates(chain))
}

fn seal(
    manifest: &Manifest,
    key: &ModelSigningKey,
    material: Material,
) -> Result<String, SignFault> {
    if manifest.name.is_empty() {
        return Err(SignFault::Unnamed);
    }
    let payload = write_statement(manifest)?;
    let signature = key.sign(&pae(&payload)).ok_or(SignFault::Key)?;
    let bundle = Bundle {
        material,
        payload,
        signature,
    };
    let text = bundle.write()?;
    if text.len() > MAX_BUNDLE_BYTES {
        return Err(SignFault::TooLarge);
    }
    Ok(text)
}
