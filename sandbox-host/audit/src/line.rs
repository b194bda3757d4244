//! A sealed record: `{"v":1,"seq":…,"time":…,"type":…, … ,"prev":"…","hash":"…"}`.
//!
//! `hash` is the SHA-256 digest of every byte of the line before `,"hash":`. `prev` is the hash of
//! the previous line. A signed line has a `signature` between the two, over every byte before
//! `,"signature":`. The seals are at the end with fixed widths. So a verifier finds them without
//! parsing what they cover, and the covered bytes are never ambiguous.

use std::borrow::Borrow;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tensorgate_base::rfc3339::rfc3339;

use crate::key::{SigningKey, VerifyingKey, hex, unhex};
use crate::record::{Event, FORMAT, shortened};

/// The longest line in bytes that is read.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// The longest line in bytes that is written, with its end. Container runtimes split longer ones.
pub const MAX_WRITTEN_BYTES: usize = 16 << 10;
/// The size of all seals and of the line's end, in bytes.
const SEALS_BYTES: usize = 320;
/// The longest content of a line in bytes.
const MAX_CONTENT_BYTES: usize = MAX_WRITTEN_BYTES.saturating_sub(SEALS_BYTES);

/// The size of most lines in bytes.
const USUAL_LINE_BYTES: usize = 1 << 10;

const HASH_MEMBER: &str = ",\"hash\":\"";
const SIGNATURE_MEMBER: &str = ",\"signature\":\"";
const END: &str = "\"}";

/// The SHA-256 digest of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash(pub [u8; 32]);

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl Hash {
    /// Parses 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        unhex(text.as_bytes()).map(Self)
    }
}

/// A record with its position in a log. Its event may be borrowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line<E = Event> {
    /// The version of the fields.
    pub v: u64,
    /// The number, from 1 without gaps.
    pub seq: u64,
    /// The time: a request's start, or the time of writing. RFC 3339, UTC, microseconds.
    pub time: String,
    /// The content.
    #[serde(flatten)]
    pub event: E,
}

/// How the records of a log are sealed.
#[derive(Clone, Debug)]
pub enum Seal {
    /// Chained, and some signed.
    Chain(SigningKey),
    /// Not at all.
    None,
}

/// Formats a record without its line end. Returns its hash.
///
/// # Errors
/// Returns an error if it has no JSON form.
pub fn seal<E: Borrow<Event> + Serialize>(
    line: &Line<E>,
    prev: Hash,
    seal: &Seal,
) -> Result<(String, Hash), serde_json::Error> {
    let mut text = Vec::new();
    let hash = append(&mut text, line, prev, seal)?;
    // JSON is UTF-8.
    let text = String::from_utf8(text).map_err(serde::ser::Error::custom)?;
    Ok((text, hash))
}

/// Appends a record to others. The record of a request that is too long for a line is shortened. On
/// an error nothing is appended.
///
/// # Errors
/// Returns an error if it has no JSON form.
pub fn append<E: Borrow<Event> + Serialize>(
    into: &mut Vec<u8>,
    line: &Line<E>,
    prev: Hash,
    seal: &Seal,
) -> Result<Hash, serde_json::Error> {
    into.reserve(USUAL_LINE_BYTES);
    let start = into.len();
    content(into, line)?;
    let content_bytes = into.len().saturating_sub(start);
    let excess = content_bytes.saturating_sub(MAX_CONTENT_BYTES);
    let event: &Event = line.event.borrow();
    if excess > 0
        && let Event::Decision(decision) = event
    {
        into.truncate(start);
        let shorter = Line {
            v: line.v,
            seq: line.seq,
            time: line.time.clone(),
            event: Event::Decision(Box::new(shortened(decision, excess))),
        };
        content(into, &shorter)?;
    }
    let Seal::Chain(key) = seal else {
        return Ok(Hash::default());
    };
    // The closing brace is added at the end.
    into.pop();
    into.extend_from_slice(b",\"prev\":\"");
    into.extend_from_slice(hex(&prev.0).as_bytes());
    into.push(b'"');
    if signed(line.event.borrow()) {
        let signature = key.sign(into.get(start..).unwrap_or_default());
        into.extend_from_slice(SIGNATURE_MEMBER.as_bytes());
        into.extend_from_slice(hex(&signature).as_bytes());
        into.push(b'"');
    }
    let hash = Hash(Sha256::digest(into.get(start..).unwrap_or_default()).into());
    into.extend_from_slice(HASH_MEMBER.as_bytes());
    into.extend_from_slice(hex(&hash.0).as_bytes());
    into.extend_from_slice(END.as_bytes());
    Ok(hash)
}

