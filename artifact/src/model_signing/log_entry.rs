//! An entry of a transparency log in a bundle, in the JSON form of Sigstore's protocol buffers.
//!
//! A writer may leave out members with the value zero, so each member has a default. The default
//! proves nothing.

use serde::Deserialize;

use super::json::{at_most, decimal};

/// Maximum hashes of an inclusion proof: one for each level of a tree with 64-bit indexes.
const MAX_HASHES: usize = 64;

/// An entry and the log's statements about it, which are not verified yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct LogEntry {
    /// Its index in the log, over all of the log's trees.
    pub(super) log_index: Decimal,
    pub(super) log_id: LogId,
    pub(super) kind_version: KindVersion,
    /// When the log took it in, in seconds since 1970.
    pub(super) integrated_time: Decimal,
    pub(super) inclusion_promise: Option<InclusionPromise>,
    pub(super) inclusion_proof: Option<InclusionProof>,
    /// The entry itself, base64.
    pub(super) canonicalized_body: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct LogId {
    /// The digest of the log's key, base64.
    pub(super) key_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct KindVersion {
    pub(super) kind: String,
    pub(super) version: String,
}

/// The log's signed promise to include the entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct InclusionPromise {
    /// A signature over the entry, its index and its time, base64.
    pub(super) signed_entry_timestamp: String,
}

/// The proof that the entry is in a tree of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct InclusionProof {
    /// The entry's index in this tree.
    pub(super) log_index: Decimal,
    /// The root of the tree, base64.
    pub(super) root_hash: String,
    pub(super) tree_size: Decimal,
    /// The siblings on the way from the entry to the root, base64.
    #[serde(deserialize_with = "at_most::<MAX_HASHES, _, _>")]
    pub(super) hashes: Vec<String>,
    pub(super) checkpoint: Checkpoint,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Checkpoint {
    /// A signed note about the tree.
    pub(super) envelope: String,
}

/// A number that JSON has as a text, as protocol buffers write 64-bit numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Decimal(pub(super) u64);

impl TryFrom<String> for Decimal {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        decimal(&text)
            .map(Self)
            .ok_or("a number of a log entry is not a text of decimal digits")
    }
}
