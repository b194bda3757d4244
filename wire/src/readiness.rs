//! The readiness probe of a pod: a request that only a loaded filter and a host with the filter's
//! key can answer.
//!
//! It comes over a listener of the pod alone. The filter signs a context for it, and the host
//! verifies that context. No limit, record or lockout counts it.

/// Path of the probe. At any other listener it is an unknown path.
pub const PATH: &str = "/tensorgate/ready";
/// Name of the filter chain of the probe's listener, which no client can choose.
pub const FILTER_CHAIN: &str = "tensorgate-ready";
/// Maximum age of the probe's context, in seconds.
pub const MAX_AGE_S: u64 = 60;
