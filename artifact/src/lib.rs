//! Signatures over what a gate runs: who signed which component, under which name and version.
//!
//! A signature is a file of its own, in the form that Sigstore's tools use for one that was made with a key: a bundle with a DSSE envelope
//! around an in-toto statement. Reads no file and no clock, and asks nobody: a key is what a policy says it is.
//!
//! One algorithm, Ed25519. Nothing that is read says with which one to verify, so that nobody can choose another.

pub mod component;
mod envelope;
mod key;

pub use envelope::MAX_SIGNATURE_BYTES;
pub use key::{KeyFault, PrivateKey, PublicKey};
