//! Signatures of handler components: who signed which component, under which name and version.
//! [`capture`] is the file format of captured handler calls. Host and command read it. [`scan`]
//! tells what a model file is and what it could do. [`model_signing`] signs whole models and
//! verifies their signatures.
//!
//! A signature is a separate file in the format of Sigstore's tools for key-based signatures: a
//! bundle with a DSSE envelope around an in-toto statement. This crate reads no file and no clock,
//! and makes no network calls; the policy lists the keys.
//!
//! Ed25519 is the only algorithm for components. Signature files cannot select another one.

pub mod capture;
pub mod component;
mod envelope;
mod key;
pub mod model_signing;
pub mod scan;
mod signature_fault;

pub use key::{KeyFault, PrivateKey, PublicKey};
pub use signature_fault::{MAX_SIGNATURE_BYTES, SignatureFault};