/// Appends a record without its seals. On an error nothing is appended.
fn content<E: Serialize>(into: &mut Vec<u8>, line: &Line<E>) -> Result<(), serde_json::Error> {
    let start = into.len();
    serde_json::to_writer(&mut *into, line).inspect_err(|_| into.truncate(start))
}

/// Whether a record is signed.
pub const fn signed(event: &Event) -> bool {
    matches!(
        event,
        Event::Open(_) | Event::Checkpoint { .. } | Event::Stop | Event::Head { .. }
    )
}

/// A record of the current format.
pub fn line<E>(seq: u64, time: SystemTime, event: E) -> Line<E> {
    Line {
        v: FORMAT,
        seq,
        time: rfc3339(time),
        event,
    }
}

/// Why text is not a sealed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum LineFault {
    #[error("it is not a line of an audit log")]
    Form,
    #[error("its version is not supported by this program")]
    Version,
    #[error("it has no hash")]
    Unsealed,
    #[error("its content does not match its hash")]
    Hash,
}

/// A sealed record whose own hash is correct.
#[derive(Clone, Debug)]
pub struct Sealed<'l> {
    /// Its number.
    pub seq: u64,
    /// Its type.
    pub kind: String,
    /// The hash of the previous record.
    pub prev: Hash,
    /// Its own hash.
    pub hash: Hash,
    /// The signed content and the signature.
    pub signature: Option<(&'l [u8], [u8; 64])>,
}

#[derive(Deserialize)]
struct Position {
    v: u64,
    seq: u64,
    #[serde(rename = "type")]
    kind: String,
    prev: Option<String>,
}

/// Parses a record without its line end.
pub fn open(text: &[u8]) -> Result<Sealed<'_>, LineFault> {
    let place: Position = serde_json::from_slice(text).map_err(|_| LineFault::Form)?;
    if place.v != FORMAT {
        return Err(LineFault::Version);
    }
    let prev = place.prev.ok_or(LineFault::Unsealed)?;
    let prev = Hash::from_hex(&prev).ok_or(LineFault::Form)?;
    let (content, hash) = tail::<32>(text, HASH_MEMBER, END).ok_or(LineFault::Unsealed)?;
    if Sha256::digest(content).as_slice() != hash {
        return Err(LineFault::Hash);
    }
    Ok(Sealed {
        seq: place.seq,
        kind: place.kind,
        prev,
        hash: Hash(hash),
        signature: tail::<64>(content, SIGNATURE_MEMBER, "\""),
    })
}

impl Sealed<'_> {
    /// Whether it is signed with this key.
    pub fn signed_by(&self, key: &VerifyingKey) -> bool {
        self.signature
            .is_some_and(|(content, signature)| key.verifies(content, &signature))
    }
}

/// Splits a member of fixed width from the end of a text.
fn tail<'t, const N: usize>(
    text: &'t [u8],
    member: &str,
    end: &str,
) -> Option<(&'t [u8], [u8; N])> {
    let rest = text.strip_suffix(end.as_bytes())?;
    let at = rest.len().checked_sub(N.checked_mul(2)?)?;
    let (before, digits) = rest.split_at_checked(at)?;
    Some((before.strip_suffix(member.as_bytes())?, unhex(digits)?))
}

#[cfg(test)]
mod tests;
