//! The fields of a context, in this order:
//!
//! | field | form |
//! |---|---|
//! | time of signing | 4 bytes, Unix seconds |
//! | digest of method and path | 8 bytes |
//! | work, proofs | 4 bits each |
//! | operations | 5 bits |
//! | form of client and of credential | 1 bit and 2 bits |
//! | form of end user, source, expiry, request id and generation | 2, 2, 1, 1 and 1 bits |
//! | number of quotas and of claims | 2 and 6 bits |
//! | client, credential, request id, generation | a text, or bytes |
//! | largest body, expiry | numbers |
//! | quotas | numbers; times in ms, rounded up: answers show seconds, rounded up |
//! | claims | texts |
//! | end user, source | 8 bytes each |
//!
//! Of a byte, the lowest bits come first. Numbers are LEB128 in their shortest form. A text has its
//! length before it. Names of keys, ids of requests and generations are mostly hex digits, and then
//! stand as bytes.

use tensorgate_policy::decision::FilterWork;
use tensorgate_policy::policy::{RemainingQuota, Wait};
use tensorgate_policy::request::{
    CallerDigest, CallerDigests, HolderDigest, KEY_NAME, Operations, Proofs,
};
use tensorgate_policy::time::MILLISECOND_NS;
use tensorgate_policy::{hex, unhex};

use super::{Context, REQUEST_DIGEST_BYTES, Unsigned};
use crate::limits::MAX_CLAIM_FIELDS;
use crate::request_id::{uuid_bytes, uuid_text};

/// Number of bits for the filters' work, below those of the proofs.
const WORK_BITS: u8 = 4;
const COUNTS: u8 = 1;
const CHECKS: u8 = 2;
const BUFFERED: u8 = 4;
const LEAVES_CHARGE: u8 = 8;

/// Number of bits for the operations, below those of client and credential.
const OPERATION_BITS: u8 = 5;
const HAS_CLIENT: u8 = 1 << OPERATION_BITS;
const CREDENTIAL_SHIFT: u8 = OPERATION_BITS + 1;

const SOURCE_SHIFT: u8 = 2;
const HAS_EXPIRY: u8 = 1 << 4;
const IS_UUID: u8 = 1 << 5;
const IS_HEX: u8 = 1 << 6;

/// Maximum number of quotas: the request limits of a grant.
const MAX_QUOTAS: usize = 2;
const CLAIMS_SHIFT: u8 = 2;
const _: () = assert!(MAX_CLAIM_FIELDS <= (u8::MAX >> CLAIMS_SHIFT) as usize);

/// Which form a credential has.
const ABSENT: u8 = 0;
const TEXT: u8 = 1;
const BYTES: u8 = 2;

/// Which form a digest has.
const UNKNOWN: u8 = 0;
const KNOWN: u8 = 1;
const NOT_LIMITED: u8 = 2;

