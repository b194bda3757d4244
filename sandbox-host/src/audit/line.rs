//! One line, sealed: `{"v":1,"seq":…,"time":…,"type":…, … ,"prev":"…","hash":"…"}`.
//!
//! `hash` is SHA-256 over every byte of the line before `,"hash":`; `prev` is the hash of the line before. A signed line has a
//! `signature` between the two, over every byte before `,"signature":`. The seals stand at the end at fixed widths, so that a
//! verifier finds them without parsing what they cover, and no two readings of a line can differ about what was covered.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::key::{SigningKey, VerifyingKey, hex, unhex};
use super::record::{Event, FORMAT};
use super::time::rfc3339;

/// A line, bytes: far more than its fields' own bounds come to.
pub const MAX_LINE_BYTES: usize = 64 << 10;

/// What most lines are shorter than, bytes.
const USUAL_LINE_BYTES: usize = 1 << 10;

const HASH_MEMBER: &str = ",\"hash\":\"";
const SIGNATURE_MEMBER: &str = ",\"signature\":\"";
const END: &str = "\"}";

/// SHA-256 of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash(pub [u8; 32]);

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl Hash {
    /// From 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        unhex(text.as_bytes()).map(Self)
    }
}

/// A line with its place in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The version of its fields.
    pub v: u64,
    /// Its number, from 1, without a gap.
    pub seq: u64,
    /// When: a request's beginning, or the moment of writing. RFC 3339, UTC, microseconds.
    pub time: String,
    /// What it says.
    #[serde(flatten)]
    pub event: Event,
}

/// How lines of a log are sealed.
#[derive(Clone, Debug)]
pub enum Seal {
    /// Chained, and some signed.
    Chain(SigningKey),
    /// Not at all.
    None,
}

/// Writes one line without its end, and says its hash.
///
/// # Errors
/// It has no JSON form.
pub fn seal(line: &Line, prev: Hash, seal: &Seal) -> Result<(String, Hash), serde_json::Error> {
    let mut text = Vec::new();
    let hash = append(&mut text, line, prev, seal)?;
    // JSON is UTF-8.
    let text = String::from_utf8(text).map_err(serde::ser::Error::custom)?;
    Ok((text, hash))
}

/// The same behind other lines. What has no JSON form leaves nothing there.
///
/// # Errors
/// It has no JSON form.
pub fn append(
    into: &mut Vec<u8>,
    line: &Line,
    prev: Hash,
    seal: &Seal,
) -> Result<Hash, serde_json::Error> {
    into.reserve(USUAL_LINE_BYTES);
    let start = into.len();
    if let Err(error) = serde_json::to_writer(&mut *into, line) {
        into.truncate(start);
        return Err(error);
    }
    let Seal::Chain(key) = seal else {
        return Ok(Hash::default());
    };
    // The closing brace comes back at the very end.
    into.pop();
    into.extend_from_slice(b",\"prev\":\"");
    into.extend_from_slice(hex(&prev.0).as_bytes());
    into.push(b'"');
    if signed(&line.event) {
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

/// Which lines are signed.
pub const fn signed(event: &Event) -> bool {
    matches!(
        event,
        Event::Open(_) | Event::Checkpoint { .. } | Event::Stop | Event::Head { .. }
    )
}

/// A line of the present.
pub fn line(seq: u64, time: SystemTime, event: Event) -> Line {
    Line {
        v: FORMAT,
        seq,
        time: rfc3339(time),
        event,
    }
}

/// Why text is no sealed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum LineFault {
    #[error("it is not a line of an audit log")]
    Form,
    #[error("it is of a version that this program does not know")]
    Version,
    #[error("it has no hash")]
    Unsealed,
    #[error("its content is not the one that its hash was made of")]
    Hash,
}

/// A sealed line that was read; its own hash is right.
#[derive(Clone, Debug)]
pub struct Sealed<'l> {
    /// Its number.
    pub seq: u64,
    /// What kind it is.
    pub kind: String,
    /// The hash of the line before.
    pub prev: Hash,
    /// Its own.
    pub hash: Hash,
    /// What a signature covers, and the signature.
    pub signature: Option<(&'l [u8], [u8; 64])>,
}

#[derive(Deserialize)]
struct Place {
    v: u64,
    seq: u64,
    #[serde(rename = "type")]
    kind: String,
    prev: Option<String>,
}

/// Reads one line without its end.
pub fn open(text: &[u8]) -> Result<Sealed<'_>, LineFault> {
    let place: Place = serde_json::from_slice(text).map_err(|_| LineFault::Form)?;
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
    /// Whether it is signed by this key.
    pub fn signed_by(&self, key: &VerifyingKey) -> bool {
        self.signature
            .is_some_and(|(content, signature)| key.verifies(content, &signature))
    }
}

