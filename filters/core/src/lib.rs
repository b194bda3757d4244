//! The Envoy filters. This is the only crate that knows proxy-wasm.
//!
//! Filters are written against [`host::Proxy`]. Inside Envoy that trait is implemented by the SDK;
//! natively it is the in-memory proxy of `filters/native`. Every callback can therefore be tested
//! natively in milliseconds, and `explain` runs the filters' own code.

mod body;
pub mod filter;
pub mod gate;
pub mod host;
mod identify;
pub mod keys;
mod message_stream;
pub mod quota;
pub mod report;
pub mod root;
#[cfg(target_family = "wasm")]
pub mod sdk;
mod steps;
pub mod store;
pub mod upstream;

pub use identify::shared_identity::PROPERTY as IDENTITY_PROPERTY;
