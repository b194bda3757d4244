//! Scans files of models, and verifies signatures of models and of handlers.
//!
//! - [`scan`] tells what a model file is, and whether it could run code when it is loaded.
//! - [`model_signing`] signs whole models and verifies their signatures (OpenSSF Model Signing).
//! - [`component`] says who signed a handler, under which name and version.
//! - [`capture`] is the file format of captured handler calls. Host and command read it.
//!
//! A signature is a separate file in the format of Sigstore's tools: a bundle with a DSSE envelope
//! around an in-toto statement. This crate opens no file, reads no clock and makes no network
//! calls. The caller brings bytes, digests, keys and the time.
//!
//! Ed25519 is the only algorithm for components. Signature files cannot select another one.
//!
//! The program `tensorgate-model` shows how it is used: it finds the files, and scans each in a
//! process without rights.

pub mod capture;
pub mod component;
mod envelope;
mod key;
pub mod model_signing;
pub mod scan;
mod signature_fault;

pub use key::{KeyFault, PrivateKey, PublicKey};
pub use signature_fault::{MAX_SIGNATURE_BYTES, SignatureFault};
