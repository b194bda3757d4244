//! A proxy in memory: the same callbacks in the same order as Envoy makes them, without Envoy.

use tensorgate_policy::{Fault, Now};
use tensorgate_wire::Answer;

use crate::record::Record;

/// A request as a proxy hands it to a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Header fields in order, pseudo-headers (`:method`, `:path`, `:authority`, `:scheme`) first.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body in the pieces in which it arrives.
    pub body: Vec<Vec<u8>>,
    /// Trailer fields; `None` if there are none.
    pub trailers: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Refused with this answer.
    Denied(Answer),
    /// Sent on, with these header fields and this body.
    Forwarded {
        /// Header fields that the upstream sees.
        headers: Vec<(Vec<u8>, Vec<u8>)>,
        /// The body.
        body: Vec<u8>,
    },
}

/// A proxy with the gate filter configured, its buckets fresh.
pub struct NativeProxy {}

impl NativeProxy {
    /// Configures the filter with a bundle (JSON) and the context key (hex).
    pub fn new(bundle_json: &[u8], context_key_hex: &str) -> Result<Self, Vec<Fault>> {
        let _ = (bundle_json, context_key_hex);
        unimplemented!()
    }

    /// Plays one request through the filter at a given time.
    pub fn send(&mut self, request: &Request, now: Now) -> (Outcome, Record) {
        let _ = (request, now);
        unimplemented!()
    }
}
