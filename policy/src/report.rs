//! The fault report and paths in the document.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use tensorgate_values::ByteSize;
use tensorgate_values::fault::{Fault, Severity};
use tensorgate_values::safe_text::push_escaped;

/// A checked value; `None` if it is faulty, which the report says.
pub type Valid<T> = Option<T>;

/// Checks a part that may be absent.
pub fn optional<R, T>(raw: Option<R>, check: impl FnOnce(R) -> Option<T>) -> Valid<Option<T>> {
    raw.map_or(Some(None), |raw| check(raw).map(Some))
}

/// All values, if none is faulty. Takes all of them first, so that all faults are reported.
pub fn all<T, C: FromIterator<T>>(values: impl Iterator<Item = Option<T>>) -> Option<C> {
    let values: Vec<_> = values.collect();
    values.into_iter().collect()
}

/// The faults of one document, in the order in which they were found.
#[derive(Clone, Debug, Default)]
pub struct Report(Rc<RefCell<Vec<Fault>>>);

impl Report {
    /// The faults, in the order in which they were found.
    pub fn into_faults(self) -> Vec<Fault> {
        self.0.take()
    }

    /// The path of the document itself.
    pub fn root(&self) -> Path {
        self.at(String::new())
    }

    fn at(&self, text: String) -> Path {
        Path {
            text,
            report: self.clone(),
        }
    }
}

/// A position in a report.
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize);

/// A path in the document, such as `models.digits.inputs[0].shape[1]`. Faults are reported at one.
#[derive(Clone, Debug)]
pub struct Path {
    text: String,
    report: Report,
}

impl Path {
    /// The path of the document itself.
    pub fn root(&self) -> Self {
        self.report.root()
    }

    /// A key defined by the schema.
    pub fn field(&self, name: &str) -> Self {
        if self.text.is_empty() {
            self.report.at(name.into())
        } else {
            self.report.at(format!("{}.{name}", self.text))
        }
    }

    /// A key defined by the user, quoted if necessary.
    pub fn key(&self, name: &str) -> Self {
        let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/');
        if !name.is_empty() && name.bytes().all(bare) {
            return self.field(name);
        }
        let mut quoted = String::from("\"");
        for character in name.chars() {
            match character {
                '"' | '\\' => quoted.extend(['\\', character]),
                character => push_escaped(&mut quoted, character),
            }
        }
        quoted.push('"');
        self.field(&quoted)
    }

