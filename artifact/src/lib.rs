//! Scans files of models, and verifies their signatures.
//!
//! - [`scan`] tells what a model file is, and whether it could run code when it is loaded.
//! - [`model_signing`] signs whole models and verifies their signatures (OpenSSF Model Signing).
//!
//! This crate opens no file, reads no clock and makes no network calls. The caller brings bytes,
//! digests, keys and the time.
//!
//! The program `tensorgate-model` shows how it is used: it finds the files, and scans each in a
//! process without rights.

pub mod model_signing;
pub mod scan;
