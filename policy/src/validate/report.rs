//! The fault report and paths in the document.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::fault::{Fault, Severity};
use crate::raw::ByteSize;

/// A path in the document: `models.digits.inputs[0].shape[1]`.
#[derive(Clone, Debug)]
pub(super) struct Path(String);

impl Path {
    pub(super) const fn root() -> Self {
        Self(String::new())
    }

    /// A key defined by the schema.
    pub(super) fn field(&self, name: &str) -> Self {
        if self.0.is_empty() {
            Self(name.into())
        } else {
            Self(format!("{}.{name}", self.0))
        }
    }

    /// A key defined by the user, quoted if necessary.
    pub(super) fn key(&self, name: &str) -> Self {
        let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/');
        if !name.is_empty() && name.bytes().all(bare) {
            return self.field(name);
        }
        let mut quoted = String::from("\"");
        for character in name.chars() {
            match character {
                '"' | '\\' => quoted.extend(['\\', character]),
                character if character.is_control() => quoted.extend(character.escape_default()),
                character => quoted.push(character),
            }
        }
        quoted.push('"');
        self.field(&quoted)
    }

    pub(super) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A position in a report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(usize);

/// Faults in document order.
#[derive(Debug, Default)]
pub(super) struct Report {
    faults: Vec<Fault>,
}

impl Report {
    pub(super) fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    /// The current position.
    pub(super) const fn mark(&self) -> Mark {
        Mark(self.faults.len())
    }

    /// Inserts errors at an earlier position.
    pub(super) fn errors_at(&mut self, mark: Mark, path: &Path, messages: Vec<String>) {
        let errors = messages.into_iter().map(|message| Fault {
            severity: Severity::Error,
            path: path.0.clone(),
            message,
            fix: None,
        });
        let mark = mark.0.min(self.faults.len());
        self.faults.splice(mark..mark, errors);
    }

    fn push(&mut self, severity: Severity, path: &Path, message: String, fix: Option<String>) {
        self.faults.push(Fault {
            severity,
            path: path.0.clone(),
            message,
            fix,
        });
    }

    pub(super) fn error(&mut self, path: &Path, message: impl Into<String>) {
        self.push(Severity::Error, path, message.into(), None);
    }

    pub(super) fn error_with_fix(
        &mut self,
        path: &Path,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push(Severity::Error, path, message.into(), Some(fix.into()));
    }

    pub(super) fn warn(&mut self, path: &Path, message: impl Into<String>, fix: impl Into<String>) {
        self.push(Severity::Warning, path, message.into(), Some(fix.into()));
    }

    /// A required field.
    pub(super) fn required<T>(&mut self, path: &Path, value: Option<T>, fix: &str) -> Option<T> {
        if value.is_none() {
            self.error_with_fix(path, "is missing", fix);
        }
        value
    }

    /// A non-empty list.
    pub(super) fn not_empty<T>(&mut self, path: &Path, list: &[T], fix: &str) -> Option<()> {
        if list.is_empty() {
            self.error_with_fix(path, "lists nothing", fix);
            return None;
        }
        Some(())
    }

    /// A number within inclusive bounds.
    pub(super) fn within(
        &mut self,
        path: &Path,
        value: u64,
        least: u64,
        greatest: u64,
        unit: &str,
    ) -> Option<u64> {
        if value < least {
            self.error_with_fix(
                path,
                format!("{value} {unit} is too little"),
                format!("at least {least}"),
            );
            return None;
        }
        if value > greatest {
            self.error_with_fix(
                path,
                format!("{value} {unit} is too much"),
                format!("at most {greatest}"),
            );
            return None;
        }
        Some(value)
    }

    /// Bytes within bounds, as this machine's `usize`; the bounds fit 32 bits.
    pub(super) fn bytes_within(
        &mut self,
        path: &Path,
        value: ByteSize,
        least: u64,
        greatest: u64,
    ) -> Option<usize> {
        usize::try_from(self.within(path, value.0, least, greatest, "bytes")?).ok()
    }

    /// Texts that must be unique; the later of two is the fault.
    pub(super) fn distinct<T: Ord + core::fmt::Display>(
        &mut self,
        path: &Path,
        texts: &[T],
    ) -> Option<()> {
        let mut seen = alloc::collections::BTreeSet::new();
        let mut outcome = Some(());
        for (index, text) in texts.iter().enumerate() {
            if !seen.insert(text) {
                self.error(
                    &path.index(index),
                    format!("{} is listed twice", quote(&format!("{text}"))),
                );
                outcome = None;
            }
        }
        outcome
    }
}

/// Quotes a text of the document for a message.
pub(super) fn quote(text: &str) -> String {
    crate::contract::quote(text)
}

/// The most similar entry of a list, for a fix. `strsim` needs `std`; other targets get none.
/// The work is quadratic, so texts that are too long for a name are not compared.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    /// Maximum edit distance of similar names.
    const MOST_EDITS: usize = 2;
    /// Maximum length of a compared text: the longest name.
    const MOST_BYTES: usize = 128;
    #[cfg(target_os = "none")]
    let levenshtein = |_: &str, _: &str| usize::MAX;
    #[cfg(not(target_os = "none"))]
    use strsim::levenshtein;
    if name.len() > MOST_BYTES {
        return None;
    }
    candidates
        .filter(|candidate| {
            candidate.len().abs_diff(name.len()) <= MOST_EDITS && candidate.len() > MOST_EDITS
        })
        .map(|candidate| (levenshtein(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= MOST_EDITS)
        .min()
        .map(|(_, candidate)| candidate)
}

/// A reference to an unknown name.
pub(super) fn unknown<'a>(
    report: &mut Report,
    path: &Path,
    kind: &str,
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) {
    let message = format!("no {kind} is named {}", quote(name));
    match nearest(name, candidates) {
        Some(candidate) => report.error_with_fix(path, message, candidate.to_owned()),
        None => report.error(path, message),
    }
}

/// A name that is not one of the format's own. The fix lists all of them.
pub(super) fn unknown_of(
    report: &mut Report,
    path: &Path,
    kind: &str,
    name: &str,
    all: &[&'static str],
) {
    let message = format!("no {kind} is named {}", quote(name));
    let known = all.join(", ");
    let fix = match nearest(name, all.iter().copied()) {
        Some(candidate) => format!("{candidate}; known are {known}"),
        None => format!("one of {known}"),
    };
    report.error_with_fix(path, message, fix);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_too_long_for_a_name_are_not_compared() {
        let is_similar = |length| {
            let name = "a".repeat(length);
            let candidate = format!("{name}b");
            nearest(&name, [candidate.as_str()].into_iter()).is_some()
        };
        assert!(is_similar(3));
        assert!(is_similar(128));
        assert!(!is_similar(129));
    }
}