    /// An entry of a list.
    pub fn index(&self, index: usize) -> Self {
        self.report.at(format!("{}[{index}]", self.text))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The current position in the report.
    pub fn mark(&self) -> Mark {
        Mark(self.report.0.borrow().len())
    }

    /// Inserts errors with one fix at an earlier position.
    pub fn errors_at(&self, mark: Mark, messages: Vec<String>, fix: &str) {
        let errors = messages.into_iter().map(|message| Fault {
            severity: Severity::Error,
            path: self.text.clone(),
            message,
            fix: Some(fix.into()),
        });
        let mut faults = self.report.0.borrow_mut();
        let mark = mark.0.min(faults.len());
        faults.splice(mark..mark, errors);
    }

    fn push(&self, severity: Severity, message: String, fix: Option<String>) {
        self.report.0.borrow_mut().push(Fault {
            severity,
            path: self.text.clone(),
            message,
            fix,
        });
    }

    /// Reports an error.
    pub fn error(&self, message: impl Into<String>) {
        self.push(Severity::Error, message.into(), None);
    }

    /// Reports an error with a fix.
    pub fn error_with_fix(&self, message: impl Into<String>, fix: impl Into<String>) {
        self.push(Severity::Error, message.into(), Some(fix.into()));
    }

    /// Reports a warning with a fix.
    pub fn warn(&self, message: impl Into<String>, fix: impl Into<String>) {
        self.push(Severity::Warning, message.into(), Some(fix.into()));
    }

    /// Reports an error in place of a value.
    pub fn fail<T>(&self, message: impl Into<String>) -> Option<T> {
        self.error(message);
        None
    }

    /// Reports an error with a fix in place of a value.
    pub fn fail_with_fix<T>(
        &self,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Option<T> {
        self.error_with_fix(message, fix);
        None
    }

    /// A required field.
    pub fn required<T>(&self, value: Option<T>, fix: &str) -> Option<T> {
        value.or_else(|| self.fail_with_fix("is missing", fix))
    }

    /// A non-empty list.
    pub fn not_empty<T>(&self, list: &[T], fix: &str) -> Option<()> {
        if list.is_empty() {
            return self.fail_with_fix("is empty", fix);
        }
        Some(())
    }

    /// A number within inclusive bounds, which fit the type that the policy has it in.
    pub fn within<T: TryFrom<u64>>(
        &self,
        value: u64,
        least: u64,
        greatest: u64,
        unit: &str,
    ) -> Option<T> {
        if value < least {
            let message = format!("{value} {unit} is below the minimum");
            return self.fail_with_fix(message, format!("at least {least}"));
        }
        if value > greatest {
            let message = format!("{value} {unit} is above the maximum");
            return self.fail_with_fix(message, format!("at most {greatest}"));
        }
        T::try_from(value).ok()
    }

    /// Bytes within bounds, as this machine's `usize`; the bounds fit 32 bits.
    pub fn bytes_within(&self, value: ByteSize, least: u64, greatest: u64) -> Option<usize> {
        self.within(value.0, least, greatest, "bytes")
    }

    /// A list that is not too long. `what` ends the message, such as `keys are too many`.
    pub fn at_most(&self, count: usize, most: usize, what: &str) -> Option<()> {
        if count > most {
            return self.fail_with_fix(format!("{count} {what}"), format!("at most {most}"));
        }
        Some(())
    }

    /// As [`Self::at_most`], with the bound in the message and without a fix.
    pub fn up_to(&self, count: usize, most: usize, what: &str) -> Option<()> {
        if count > most {
            return self.fail(format!("{count} {what}, at most {most} are allowed"));
        }
        Some(())
    }

    /// Checks every entry of a list, so that all faults are reported.
    pub fn each<I: IntoIterator, T, C: FromIterator<T>>(
        &self,
        list: I,
        mut check: impl FnMut(&Self, I::Item) -> Option<T>,
    ) -> Option<C> {
        let entries = list.into_iter().enumerate();
        all(entries.map(|(index, entry)| check(&self.index(index), entry)))
    }

    /// Texts that must be unique; the later of two is the fault.
    pub fn distinct<T: Ord + core::fmt::Display>(&self, texts: &[T]) -> Option<()> {
        let mut seen = alloc::collections::BTreeSet::new();
        let mut valid = Some(());
        for (index, text) in texts.iter().enumerate() {
            if !seen.insert(text) {
                let text = quote(&format!("{text}"));
                valid = self.index(index).fail(format!("{text} is listed twice"));
            }
        }
        valid
    }

    /// Reports a reference to an unknown name.
    pub fn unknown<'a, S: AsRef<str> + ?Sized + 'a, T>(
        &self,
        kind: &str,
        name: &str,
        candidates: impl Iterator<Item = &'a S>,
    ) -> Option<T> {
        let message = format!("there is no {kind} {}", quote(name));
        match nearest(name, candidates.map(AsRef::as_ref)) {
            Some(candidate) => self.fail_with_fix(message, candidate),
            None => self.fail(message),
        }
    }

    /// Reports a name that is not one of the format's own. The fix lists all of them.
    pub fn unknown_of<T>(&self, kind: &str, name: &str, all: &[&'static str]) -> Option<T> {
        let message = format!("there is no {kind} {}", quote(name));
        let known = all.join(", ");
        let fix = match nearest(name, all.iter().copied()) {
            Some(candidate) => format!("{candidate}; known are {known}"),
            None => format!("one of {known}"),
        };
        self.fail_with_fix(message, fix)
    }
}

/// Quotes a text of the document for a message.
pub fn quote(text: &str) -> String {
    crate::contract::quote(text)
}

/// The most similar entry of a list, for a fix. `strsim` needs `std`; other targets get none.
/// The work is quadratic, so texts that are too long for a name are not compared.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
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
