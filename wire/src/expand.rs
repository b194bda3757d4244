//! Expands compressed bodies within the plan's limits. A body is a single stream in one coding,
//! checked to its last byte: a second member, trailing bytes or a wrong checksum is rejected.
//!
//! The work is proportional to the received bytes, beyond what any body may have
//! ([`Expansion::most`]). Expansion stops at the limit.

use std::borrow::Cow;
use std::io::Read as _;

use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use tensorgate_policy::decision::{BodyPlan, Expansion};
use tensorgate_policy::request::Coding;
use tensorgate_policy::{Denial, Reason};

use crate::fault::BodyFault;
use crate::grpc;

/// Initial expansion ratio: JSON of floats compresses three to five times.
const FIRST_GUESS: usize = 4;

/// Minimum growth of the buffer.
const LEAST_GROWTH: usize = 4096;

/// Returns the body in its format: expanded if the plan says so, else unchanged. Denials are
/// `body-too-large` and `malformed`.
///
/// # Errors
/// It is not in its coding, or too large.
pub fn expand<'a>(
    plan: &BodyPlan,
    body: impl Into<Cow<'a, [u8]>>,
) -> Result<Cow<'a, [u8]>, Denial> {
    let body = body.into();
    match plan.expansion {
        None => Ok(body),
        // An empty body is not compressed; the decoder decides whether it is valid.
        Some(_) if body.is_empty() => Ok(body),
        Some(expansion) if grpc::is_framed(plan.format) => message(&expansion, body),
        Some(expansion) => {
            let mut plain = Vec::new();
            stream(&expansion, &body, &mut plain)?;
            Ok(Cow::Owned(plain))
        }
    }
}

/// The only message of a gRPC body in a plain frame. Each message has its own compression flag.
fn message<'a>(expansion: &Expansion, body: Cow<'a, [u8]>) -> Result<Cow<'a, [u8]>, Denial> {
    let Some(compressed) = grpc::compressed(&body)? else {
        return Ok(body);
    };
    let mut plain = grpc::PLAIN_FRAME.to_vec();
    stream(expansion, compressed, &mut plain)?;
    let bytes = plain.len().saturating_sub(grpc::PLAIN_FRAME.len());
    // A policy's maximum body is smaller than a frame's.
    let length = u32::try_from(bytes).map_err(|_| too_large(expansion.max_bytes))?;
    if let Some(at) = plain.get_mut(1..grpc::PLAIN_FRAME.len()) {
        at.copy_from_slice(&length.to_be_bytes());
    }
    Ok(Cow::Owned(plain))
}

/// Maximum expanded size of a body, or of the message in a frame. Gzip ends with the size, which
/// expanding verifies.
pub fn most_expanded(expansion: &Expansion, body: &[u8]) -> usize {
    let most = expansion.most(body.len());
    match expansion.coding {
        Coding::Gzip => most.min(declared_bytes(body)),
        Coding::Deflate => most,
    }
}

/// The expanded size at the end of a gzip stream (RFC 1952, section 2.3.1).
fn declared_bytes(body: &[u8]) -> usize {
    let size = body.last_chunk().copied().map_or(0, u32::from_le_bytes);
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// Expands one stream after the contents of `plain`, which count as expanded.
fn stream(expansion: &Expansion, body: &[u8], plain: &mut Vec<u8>) -> Result<(), Denial> {
    let most = expansion.most(body.len()).saturating_add(plain.len());
    plain.reserve_exact(body.len().saturating_mul(FIRST_GUESS).min(most));
    match expansion.coding {
        Coding::Gzip => gzip(body, plain, most),
        Coding::Deflate => zlib(body, plain, most),
    }
}

fn gzip(body: &[u8], plain: &mut Vec<u8>, most: usize) -> Result<(), Denial> {
    let mut decoder = GzDecoder::new(body);
    let declared = plain.len().saturating_add(declared_bytes(body));
    let room = most.min(declared).saturating_sub(plain.len());
    // One byte more than allowed, so that the decoder reaches its end and checks checksum and
    // length.
    let one_more = u64::try_from(room).map_or(u64::MAX, |room| room.saturating_add(1));
    (&mut decoder)
        .take(one_more)
        .read_to_end(plain)
        .map_err(|_| broken(body.len()))?;
    if plain.len() > most {
        return Err(too_large(most));
    }
    if plain.len() > declared {
        return Err(broken(body.len()));
    }
    ends(decoder.into_inner().len(), body.len())
}

fn zlib(body: &[u8], plain: &mut Vec<u8>, most: usize) -> Result<(), Denial> {
    let mut decoder = Decompress::new(true);
    loop {
        if plain.len() == plain.capacity() {
            // One byte more than allowed, so that a body of the maximum size reaches its end.
            let room = most.saturating_add(1).saturating_sub(plain.len());
            plain.reserve_exact(room.min(plain.len().max(LEAST_GROWTH)));
        }
        let (read, written) = (decoder.total_in(), plain.len());
        let rest = usize::try_from(read).ok().and_then(|read| body.get(read..));
        let status = decoder
            .decompress_vec(rest.unwrap_or_default(), plain, FlushDecompress::None)
            .map_err(|_| broken(body.len()))?;
        if plain.len() > most {
            return Err(too_large(most));
        }
        let progressed = decoder.total_in() > read || plain.len() > written;
        match status {
            Status::StreamEnd => {
                let read = usize::try_from(decoder.total_in()).unwrap_or(usize::MAX);
                return ends(body.len().saturating_sub(read), body.len());
            }
            Status::Ok | Status::BufError if progressed => {}
            // All input was read without an end.
            Status::Ok | Status::BufError => return Err(broken(body.len())),
        }
    }
}

/// Checks that the stream ends with the body.
fn ends(left: usize, bytes: usize) -> Result<(), Denial> {
    if left == 0 {
        return Ok(());
    }
    Err(BodyFault::Form {
        what: "there are bytes after the end of the compressed body",
        at: bytes.saturating_sub(left),
    }
    .into())
}

fn broken(at: usize) -> Denial {
    BodyFault::Form {
        what: "the compressed body cannot be expanded",
        at,
    }
    .into()
}

fn too_large(most: usize) -> Denial {
    Denial::new(
        Reason::BodyTooLarge,
        format!(
            "the body expands to more than {most} bytes, the most that its size and the policy allow"
        ),
    )
}
