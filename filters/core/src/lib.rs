//! The Envoy filters.
//!
//! Filters are written against [`host::Proxy`]. Inside Envoy that trait is implemented on
//! proxy-wasm (`filters/wasm`) and on dynamic modules (`filters/envoy-module`). Tests and `explain`
//! run the same filters on the in-memory proxy of `filters/in-memory`, so that every callback can
//! be tested in milliseconds.
#![forbid(unsafe_code)]

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
mod steps;
pub mod store;
pub mod upstream;

pub use identify::shared_identity::PROPERTY as IDENTITY_PROPERTY;
