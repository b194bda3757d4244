//! Maps credentials to clients: API keys by digest, tokens of issuers, verified client
//! certificates.
//!
//! This crate authenticates callers; it does not authorize them. It reads no clock: time is an
//! argument.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod api_key;
#[cfg(all(feature = "signatures", not(target_family = "wasm")))]
mod assembly;
mod attempts;
mod cache;
mod certificates;
mod claim_headers;
mod claims;
mod confirmation;
pub mod der;
mod evidence;
mod identifier;
mod json;
mod jws;
mod key_sets;
#[cfg(all(feature = "signatures", not(target_family = "wasm")))]
mod known_signatures;
#[cfg(feature = "signatures")]
mod pure;
#[cfg(all(test, feature = "signatures"))]
mod tests;
mod token;
mod verifier;
pub mod x509;
pub mod xfcc;

pub use api_key::{KeyRing, digest, format_key};
#[cfg(all(feature = "signatures", not(target_family = "wasm")))]
pub use assembly::RingVerifier;
pub use attempts::{Attempt, Attempts, CheckBudget};
pub use cache::TokenCache;
pub use claim_headers::{Fields as ClaimFields, MAX_BYTES as MAX_CLAIM_BYTES};
pub use claims::EndUser;
pub use confirmation::{Confirmation, ConfirmationFault};
pub use evidence::{Certificate, Evidence, Identified, PeerNames};
pub use identifier::Identifier;
pub use jws::verify_jws;
pub use key_sets::{KeySets, KeySource, Missing, NOT_FETCHED};
#[cfg(all(feature = "signatures", not(target_family = "wasm")))]
pub use known_signatures::KnownSignatures;
#[cfg(feature = "signatures")]
pub use pure::PureVerifier;
pub use verifier::{Verifier, VerifyFault};
