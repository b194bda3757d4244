//! What handlers reached over the network: a record for each request, and why one has no result.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// The most egress records in one audit record: those of four calls, and less than an audit record
/// may hold.
const MAX_EGRESS_RECORDS: usize = 64;

/// Why a resource was not resolved, as the guest sees it. The reasons distinguish a caller's fault
/// from other failures, but reveal nothing about the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveFailure {
    /// The policy does not allow the request or its destination.
    Refused,
    /// The destination does not answer, or cannot prove its identity.
    Unavailable,
    /// The request timed out.
    Timeout,
    /// The resource exceeds its size limit.
    TooLarge,
    /// The policy does not list the media type.
    WrongType,
    /// The server has no such resource, or denies access.
    NotFound,
}

impl ResolveFailure {
    /// Every reason, in the order of the interface's enum.
    pub const ALL: [Self; 6] = [
        Self::Refused,
        Self::Unavailable,
        Self::Timeout,
        Self::TooLarge,
        Self::WrongType,
        Self::NotFound,
    ];

    /// The name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::TooLarge => "too-large",
            Self::WrongType => "wrong-type",
            Self::NotFound => "not-found",
        }
    }
}

/// The record of one capability request in the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EgressRecord {
    /// The handler that made the request.
    pub handler: String,
    /// The name of the lookup. Empty for a file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lookup: String,
    /// The last host that was contacted. Empty if the URL was rejected before.
    pub host: String,
    /// `ok`, or why there is no result.
    pub outcome: String,
    /// The HTTP status of the last response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The number of response bytes that were read.
    pub bytes: u64,
    /// The number of redirects that were followed.
    pub redirects: u64,
    /// The duration in microseconds.
    pub took_us: u64,
}

/// The egress records of one request. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct EgressLog(Arc<Mutex<Vec<EgressRecord>>>);

impl EgressLog {
    /// Adds a record. Returns its index if there is room for it.
    pub fn record(&self, reached: EgressRecord) -> Option<usize> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.len();
        if entry < MAX_EGRESS_RECORDS {
            entries.push(reached);
            return Some(entry);
        }
        if entry == MAX_EGRESS_RECORDS {
            entries.push(EgressRecord {
                outcome: "further-not-told".to_owned(),
                ..EgressRecord::default()
            });
        }
        None
    }

    /// Replaces a record with a more complete one.
    pub fn amend(&self, entry: Option<usize>, reached: EgressRecord) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = entry.and_then(|entry| entries.get_mut(entry)) {
            *known = reached;
        }
    }

    /// All records so far.
    pub fn entries(&self) -> Vec<EgressRecord> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
