//! An exception: a file that is not safe, and that a person accepts by its path and digest until a
//! day.
//!
//! The path counts because a name decides what a loader does with a content: a script that converts
//! weights does nothing as `convert.py`, and runs at each start of Python as `sitecustomize.py`.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::getters;
use crate::time::end_of_day_unix_s;

/// The longest reason, characters.
const MAX_REASON_CHARS: usize = 500;
/// The longest path, bytes: Linux's own bound.
const MAX_PATH_BYTES: usize = 4_096;

/// Which file is accepted, why, and how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileException {
    path: String,
    reason: String,
    until: String,
    end_unix_s: u64,
}

getters! { FileException {
    /// Where the file is in its model, as `1/model.pkl`.
    path: &str,
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
    /// What to write as path.
    pub const PATH_FIX: &str = "the file's path below the model's folder, for example 1/model.pkl; of a model that is one file, its name";

    /// Reads the fields beside the digest.
    ///
    /// # Errors
    /// Those that have another form, at least one.
    pub fn new(path: &str, reason: &str, until: &str) -> Result<Self, Vec<ExceptionFault>> {
        let mut faults = Vec::new();
        let leads_elsewhere = |part: &str| matches!(part, "" | "." | "..");
        if path.len() > MAX_PATH_BYTES || path.split('/').any(leads_elsewhere) {
            faults.push(ExceptionFault {
                field: "path",
                message: "is not a path in the model",
                fix: Self::PATH_FIX,
            });
        }
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
                path: path.into(),
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

/// Exceptions, each with the digest of its file. A content has one for each of its paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileExceptions(
    #[serde(serialize_with = "crate::hex_keys::serialize")] BTreeMap<[u8; 32], Vec<FileException>>,
);

impl FileExceptions {
    /// Adds an exception. Returns `false` if an earlier one has its digest and path.
    pub fn add(&mut self, sha256: [u8; 32], exception: FileException) -> bool {
        let of_content = self.0.entry(sha256).or_default();
        let is_new = of_content.iter().all(|it| it.path != exception.path);
        if is_new {
            of_content.push(exception);
        }
        is_new
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The exception of the file at a path.
    pub fn of(&self, sha256: &[u8; 32], path: &str) -> Option<&FileException> {
        self.of_content(sha256).find(|it| it.path == path)
    }

    /// The exceptions of a content, at any path.
    pub fn of_content(&self, sha256: &[u8; 32]) -> impl Iterator<Item = &FileException> {
        self.0.get(sha256).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_exception_holds_through_its_last_day() {
        let exception = FileException::new("a", "checked by hand", "2027-01-31").unwrap();
        assert_eq!(exception.end_unix_s(), 1_801_440_000);
        assert!(!exception.has_expired(1_801_439_999));
        assert!(exception.has_expired(1_801_440_000));
    }

    #[test]
    fn each_field_of_another_form_is_named() {
        let fields = |reason: &str, until: &str| -> Vec<_> {
            let faults = FileException::new("a", reason, until).err();
            let faults = faults.unwrap_or_default();
            faults.iter().map(|fault| fault.field).collect()
        };
        assert_eq!(fields(" ", "2027-02-29"), ["reason", "until"]);
        assert_eq!(fields(&"a".repeat(501), "2027-02-28"), ["reason"]);
        assert!(fields(&"ä".repeat(500), "2027-02-28").is_empty());
    }

    #[test]
    fn a_path_is_one_below_the_folder_of_the_model() {
        let is_path = |path: &str| FileException::new(path, "r", "2027-01-31").is_ok();
        for path in ["a", "1/model.pkl", "...", "ä b\n"] {
            assert!(is_path(path), "{path:?}");
        }
        for path in ["", "/a", "a/", "a//b", ".", "./a", "a/../b", ".."] {
            assert!(!is_path(path), "{path:?}");
        }
        assert!(is_path(&"a".repeat(4_096)) && !is_path(&"a".repeat(4_097)));
    }

    #[test]
    fn an_exception_is_of_one_path_and_a_content_may_have_several() {
        let exception = |path: &str| FileException::new(path, "r", "2027-01-31").unwrap();
        let mut all = FileExceptions::default();
        assert!(all.is_empty());
        assert!(all.add([3; 32], exception("convert.py")));
        assert!(all.add([3; 32], exception("old/convert.py")));
        assert!(all.add([4; 32], exception("convert.py")));
        assert!(!all.add([3; 32], exception("convert.py")));
        let path_of = |byte, path| all.of(&[byte; 32], path).map(FileException::path);
        assert_eq!(path_of(3, "convert.py"), Some("convert.py"));
        assert_eq!(path_of(3, "old/convert.py"), Some("old/convert.py"));
        for (byte, path) in [
            (3, "sitecustomize.py"),
            (3, "Convert.py"),
            (4, "old/convert.py"),
        ] {
            assert_eq!(path_of(byte, path), None, "{path}");
        }
        assert_eq!(all.of_content(&[3; 32]).count(), 2);
        assert_eq!(all.of_content(&[5; 32]).count(), 0);
    }
}
