//! Requests of the decision vectors, mutated.

use tensorgate_vectors::{Field, RawRequest};

use crate::random::Random;

/// Bytes that matter to one of the gate's parsers.
const TOKENS: [&[u8]; 16] = [
    b"\0",
    b"\xff",
    b"\"",
    b"\\u0000",
    b"[",
    b"{",
    b"}",
    b",",
    b"-",
    b"1e999",
    b"NaN",
    b"\r\n",
    b"%00",
    b"\x80",
    b"\x0a\xff\xff\xff\xff\x0f",
    b"\xc3\x28",
];
/// Names of fields that the gate reads, and one that it does not know.
const NAMES: [&str; 14] = [
    "x-api-key",
    "authorization",
    "content-type",
    "content-length",
    "content-encoding",
    "inference-header-content-length",
    "x-request-id",
    "traceparent",
    "x-forwarded-for",
    "x-tensorgate-context",
    "te",
    "grpc-timeout",
    "expect",
    "x-other",
];

/// The hooks in which a debug build of the module can panic.
pub const HOOKS: [&str; 10] = [
    "Configuration",
    "KeyFetches",
    "Begin",
    "RequestHeaders",
    "RequestBody",
    "RequestTrailers",
    "ResponseBody",
    "ResponseTrailers",
    "StreamComplete",
    "Scheduled",
];

/// A request as Envoy delivers it.
pub struct Request {
    pub fields: Vec<Field>,
    pub pieces: Vec<Vec<u8>>,
    pub has_trailers: bool,
}

/// Mutates a request; one in four stays as it is, but for its pieces.
pub fn mutate(random: &mut Random, seed: &RawRequest) -> Request {
    let (mut fields, mut body) = (seed.fields(), seed.body.clone());
    if !random.one_in(4) {
        for _ in 0..=random.below(4) {
            if random.one_in(2) {
                mutate_fields(random, &mut fields);
            } else {
                mutate_bytes(random, &mut body);
            }
        }
    }
    if random.one_in(16) {
        let hook = random.choose(&HOOKS);
        fields.push((b"x-test-panic".to_vec(), hook.as_bytes().to_vec()));
    }
    Request {
        fields,
        pieces: pieces(random, seed, &body),
        has_trailers: random.one_in(8),
    }
}

fn mutate_fields(random: &mut Random, fields: &mut Vec<Field>) {
    let at = random.below(fields.len());
    match random.below(5) {
        0 if !fields.is_empty() => drop(fields.remove(at)),
        1 if !fields.is_empty() => fields.push(fields[at].clone()),
        2 => {
            let name = random.choose(&NAMES);
            let mut value = random.choose(&TOKENS).to_vec();
            mutate_bytes(random, &mut value);
            fields.push((name.as_bytes().to_vec(), value));
        }
        3 if !fields.is_empty() => mutate_bytes(random, &mut fields[at].0),
        _ if !fields.is_empty() => mutate_bytes(random, &mut fields[at].1),
        _ => {}
    }
}

fn mutate_bytes(random: &mut Random, bytes: &mut Vec<u8>) {
    let (at, other) = (random.below(bytes.len()), random.below(bytes.len()));
    let (start, end) = (at.min(other), at.max(other));
    match random.below(6) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(start..end)),
        2 => bytes.extend_from_within(start..end),
        3 => drop(bytes.splice(at..at, random.choose(&TOKENS).iter().copied())),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.byte();
            }
        }
    }
}

/// The body in pieces: as the vector sends it, in one, or of any size, some of them empty.
fn pieces(random: &mut Random, seed: &RawRequest, body: &[u8]) -> Vec<Vec<u8>> {
    if body.is_empty() {
        return Vec::new();
    }
    let bytes = match random.below(4) {
        0 => seed.chunk_bytes.unwrap_or(body.len()),
        1 => body.len(),
        2 => 1 + random.below(body.len()),
        _ => 1 + random.below(16),
    };
    let mut pieces: Vec<_> = body.chunks(bytes.max(1)).map(<[u8]>::to_vec).collect();
    if random.one_in(4) {
        pieces.insert(random.below(pieces.len()), Vec::new());
    }
    pieces
}
