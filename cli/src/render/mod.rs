//! Renders a policy as the configuration of other systems. The output is deterministic: equal
//! inputs give equal bytes.

pub mod envoy;
pub mod node;
