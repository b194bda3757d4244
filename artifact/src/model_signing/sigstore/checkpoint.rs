//! Checkpoints: signed notes in which a log states the size and the root of its tree.

use super::merkle::Hash;
use super::trusted_root::Log;
use crate::model_signing::json::{base64, decimal};

/// Maximum size of a note, in bytes. Usual ones have less than 1 KB.
const MAX_BYTES: usize = 16 << 10;
/// Maximum signatures of a note: of the log, and of witnesses.
const MAX_SIGNATURES: usize = 16;
/// Octets of a log's ID before a signature.
const ID_BYTES: usize = 4;

/// What a log states about its tree. It is not verified yet.
pub(super) struct Checkpoint<'a> {
    /// The name of the log.
    pub(super) origin: &'a str,
    pub(super) size: u64,
    pub(super) root: Hash,
    /// The text that is signed.
    signed: &'a str,
    /// Each with the name of who has signed, and after the start of the ID.
    signatures: Vec<(&'a str, Vec<u8>)>,
}

impl<'a> Checkpoint<'a> {
    pub(super) fn read(note: &'a str) -> Option<Self> {
        if note.len() > MAX_BYTES {
            return None;
        }
        let (text, signatures) = note.split_once("\n\n")?;
        // With the end of its last line.
        let signed = note.get(..=text.len())?;
        let mut lines = text.split('\n');
        let origin = lines.next().filter(|origin| !origin.is_empty())?;
        let size = decimal(lines.next()?)?;
        let root = Hash::try_from(base64(lines.next()?)?).ok()?;
        let signatures = signatures.strip_suffix('\n')?.split('\n');
        let signatures: Vec<_> = signatures
            .take(MAX_SIGNATURES.saturating_add(1))
            .map(signature)
            .collect::<Option<_>>()?;
        (signatures.len() <= MAX_SIGNATURES).then_some(Self {
            origin,
            size,
            root,
            signed,
            signatures,
        })
    }

    /// Whether a log with this ID has signed it. Logs of Rekor v2 sign under their own name; the
    /// names in notes of Rekor v1 vary.
    pub(super) fn is_signed_by(&self, log: &Log, id: &[u8; 32], is_of_rekor_2: bool) -> bool {
        self.signatures.iter().any(|(name, signature)| {
            let parts = signature.split_at_checked(ID_BYTES);
            let is_signature = parts.is_some_and(|(start, signature)| {
                id.starts_with(start) && log.key.verifies(self.signed.as_bytes(), signature)
            });
            is_signature && (!is_of_rekor_2 || *name == log.origin)
        })
    }
}

/// Name and signature in a line: a dash, a name without spaces, and base64.
fn signature(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let signature = base64(signature).filter(|_| !name.is_empty())?;
    Some((name, signature))
}
