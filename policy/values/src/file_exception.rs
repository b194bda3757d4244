//! An exception: a file that is not safe, and that a person accepts by its digest until a day.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::getters;
use crate::time::end_of_day_unix_s;

/// The longest reason, characters.
const MAX_REASON_CHARS: usize = 500;

/// Why a file is accepted, and how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileException {
    reason: String,
    until: String,
    end_unix_s: u64,
}

getters! { FileException {
    /// Why, as a person wrote it.
    reason: &str,
    /// The last day, UTC, as `2027-01-31`.
    until: &str,
} }

/// A field of an exception that has another form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExceptionFault {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub message: &'static str,
    /// What to write instead.
    pub fix: &'static str,
}

impl FileException {
    /// How many days before its end an exception is a warning: two weeks to review the file, or to
    /// replace it.
    pub const WARNING_DAYS: u64 = 14;

    /// Reads the fields beside the digest.
    ///
    /// # Errors
    /// Those that have another form, at least one.
    pub fn new(reason: &str, until: &str) -> Result<Self, Vec<ExceptionFault>> {
        let mut faults = Vec::new();
        if reason.trim().is_empty() || reason.chars().count() > MAX_REASON_CHARS {
            faults.push(ExceptionFault {
                field: "reason",
                message: "is empty or too long",
                fix: "why the file is accepted, in at most 500 characters",
            });
        }
        let end_unix_s = end_of_day_unix_s(until);
        if end_unix_s.is_none() {
            faults.push(ExceptionFault {
                field: "until",
                message: "is not a date",
                fix: "the last day as YYYY-MM-DD, for example 2027-01-31",
            });
        }
        match end_unix_s {
            Some(end_unix_s) if faults.is_empty() => Ok(Self {
                reason: reason.into(),
                until: until.into(),
                end_unix_s,
            }),
            _ => Err(faults),
        }
    }

    /// Whether its last day was before this time, in seconds since 1970. Such an exception accepts
    /// nothing.
    pub const fn has_expired(&self, now_unix_s: u64) -> bool {
        now_unix_s >= self.end_unix_s
    }

    /// The first second after its last day, since 1970.
    pub const fn end_unix_s(&self) -> u64 {
        self.end_unix_s
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_exception_holds_through_its_last_day() {
        let exception = FileException::new("checked by hand", "2027-01-31").unwrap();
        assert_eq!(exception.end_unix_s(), 1_801_440_000);
        assert!(!exception.has_expired(1_801_439_999));
        assert!(exception.has_expired(1_801_440_000));
    }

    #[test]
    fn each_field_of_another_form_is_named() {
        let fields = |reason: &str, until: &str| -> Vec<_> {
            let faults = FileException::new(reason, until).err().unwrap_or_default();
            faults.iter().map(|fault| fault.field).collect()
        };
        assert_eq!(fields(" ", "2027-02-29"), ["reason", "until"]);
        assert_eq!(fields(&"a".repeat(501), "2027-02-28"), ["reason"]);
        assert!(fields(&"ä".repeat(500), "2027-02-28").is_empty());
    }
}
