//! An entry of a log of signatures: whether a trusted log has it, and since when.
//!
//! Logs of Rekor v1 sign the time of an entry. Those of Rekor v2 sign no time, so the time is that
//! of a time stamp.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tensorgate_values::hex;

use super::checkpoint::Checkpoint;
use super::fault::IdentityFault;
use super::merkle::{self, Hash};
use super::trusted_root::{Log, TrustedRoot};
use crate::model_signing::json::{base64, excerpt};
use crate::model_signing::log_entry::{InclusionProof, LogEntry};
use crate::model_signing::requirements::{SignedAt, TimeSource};

/// Maximum size of an entry, in bytes. Usual ones have 2 KB; a certificate may have 16 KiB, and its
/// base64 stands in base64.
const MAX_BODY_BYTES: usize = 64 << 10;

/// An entry that a trusted log has.
#[derive(Debug)]
pub(super) struct Logged {
    pub(super) body: Vec<u8>,
    /// When it was there.
    pub(super) signed_at: SignedAt,
}

/// Whether an entry is one of Rekor v2, which has no signed time.
fn is_of_rekor_2(entry: &LogEntry) -> Result<bool, IdentityFault> {
    let kind = &entry.kind_version;
    match (kind.kind.as_str(), kind.version.as_str()) {
        ("dsse", "0.0.1") => Ok(false),
        ("dsse" | "hashedrekord", "0.0.2") => Ok(true),
        (kind, version) => Err(IdentityFault::Kind(excerpt(&format!("{kind} {version}")))),
    }
}

/// Verifies that an entry is in the log's signed tree, and its signed time. `stamped_s` is the time
/// of a time stamp in seconds since 1970, which an entry of Rekor v2 needs, or why there is none.
pub(super) fn check(
    entry: &LogEntry,
    root: &TrustedRoot,
    stamped_s: Result<u64, IdentityFault>,
) -> Result<Logged, IdentityFault> {
    let is_of_rekor_2 = is_of_rekor_2(entry)?;
    let id = base64(&entry.log_id.key_id).ok_or(IdentityFault::Field("log ID"))?;
    let body = base64(&entry.canonicalized_body)
        .filter(|body| body.len() <= MAX_BODY_BYTES)
        .ok_or(IdentityFault::Field("body"))?;
    let signed_at = if is_of_rekor_2 {
        // A reader could take for verified what such an entry does not have.
        if entry.integrated_time.0 != 0 {
            return Err(IdentityFault::Unverified("a time"));
        }
        if entry.inclusion_promise.is_some() {
            return Err(IdentityFault::Unverified("a promise"));
        }
        SignedAt {
            time_s: stamped_s?,
            source: TimeSource::TimeStamp,
        }
    } else {
        SignedAt {
            time_s: entry.integrated_time.0,
            source: TimeSource::Log,
        }
    };
    let log = root
        .entry_logs
        .find(&id, signed_at.time_s)?
        .ok_or_else(|| IdentityFault::UnknownLog(excerpt(&hex(&id))))?;
    if !is_of_rekor_2 {
        check_promise(entry, log, &body)?;
    }
    let proof = entry.inclusion_proof.as_ref();
    let proof = proof.ok_or(IdentityFault::Field("inclusion proof"))?;
    let checkpoint =
        Checkpoint::read(&proof.checkpoint.envelope).ok_or(IdentityFault::Field("checkpoint"))?;
    let log_id = if is_of_rekor_2 {
        if checkpoint.origin != log.origin {
            return Err(IdentityFault::Origin {
                found: excerpt(checkpoint.origin),
                log: excerpt(&log.origin),
            });
        }
        &log.note_id
    } else {
        &log.id
    };
    if !checkpoint.is_signed_by(log, log_id, is_of_rekor_2) {
        return Err(IdentityFault::Checkpoint(hex(log_id)));
    }
    check_inclusion(proof, &checkpoint, &body)?;
    Ok(Logged { body, signed_at })
}

/// Verifies the log's signature over the entry, its index and its time, in the canonical form of
/// JSON (RFC 8785).
fn check_promise(entry: &LogEntry, log: &Log, body: &[u8]) -> Result<(), IdentityFault> {
    let promise = entry.inclusion_promise.as_ref();
    let signature = promise
        .and_then(|promise| base64(&promise.signed_entry_timestamp))
        .ok_or(IdentityFault::Field("inclusion promise"))?;
    let id = hex(&log.id);
    let signed = format!(
        r#"{{"body":"{}","integratedTime":{},"logID":"{id}","logIndex":{}}}"#,
        STANDARD.encode(body),
        entry.integrated_time.0,
        entry.log_index.0,
    );
    if log.key.verifies(signed.as_bytes(), &signature) {
        Ok(())
    } else {
        Err(IdentityFault::Promise(id))
    }
}

/// Verifies that the entry is in the tree that the log has signed.
fn check_inclusion(
    proof: &InclusionProof,
    checkpoint: &Checkpoint<'_>,
    body: &[u8],
) -> Result<(), IdentityFault> {
    let root = hash(&proof.root_hash)?;
    if (checkpoint.size, checkpoint.root) != (proof.tree_size.0, root) {
        return Err(IdentityFault::OtherTree);
    }
    let siblings: Vec<Hash> = proof
        .hashes
        .iter()
        .map(|text| hash(text))
        .collect::<Result<_, _>>()?;
    let leaf = merkle::leaf(body);
    let found = merkle::root(leaf, proof.log_index.0, checkpoint.size, &siblings);
    if found == Some(root) {
        Ok(())
    } else {
        Err(IdentityFault::Inclusion)
    }
}

fn hash(text: &str) -> Result<Hash, IdentityFault> {
    base64(text)
        .and_then(|bytes| Hash::try_from(bytes).ok())
        .ok_or(IdentityFault::Field("inclusion proof"))
}
