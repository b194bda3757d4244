//! Reads a written policy, validates it, and compiles it for filters and hosts.
//!
//! The written policy ([`raw`]) becomes a validated [`Policy`](tensorgate_policy::Policy), and a
//! [`Version`] of it the form that enforcement points load. Filters and hosts do not have this
//! crate.
#![forbid(unsafe_code)]

mod compile;
#[cfg(test)]
mod fixture;
mod pattern;
pub mod raw;
pub mod validate;

pub use compile::Version;
