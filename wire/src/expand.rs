//! Compressed bodies to plain ones, within the bounds that the plan states. A body is one stream in one coding, checked to its last byte: what
//! two readers could expand to two things (a second member, bytes behind the end, a wrong sum) is refused.
//!
//! What is spent on a body is bounded by what came of it ([`Expansion::most`]). Nothing is expanded beyond the bound to find out how much more there is.

use std::borrow::Cow;
use std::io::Read as _;

use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use tensorgate_policy::decision::{BodyPlan, Expansion};
use tensorgate_policy::request::Coding;
use tensorgate_policy::{Denial, Reason};

use crate::fault::BodyFault;
use crate::grpc;

/// What an expanded body has room for at first, bytes a compressed one: JSON of floats takes three to five.
const FIRST_GUESS: usize = 4;

/// What room grows by at least, bytes.
const LEAST_GROWTH: usize = 4096;

/// The body as its format has it: expanded if its plan says that it is compressed, else as it came. Refusals are `body-too-large` and `malformed`.
///
/// # Errors
/// It is none of its coding, or larger than may be.
pub fn expand<'a>(
    plan: &BodyPlan,
    body: impl Into<Cow<'a, [u8]>>,
) -> Result<Cow<'a, [u8]>, Denial> {
    let body = body.into();
    match plan.expansion {
        None => Ok(body),
        // Where nothing is, nothing is compressed: whether that is a request is for its decoder to say.
        Some(_) if body.is_empty() => Ok(body),
        Some(expansion) if grpc::is_framed(plan.format) => message(&expansion, body),
        Some(expansion) => {
            let mut plain = Vec::new();
            stream(&expansion, &body, &mut plain)?;
            Ok(Cow::Owned(plain))
        }
    }
}

/// The one message of a gRPC body in a frame that says it is plain. Each message says by itself whether it is compressed.
fn message<'a>(expansion: &Expansion, body: Cow<'a, [u8]>) -> Result<Cow<'a, [u8]>, Denial> {
    let Some(compressed) = grpc::compressed(&body)? else {
        return Ok(body);
    };
    let mut plain = grpc::PLAIN_FRAME.to_vec();
    stream(expansion, compressed, &mut plain)?;
    let bytes = plain.len().saturating_sub(grpc::PLAIN_FRAME.len());
    // Bounded by the largest body of a policy, which is less than what a frame can say.
    let length = u32::try_from(bytes).map_err(|_| too_large(expansion.max_bytes))?;
    if let Some(at) = plain.get_mut(1..grpc::PLAIN_FRAME.len()) {
        at.copy_from_slice(&length.to_be_bytes());
    }
    Ok(Cow::Owned(plain))
}

/// Expands one whole stream behind what `plain` holds already, which counts as expanded.
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
    let room = most.saturating_sub(plain.len());
    // One byte more than may be there: then the last look at the decoder is at its end, where it has compared sum and length.
    let one_more = u64::try_from(room).map_or(u64::MAX, |room| room.saturating_add(1));
    (&mut decoder)
        .take(one_more)
        .read_to_end(plain)
        .map_err(|_| broken(body.len()))?;
    if plain.len() > most {
        return Err(too_large(most));
    }
    ends(decoder.into_inner().len(), body.len())
}

fn zlib(body: &[u8], plain: &mut Vec<u8>, most: usize) -> Result<(), Denial> {
    let mut decoder = Decompress::new(true);
    loop {
        if plain.len() == plain.capacity() {
            // One byte more than may be there, so that a body of just as many comes to its end.
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
            // All is read, and there is no end.
            Status::Ok | Status::BufError => return Err(broken(body.len())),
        }
    }
}

/// Whether a stream's end is the body's.
fn ends(left: usize, bytes: usize) -> Result<(), Denial> {
    if left == 0 {
        return Ok(());
    }
    Err(BodyFault::Form {
        what: "bytes stand behind the end of the compressed body",
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
            "the body expands to more than {most} bytes, which is what its size and the policy allow"
        ),
    )
}
