//! The form of a `traceparent` (W3C Trace Context, version 00), and the place of a request in a
//! trace of the gate's own.
//!
//! A client sets its `traceparent` as it likes. It decides nothing: a request's own trace and
//! whether it is sampled come from the request's ID, which the gate makes.

use sha2::{Digest as _, Sha256};
use tensorgate_policy::policy::SAMPLE_SHARES;
use tensorgate_policy::unhex;

/// The header field.
pub const TRACEPARENT: &str = "traceparent";
/// The header field to which Envoy moves the `traceparent` of a client, so that it begins a trace
/// of its own. Several are joined with commas there, which no valid one has.
pub const CLIENT_TRACEPARENT: &str = "x-client-traceparent";
/// The header field that Envoy sets behind the filters if `traceparent` is of its own span.
pub const ENVOY_TRACE: &str = "x-tensorgate-trace";
/// The header field beside `traceparent` that is never read or forwarded.
pub const TRACESTATE: &str = "tracestate";

/// The only version that is known.
const VERSION: &str = "00";
/// Hex digits of a trace ID.
const TRACE_ID_DIGITS: usize = 32;
/// Hex digits of a span ID.
const SPAN_ID_DIGITS: usize = 16;
/// Hex digits of the flags.
const FLAGS_DIGITS: usize = 2;
/// The flag of a trace that is sampled.
const SAMPLED: u8 = 1;
/// What the digest of a request's ID is for, so that it equals no other digest of the ID.
const PURPOSE: &[u8] = b"tensorgate trace\0";

/// The IDs of a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent<'t> {
    /// The trace ID, 32 hex digits.
    pub trace_id: &'t str,
    /// The ID of the sender's span, 16 hex digits.
    pub span_id: &'t str,
    /// The flags, 2 hex digits.
    pub flags: &'t str,
}

impl<'t> TraceParent<'t> {
    /// Reads `00-TRACE-SPAN-FLAGS` with lower-case digits. IDs of zeros are invalid. Every other
    /// text is not recorded, so a text of a client is never longer than 55 bytes.
    pub fn read(text: &'t str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace_id) = (parts.next()?, parts.next()?);
        let (span_id, flags) = (parts.next()?, parts.next()?);
        let is_valid = version == VERSION
            && parts.next().is_none()
            && is_id(trace_id, TRACE_ID_DIGITS)
            && is_id(span_id, SPAN_ID_DIGITS)
            && is_hex(flags, FLAGS_DIGITS);
        is_valid.then_some(Self {
            trace_id,
            span_id,
            flags,
        })
    }
}

/// The place of a span in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace, not zero.
    pub trace_id: [u8; 16],
    /// The span, not zero.
    pub span_id: [u8; 8],
    /// Whether the spans of the trace are recorded.
    pub is_sampled: bool,
}

impl SpanContext {
    /// The first span of a request's own trace, from the ID that the gate gave the request. The
    /// same ID gives the same trace on every host. `sampled_shares` of 10,000 IDs are sampled.
    pub fn of_request(request_id: &str, sampled_shares: u32) -> Self {
        let digest = Sha256::new().chain_update(PURPOSE);
        let digest = digest.chain_update(request_id.as_bytes()).finalize();
        let digest = digest.as_slice();
        let number = u32::from_be_bytes(part(digest, 24));
        let share = number.checked_rem(SAMPLE_SHARES);
        Self {
            trace_id: part(digest, 0),
            span_id: part(digest, 16),
            is_sampled: share.is_some_and(|share| share < sampled_shares),
        }
    }

    /// Reads a `traceparent`; see [`TraceParent::read`].
    pub fn read(text: &str) -> Option<Self> {
        let parent = TraceParent::read(text)?;
        let [flags] = unhex::<1>(parent.flags.as_bytes())?;
        Some(Self {
            trace_id: unhex(parent.trace_id.as_bytes())?,
            span_id: unhex(parent.span_id.as_bytes())?,
            is_sampled: flags & SAMPLED != 0,
        })
    }

    /// The same span in the trace of another one, with that one's decision to sample.
    #[must_use]
    pub const fn within(self, parent: &Self) -> Self {
        Self {
            trace_id: parent.trace_id,
            span_id: self.span_id,
            is_sampled: parent.is_sampled,
        }
    }

    /// The span of a part of a request, by its number from 1 on.
    #[must_use]
    pub fn part(self, number: u64) -> Self {
        let span = u64::from_be_bytes(self.span_id).wrapping_add(number);
        Self {
            // A span has no ID of zeros.
            span_id: span.max(1).to_be_bytes(),
            ..self
        }
    }

    /// The trace ID, 32 lower-case hex digits.
    pub fn trace_id_text(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.trace_id))
    }

    /// The `traceparent` that names this span as the parent.
    pub fn traceparent(&self) -> String {
        let span = u64::from_be_bytes(self.span_id);
        let flags = u8::from(self.is_sampled);
        format!("{VERSION}-{}-{span:016x}-{flags:02x}", self.trace_id_text())
    }
}

/// A part of a digest, not zero.
fn part<const N: usize>(digest: &[u8], start: usize) -> [u8; N] {
    let bytes = digest.get(start..).and_then(|rest| rest.first_chunk::<N>());
    let bytes = bytes
        .copied()
        .filter(|bytes| bytes.iter().any(|byte| *byte != 0));
    bytes.unwrap_or([1; N])
}

/// Whether a text is an ID of this many digits.
fn is_id(text: &str, digits: usize) -> bool {
    is_hex(text, digits) && text.bytes().any(|digit| digit != b'0')
}

/// Whether a text is this many lower-case hex digits.
fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests;
