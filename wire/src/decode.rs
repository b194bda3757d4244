//! Bodies to requests, by format.

use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::{Denial, InferRequest};

/// Decodes a whole body. Refusals are `malformed`, `duplicate-key`, `too-deep` or `unsupported-encoding` (gRPC's compressed
/// flag); the caller's field is named where there is one. [`BodyFormat::Raw`] gives an empty request.
pub fn decode(format: BodyFormat, body: &[u8]) -> Result<InferRequest<'_>, Denial> {
    let _ = (format, body);
    unimplemented!()
}
