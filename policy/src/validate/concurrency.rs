//! Limits of requests in flight.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;

use super::report::{Path, Valid, optional};
use crate::policy::ModelLimits;
use crate::raw;

/// Maximum requests in flight: more than any proxy supports.
const MAX_REQUESTS: u64 = 1_000_000;
/// Maximum bytes in flight: as many as all bodies together.
const MAX_BYTES: u64 = 1 << 40;

/// Maximum requests at once; the outer `None` is a fault.
pub(super) fn requests(path: &Path, raw: Option<u64>) -> Valid<Option<u64>> {
    optional(raw, |limit| path.within(limit, 1, MAX_REQUESTS, "requests"))
}

/// Limits of requests in flight to a model.
pub(super) fn model(
    path: &Path,
    raw: Option<&raw::ModelLimits>,
    bodies: &raw::Limits,
    takes_raw: bool,
) -> Option<ModelLimits> {
    let Some(raw) = raw else {
        return Some(ModelLimits::default());
    };
    let body_bytes = bodies.body_bytes.0;
    // A client gets half of a limit for streamed bodies, but always one body.
    let passes = !takes_raw && bodies.hold_bytes().0 < body_bytes;
    let alone = |path: &Path, fix: String| {
        path.warn(
            "one body that passes in pieces can take all of it, for as long as its client dawdles",
            fix,
        );
    };
    if passes && raw.concurrency == Some(1) {
        alone(&path.field("concurrency"), "at least 2".to_owned());
    }
    let two_bodies = body_bytes.saturating_mul(2);
    if passes
        && raw
            .in_flight_bytes
            .is_some_and(|limit| (body_bytes..two_bodies).contains(&limit.0))
    {
        alone(
            &path.field("in_flight_bytes"),
            format!("at least {two_bodies}, two bodies of listen.limits.body_bytes"),
        );
    }
    let concurrency = requests(&path.field("concurrency"), raw.concurrency);
    let bytes_path = path.field("in_flight_bytes");
    let in_flight_bytes = optional(raw.in_flight_bytes, |limit| {
        bytes_path.within(limit.0, 1, MAX_BYTES, "bytes")
    });
    if let Some(Some(limit)) = in_flight_bytes
        && limit < body_bytes
    {
        bytes_path.warn(
            format!("a body of more than {limit} bytes is refused however few are in flight"),
            format!("at least the {body_bytes} of listen.limits.body_bytes"),
        );
    }
    Some(ModelLimits {
        concurrency: concurrency?,
        in_flight_bytes: in_flight_bytes?,
    })
}
