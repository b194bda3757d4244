//! Ed25519 keys, and statements that they sign. Signatures of handlers and of models use both.
//!
//! A signature is a file in the format of Sigstore's tools: a bundle with a DSSE envelope around an
//! in-toto statement. This crate opens no file, reads no clock and draws no random numbers.

pub mod envelope;
mod key;
mod signature_fault;

pub use key::{KeyFault, PrivateKey, PublicKey, SPKI_PREFIX};
pub use signature_fault::{MAX_SIGNATURE_BYTES, SignatureFault};
