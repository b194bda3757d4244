//! The Envoy filters. This is the only crate that knows proxy-wasm.
//!
//! Filters are written against [`host::Proxy`]. Inside Envoy that trait is implemented by the SDK;
//! natively it is [`native::NativeProxy`]. Every callback can therefore be tested natively in
//! milliseconds, and `explain` runs the filters' own code.

mod body;
mod body_memory;
mod circuit_breaker;
pub mod filter;
pub mod gate;
pub mod host;
mod identify;
pub mod keys;
pub mod lockout;
mod message_stream;
pub mod native;
pub mod permits;
pub mod quota;
pub mod rate_limit_service;
pub mod record;
pub mod root;
#[cfg(target_family = "wasm")]
pub mod sdk;
pub mod signature;
mod streaming_validation;
pub mod upstream;

pub use body::ListenerBounds;
