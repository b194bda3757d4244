//! Signatures of models in the format of OpenSSF Model Signing (OMS) 1.0, by key, by
//! certificate chain and by Sigstore identity.
//!
//! A signature is a file beside the model: a Sigstore bundle v0.3 with a DSSE envelope around an
//! in-toto statement, which lists the model's files with their digests. The caller brings the
//! bundle, the time, the keys and the digests of files; this module reads no file and no clock.
//! It verifies in this order: form of the bundle, certificates, signature, statement. The caller
//! then hashes the files by the signed [`Rules`] and asks [`compare`].
//!
//! A publisher hashes the files and signs their manifest. A verifier compares the files that it
//! has with those that are signed:
//!
//! ```
//! use tensorgate_artifact::model_signing::{
//!     Exclusions, Manifest, ModelSigningKey, Pieces, Resource, Rules, Trust, compare,
//!     sign_with_key, verify,
//! };
//!
//! # const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----
//! # MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgfaxkR+sP7EDRBTO+
//! # sjLwv2GYTTNEFpFAVtc5D6+olQOhRANCAAQfOgtexTGK7PqnhHiOvaD2lPEe5+4G
//! # CN+EsFvEbH5xe8Igj8QJ//tCUAzlZ8ZhgzHw1m+LgL1FZ1NiOI1JpcE0
//! # -----END PRIVATE KEY-----
//! # ";
//! let key = ModelSigningKey::from_pem(PRIVATE_KEY)?;
//! let rules = Rules {
//!     pieces: Pieces::Files,
//!     follow_links: false,
//!     exclusions: Exclusions::default(),
//! };
//! // The SHA-256 of each file.
//! let files = vec![Resource::file("weights.safetensors".to_owned(), [7; 32])];
//! let manifest = Manifest::new("digits".to_owned(), rules, files)?;
//! let bundle = sign_with_key(&manifest, &key)?;
//!
//! let now_s = 1_780_000_000;
//! let verified = verify(bundle.as_bytes(), Trust::Key(key.public()), now_s)?;
//! let found = vec![Resource::file("weights.safetensors".to_owned(), [8; 32])];
//! let differences = compare(&verified.manifest, found);
//! assert!(!differences.is_empty(), "the file was changed");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A verifier that trusts an authority instead of a key has its root certificates:
//!
//! ```no_run
//! use std::fs;
//! use tensorgate_artifact::model_signing::{Certificate, Roots, Signer, Trust, verify};
//!
//! let roots = Roots::new(Certificate::from_pem(&fs::read_to_string("roots.pem")?)?)?;
//! let bundle = fs::read("models/digits/model.sig")?;
//! let verified = verify(&bundle, Trust::Roots(&roots), 1_780_000_000)?;
//! if let Signer::Certificate { name, .. } = verified.signer {
//!     println!("signed by {name:?}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What the format leaves open or other tools accept is decided strictly. The page
//! `docs/reference/model-signing.md` lists the differences.
//!
//! Its modules, from bottom to top: `json`, `time`, `path`, `names`, `manifest`, `comparison`,
//! `statement`, `keys`, `certificate`, `chain`, `log_entry`, `bundle`, `requirements`, `sigstore`,
//! `verify`, `sign`. Each refers to those before it.

mod bundle;
mod certificate;
mod chain;
mod comparison;
mod json;
mod keys;
mod log_entry;
mod manifest;
mod names;
mod path;
mod requirements;
mod sign;
mod sigstore;
mod statement;
mod time;
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
pub use path::{Exclusions, GIT_FOLDER, PathFault, SINGLE_FILE};
pub use requirements::{Requirements, SignedAt, TimeSource, Unmet};
pub use sign::{SignFault, sign_with_certificates, sign_with_key};
pub use sigstore::{
    IdentityFault, MAX_TRUSTED_ROOT_BYTES, TimeStampFault, TrustedIdentity, TrustedRoot,
    TrustedRootFault,
};
pub use statement::{StatementFault, read_statement, write_statement};
pub use verify::{Rejection, Signer, Trust, Verified, verify, verify_identity};
