//! Access log properties that a filter sets. Envoy prints one with
//! `%FILTER_STATE(wasm.tg_outcome:PLAIN)%`.

/// In a chain: the last filter that wrote an outcome.
pub const FILTER: &str = "tg_filter";
/// Outcome of the request as JSON: `Record::to_property`. It is one property because
/// each costs a host call.
pub const OUTCOME: &str = "tg_outcome";
/// Set once the head was forwarded before the verdict on the body: the upstream knows the
/// request, whatever the verdict is. The value is the request's id.
pub const FORWARDED: &str = "tg_forwarded";
/// VM id and sequence number of this outcome; see `super::log_sequence`.
pub const SEQUENCE: &str = "tg_entry";
/// The proxy's `response.code_details` for a response from the upstream.
pub const VIA_UPSTREAM: &[u8] = b"via_upstream";
