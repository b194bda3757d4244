//! Signatures of models in the format of OpenSSF Model Signing (OMS) 1.0, by key, by
//! certificate chain and by Sigstore identity.
//!
//! A signature is a file beside the model: a Sigstore bundle v0.3 with a DSSE envelope around an
//! in-toto statement, which lists the model's files with their digests. The caller brings the
//! bundle, the time, the keys and the digests of files; this module reads no file and no clock.
//! It verifies in this order: form of the bundle, certificates, signature, statement. The caller
//! then hashes the files by the signed [`Rules`] and asks [`compare`].
//!
//! What the format leaves open or other tools accept is decided strictly. The page
//! `docs/reference/model-signing.md` lists the differences.
//!
//! Its modules, from bottom to top: `json`, `path`, `manifest`, `comparison`, `statement`, `keys`,
//! `certificate`, `chain`, `log_entry`, `bundle`, `sigstore`, `verify`, `sign`. Each refers to
//! those before it.

mod bundle;
mod certificate;
mod chain;
mod comparison;
mod json;
mod keys;
mod log_entry;
mod manifest;
mod path;
mod sign;
mod sigstore;
mod statement;
mod verify;

pub use bundle::{BundleFault, MAX_BUNDLE_BYTES, is_signature};
pub use certificate::{Certificate, CertificateFault};
pub use chain::{ChainFault, Roots};
pub use comparison::{Change, Differences, compare};
pub use json::JsonFault;
pub use keys::{ModelKey, ModelKeyFault, ModelSigningKey};
pub use manifest::{
    FileClass, MAX_RESOURCES, Manifest, ManifestFault, Pieces, Resource, Rules, shard_ranges,
};
pub use path::{Exclusions, PathFault};
pub use sign::{SignFault, sign_with_certificates, sign_with_key};
pub use sigstore::{
    IdentityFault, MAX_TRUSTED_ROOT_BYTES, TrustedIdentity, TrustedRoot, TrustedRootFault,
};
pub use statement::{StatementFault, read_statement, write_statement};
pub use verify::{Rejection, Signer, Trust, Verified, verify, verify_identity};
