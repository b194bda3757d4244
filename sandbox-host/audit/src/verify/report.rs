//! What a verification finds: faults with their place, and counts.

use serde::Serialize;

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Records are missing between two others, or before the first.
    Removed,
    /// A record differs from the one that was written.
    Edited,
    /// A record is not at the position of its number.
    Swapped,
    /// A record exists twice.
    Repeated,
    /// Records are missing at the end.
    Truncated,
    /// A signature is not from this log's key.
    Forged,
    /// A closed file ends in the middle of a record.
    Torn,
    /// A record of another log.
    Foreign,
    /// The head file, which says where the log ends, is missing or invalid.
    Head,
    /// The host itself found the log changed.
    Found,
    /// The log has no hash chain.
    Unchained,
    /// The file is a copy in another form, such as compressed. It was not verified.
    Converted,
}

impl Kind {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Edited => "edited",
            Self::Swapped => "swapped",
            Self::Repeated => "repeated",
            Self::Truncated => "truncated",
            Self::Forged => "forged",
            Self::Torn => "torn",
            Self::Foreign => "foreign",
            Self::Head => "head",
            Self::Found => "found",
            Self::Unchained => "unchained",
            Self::Converted => "converted",
        }
    }
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// The line in the file, from 1.
    pub line: u64,
    /// The number that the record has, or should have.
    pub seq: Option<u64>,
    /// The kind of the fault.
    pub kind: Kind,
    /// A description.
    pub detail: String,
}

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The log's ID.
    pub log: Option<String>,
    /// The short name of its key.
    pub key: Option<String>,
    /// Whether the key was given, and not read from beside the log.
    pub key_given: bool,
    /// The number of records.
    pub lines: u64,
    /// The number of request records.
    pub decisions: u64,
    /// The number of records about artifacts.
    pub artifacts: u64,
    /// The number of records that the host reports as dropped.
    pub dropped: u64,
    /// The number of outcomes that only Envoy knew, and whose entries were lost.
    pub lost: u64,
    /// The number of the first record.
    pub first_seq: Option<u64>,
    /// The number of the last record.
    pub last_seq: Option<u64>,
    /// The number of the last record that a signature covers, including the head file's.
    pub signed_seq: Option<u64>,
    /// The faults.
    pub faults: Vec<Fault>,
    /// The number of further faults.
    pub more_faults: u64,
    /// Unusual findings that prove nothing.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether nothing was verified, because the file is a copy in another form.
    pub fn is_of_another_form(&self) -> bool {
        self.faults
            .iter()
            .any(|fault| fault.kind == Kind::Converted)
    }
}