/// Appends the fields of a context.
pub(super) fn write<'a, C: ExactSizeIterator<Item = (&'a str, &'a str)>>(
    context: Unsigned<'a, C>,
    request: [u8; REQUEST_DIGEST_BYTES],
    fields: &mut Vec<u8>,
) {
    let issued_unix_s = u32::try_from(context.issued_unix_s).unwrap_or(u32::MAX);
    fields.extend_from_slice(&issued_unix_s.to_be_bytes());
    fields.extend_from_slice(&request);
    fields.push(work_bits(&context.work) | context.proofs.to_bits() << WORK_BITS);
    let key = context.credential.and_then(key_digest);
    let credential = match (context.credential, key) {
        (None, _) => ABSENT,
        (Some(_), None) => TEXT,
        (Some(_), Some(_)) => BYTES,
    };
    let client = bit(context.client.is_some(), HAS_CLIENT);
    fields.push(context.withheld.to_bits() | client | credential << CREDENTIAL_SHIFT);
    let id = uuid_bytes(context.request_id);
    let generation = unhex::<8>(context.generation.as_bytes());
    fields.push(
        digest_kind(context.caller.user)
            | digest_kind(context.caller.source) << SOURCE_SHIFT
            | bit(context.until_unix_s.is_some(), HAS_EXPIRY)
            | bit(id.is_some(), IS_UUID)
            | bit(generation.is_some(), IS_HEX),
    );
    let quotas = context.quotas.get(..MAX_QUOTAS).unwrap_or(context.quotas);
    let count = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
    // More than `MAX_CLAIM_FIELDS` are refused when they are read.
    let claims = count(context.claims.len()).min(u8::MAX >> CLAIMS_SHIFT);
    fields.push(count(quotas.len()) | claims << CLAIMS_SHIFT);
    if let Some(client) = context.client {
        put_text(fields, client);
    }
    match (context.credential, key) {
        (_, Some(digest)) => fields.extend_from_slice(&digest),
        (Some(text), None) => put_text(fields, text),
        (None, None) => {}
    }
    match id {
        Some(bytes) => fields.extend_from_slice(&bytes),
        None => put_text(fields, context.request_id),
    }
    match generation {
        Some(bytes) => fields.extend_from_slice(&bytes),
        None => put_text(fields, context.generation),
    }
    put_number(fields, context.work.max_body_bytes);
    if let Some(until_unix_s) = context.until_unix_s {
        put_number(fields, until_unix_s);
    }
    for quota in quotas {
        put_number(fields, quota.left);
        put_number(fields, quota.full_after_ns.div_ceil(MILLISECOND_NS));
        // 0: none, 1: forever, else the time in ms plus 2.
        put_number(
            fields,
            match quota.wait {
                Wait::None => 0,
                Wait::Forever => 1,
                Wait::Ns(wait_ns) => wait_ns.div_ceil(MILLISECOND_NS).saturating_add(2),
            },
        );
    }
    for (name, value) in context.claims {
        put_text(fields, name);
        put_text(fields, value);
    }
    for digest in [context.caller.user, context.caller.source] {
        if let Some(digest) = digest.known() {
            fields.extend_from_slice(&digest.to_bits().to_be_bytes());
        }
    }
}

/// Reads the fields of a context, without method and path, and their digest.
pub(super) fn read(mut rest: &[u8]) -> Option<(Context, [u8; REQUEST_DIGEST_BYTES])> {
    let rest = &mut rest;
    let issued_unix_s = u32::from_be_bytes(take_chunk(rest)?).into();
    let request = take_chunk(rest)?;
    let [work, named, forms, counts] = take_chunk(rest)?;
    let proofs = Proofs::from_bits(work >> WORK_BITS)?;
    let withheld = Operations::from_bits(named & (HAS_CLIENT - 1))?;
    let client = match named & HAS_CLIENT {
        0 => None,
        _ => Some(take_text(rest)?),
    };
    let credential = match named >> CREDENTIAL_SHIFT {
        ABSENT => None,
        // A name has one encoding.
        TEXT => Some(take_text(rest)?)
            .filter(|text| key_digest(text).is_none())
            .map(Some)?,
        BYTES => Some([KEY_NAME, &hex(&take_chunk::<8>(rest)?)].concat()),
        _ => return None,
    };
    let request_id = match forms & IS_UUID {
        0 => take_text(rest).filter(|text| uuid_bytes(text).is_none())?,
        _ => uuid_text(take_chunk(rest)?),
    };
    let generation = match forms & IS_HEX {
        0 => take_text(rest).filter(|text| unhex::<8>(text.as_bytes()).is_none())?,
        _ => hex(&take_chunk::<8>(rest)?),
    };
    let work = work_of(work, take_number(rest)?);
    let until_unix_s = match forms & HAS_EXPIRY {
        0 => None,
        _ => Some(take_number(rest)?),
    };
    let quotas = usize::from(counts & ((1 << CLAIMS_SHIFT) - 1));
    let claims = usize::from(counts >> CLAIMS_SHIFT);
    if quotas > MAX_QUOTAS || claims > MAX_CLAIM_FIELDS || forms > (IS_HEX << 1) - 1 {
        return None;
    }
    let quotas = (0..quotas).map(|_| read_quota(rest));
    let quotas = quotas.collect::<Option<_>>()?;
    let claims = (0..claims).map(|_| Some((take_text(rest)?, take_text(rest)?)));
    let claims = claims.collect::<Option<_>>()?;
    let caller = CallerDigests {
        user: read_digest(rest, forms)?,
        source: read_digest(rest, forms >> SOURCE_SHIFT)?,
    };
    let context = Context {
        client,
        credential,
        proofs,
        withheld,
        request_id,
        method: String::new(),
        path: String::new(),
        generation,
        issued_unix_s,
        until_unix_s,
        work,
        quotas,
        claims,
        caller,
    };
    rest.is_empty().then_some((context, request))
}