/// What stands before a member at the end of a text, and the member's bytes.
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::audit::record::Decision;

    fn key() -> SigningKey {
        SigningKey::from_seed([7; 32])
    }

    fn sealed(event: Event) -> (String, Hash) {
        let line = line(5, std::time::UNIX_EPOCH, event);
        seal(&line, Hash([9; 32]), &Seal::Chain(key())).unwrap()
    }

    fn decision() -> Event {
        Event::Decision(Box::new(Decision {
            reason: "ok".into(),
            path: Some("/a\",\"hash\":\"b".into()),
            ..Decision::default()
        }))
    }

    #[test]
    fn a_line_opens_as_it_was_sealed() {
        for (event, signed) in [
            (decision(), false),
            (Event::Stop, true),
            (
                Event::Checkpoint {
                    decisions: 3,
                    dropped: 0,
                    heard: Default::default(),
                },
                true,
            ),
        ] {
            let (text, hash) = sealed(event.clone());
            let opened = open(text.as_bytes()).unwrap();
            assert_eq!(
                (opened.seq, opened.prev, opened.hash),
                (5, Hash([9; 32]), hash)
            );
            assert_eq!(opened.signed_by(&key().public()), signed, "{text}");
            let line: Line = serde_json::from_str(&text).unwrap();
            assert_eq!(line.event, event);
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&text).unwrap()["type"],
                opened.kind
            );
        }
    }

    #[test]
    fn a_line_behind_others_is_the_line_by_itself() {
        let line = line(5, std::time::UNIX_EPOCH, decision());
        for by in [Seal::Chain(key()), Seal::None] {
            let (alone, hash) = seal(&line, Hash([9; 32]), &by).unwrap();
            let mut behind = b"{}\n".to_vec();
            assert_eq!(
                append(&mut behind, &line, Hash([9; 32]), &by).unwrap(),
                hash
            );
            assert_eq!(behind, format!("{{}}\n{alone}").into_bytes());
        }
    }

    #[test]
    fn no_byte_of_a_line_can_be_changed() {
        let (text, _) = sealed(decision());
        for at in 0..text.len() {
            for byte in [b'0', b'1', b'a', b'"', b'}', b' '] {
                let mut bytes = text.clone().into_bytes();
                if bytes[at] != byte {
                    bytes[at] = byte;
                    assert!(open(&bytes).is_err(), "{at}");
                }
            }
        }
        assert_eq!(open(b"{}").unwrap_err(), LineFault::Form);
        assert_eq!(
            open(&text.as_bytes()[..text.len() - 1]).unwrap_err(),
            LineFault::Form
        );
        let unsealed = line(1, std::time::UNIX_EPOCH, Event::Stop);
        let (text, _) = seal(&unsealed, Hash::default(), &Seal::None).unwrap();
        assert_eq!(open(text.as_bytes()).unwrap_err(), LineFault::Unsealed);
        let newer = text.replace("\"v\":1", "\"v\":2");
        assert_eq!(open(newer.as_bytes()).unwrap_err(), LineFault::Version);
    }
}
