//! The Envoy filters. This is the only crate that knows proxy-wasm.
//!
//! Filters are written against [`host::Proxy`]. Inside Envoy that trait is implemented by the SDK;
//! natively it is [`native::NativeProxy`]. Every callback can therefore be tested natively in
//! milliseconds, and `explain` runs the filters' own code.

mod body;
mod body_memory;
mod caller;
mod circuit_breaker;
pub mod filter;
pub mod gate;
pub mod header_map;
pub mod host;
mod identify;
pub mod keys;
pub mod listener_bounds;
pub mod lockout;
mod log_sequence;
mod message_stream;
pub mod native;
mod outcome;
pub mod permits;
pub mod quota;
mod quota_steps;
pub mod rate_limit_service;
pub mod record;
mod reservations;
mod rewrite;
pub mod root;
#[cfg(target_family = "wasm")]
pub mod sdk;
pub mod shared_identity;
pub mod signature;
pub mod slots;
mod streaming_validation;
pub mod upstream;
mod waiting;
