//! A policy as other systems' configuration. Deterministic: the same policy and places give the same bytes.

pub mod envoy;
pub mod node;
