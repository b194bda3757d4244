//! Judges a request again, with the same code and policy as the filter. The host asks it before a
//! handler or backend sees a byte, and `tensorgate explain` asks it what the host would decide.
//! [`budget`] says whether the answers that a policy allows fit the host's memory.

// A new variant of an enum must be decided in each `match` of the enum.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

pub mod body;
pub mod budget;
pub mod context_keys;
pub mod document;
pub mod model_version;
pub mod protocol_adapter;
pub mod request;
pub mod response_size;
