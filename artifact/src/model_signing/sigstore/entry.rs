//! An entry of a log of signatures: whether a trusted log has it, and since when.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tensorgate_policy::hex;

use super::checkpoint::Checkpoint;
use super::fault::IdentityFault;
use super::merkle::{self, Hash};
use super::trusted_root::{Log, TrustedRoot};
use crate::model_signing::json::{base64, excerpt};
use crate::model_signing::log_entry::{InclusionProof, LogEntry};

/// The only kind of entries that is verified.
const KIND: (&str, &str) = ("dsse", "0.0.1");
/// Maximum size of an entry, in bytes. Usual ones have 2 KB; a certificate may have 16 KiB, and its
/// base64 stands in base64.
const MAX_BODY_BYTES: usize = 64 << 10;

/// An entry that a trusted log has.
pub(super) struct Logged {
    pub(super) body: Vec<u8>,
    /// When the log took it in, in seconds since 1970.
    pub(super) time_s: u64,
}

/// Verifies the signed time of an entry, and that the entry is in the log's signed tree.
pub(super) fn check(entry: &LogEntry, root: &TrustedRoot) -> Result<Logged, IdentityFault> {
    let kind = &entry.kind_version;
    if (kind.kind.as_str(), kind.version.as_str()) != KIND {
        let found = format!("{} {}", kind.kind, kind.version);
        return Err(IdentityFault::Kind(excerpt(&found)));
    }
    let id = base64(&entry.log_id.key_id).ok_or(IdentityFault::Field("log ID"))?;
    let body = base64(&entry.canonicalized_body)
        .filter(|body| body.len() <= MAX_BODY_BYTES)
        .ok_or(IdentityFault::Field("body"))?;
    let time_s = entry.integrated_time.0;
    let log = root
        .entry_logs()
        .find(&id, time_s)?
        .ok_or_else(|| IdentityFault::UnknownLog(excerpt(&hex(&id))))?;
    check_promise(entry, log, &body)?;
    let proof = entry.inclusion_proof.as_ref();
    check_inclusion(
        proof.ok_or(IdentityFault::Field("inclusion proof"))?,
        log,
        &body,
    )?;
    Ok(Logged { body, time_s })
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

/// Verifies that the entry is in a tree that the log has signed.
fn check_inclusion(proof: &InclusionProof, log: &Log, body: &[u8]) -> Result<(), IdentityFault> {
    let checkpoint =
        Checkpoint::read(&proof.checkpoint.envelope).ok_or(IdentityFault::Field("checkpoint"))?;
    if !checkpoint.is_signed_by(log) {
        return Err(IdentityFault::Checkpoint(hex(&log.id)));
    }
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
