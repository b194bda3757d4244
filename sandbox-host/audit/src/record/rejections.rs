//! The summary of rejected requests of unknown callers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Rejected requests of unknown callers of one source that have no records of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejections {
    /// The source address, or its /64 of IPv6. Absent for requests without one, and for all sources
    /// that are not among the most frequent ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Their number.
    pub count: u64,
    /// Their number for each reason.
    pub reasons: BTreeMap<String, u64>,
    /// When the first of them began.
    pub first: String,
    /// When the last of them began.
    pub last: String,
    /// The gate's ID of the first of them that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<String>,
}