const fn bit(is_set: bool, bit: u8) -> u8 {
    if is_set { bit } else { 0 }
}

fn work_bits(work: &FilterWork) -> u8 {
    bit(work.counts, COUNTS)
        | bit(work.checks, CHECKS)
        | bit(work.buffered, BUFFERED)
        | bit(work.leaves_charge, LEAVES_CHARGE)
}

const fn work_of(flags: u8, max_body_bytes: u64) -> FilterWork {
    FilterWork {
        counts: flags & COUNTS != 0,
        checks: flags & CHECKS != 0,
        buffered: flags & BUFFERED != 0,
        leaves_charge: flags & LEAVES_CHARGE != 0,
        max_body_bytes,
    }
}

/// The first bytes of a key's digest, if this is the name of a key.
fn key_digest(name: &str) -> Option<[u8; 8]> {
    unhex(name.strip_prefix(KEY_NAME)?.as_bytes())
}

fn read_quota(rest: &mut &[u8]) -> Option<RemainingQuota> {
    let ns = |ms: u64| ms.saturating_mul(MILLISECOND_NS);
    Some(RemainingQuota {
        left: take_number(rest)?,
        full_after_ns: ns(take_number(rest)?),
        wait: match take_number(rest)? {
            0 => Wait::None,
            1 => Wait::Forever,
            more => Wait::Ns(ns(more.saturating_sub(2))),
        },
    })
}

const fn digest_kind(digest: CallerDigest) -> u8 {
    match digest {
        CallerDigest::Unknown => UNKNOWN,
        CallerDigest::Known(_) => KNOWN,
        CallerDigest::NotLimited => NOT_LIMITED,
    }
}

fn read_digest(rest: &mut &[u8], forms: u8) -> Option<CallerDigest> {
    Some(match forms & ((1 << SOURCE_SHIFT) - 1) {
        UNKNOWN => CallerDigest::Unknown,
        KNOWN => CallerDigest::Known(HolderDigest::new(u64::from_be_bytes(take_chunk(rest)?))),
        NOT_LIMITED => CallerDigest::NotLimited,
        _ => return None,
    })
}

fn put_number(fields: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            fields.push(low & 0x7f);
            return;
        }
        fields.push(low | 0x80);
    }
}

/// Reads a number in its shortest form.
fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let [byte] = take_chunk(rest)?;
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << shift;
        if shifted >> shift != bits {
            return None;
        }
        number |= shifted;
        if byte < 0x80 {
            return (shift == 0 || byte != 0).then_some(number);
        }
    }
    None
}

fn put_text(fields: &mut Vec<u8>, text: &str) {
    put_number(fields, u64::try_from(text.len()).unwrap_or(u64::MAX));
    fields.extend_from_slice(text.as_bytes());
}

fn take_chunk<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*chunk)
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(take_number(rest)?).ok()?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}
