//! What a verifier requires of a valid signature beside its signer: which model it is about, and
//! when it was made.
//!
//! Without them, a signature of the same signer over another model, or over an older version, is
//! valid in the place of this one.

use serde::Serialize;

use super::json::excerpt;
use super::time::rfc3339;

/// When a model was signed, and who says so. Scripts rely on the shape of its JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SignedAt {
    /// Seconds since 1970.
    pub time_s: u64,
    /// Who says so.
    pub source: TimeSource,
}

/// Who says when a model was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeSource {
    /// A transparency log, which took the signature in at that time.
    Log,
    /// A time stamp authority, which had the signature at that time.
    #[serde(rename = "time stamp")]
    TimeStamp,
    /// The signer, in the signed statement.
    Statement,
}

impl TimeSource {
    /// Its name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::TimeStamp => "time stamp",
            Self::Statement => "statement",
        }
    }
}

/// What is required. Nothing is by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requirements<'a> {
    /// The model's name in the signed statement, compared exactly.
    pub subject: Option<&'a str>,
    /// The earliest time at which the model may have been signed, in seconds since 1970.
    pub not_before_s: Option<u64>,
}

/// Why a valid signature is not the required one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// About another model.
    #[error("the signature is about the model {found:?}, and {required:?} is required")]
    Subject {
        /// The name in the statement.
        found: String,
        /// The required name.
        required: String,
    },
    /// Made too early.
    #[error(
        "the model was signed at {signed} ({source_name}), and a signature from {required} on is \
         required"
    )]
    Early {
        /// When it was signed.
        signed: String,
        /// Who says so.
        source_name: &'static str,
        /// The earliest time.
        required: String,
    },
    /// Made at an unknown time.
    #[error(
        "the signature does not say when it was made, and a time is required: sign the model \
         again with `tensorgate model sign`, which records the time"
    )]
    NoTime,
}

impl Requirements<'_> {
    /// Checks the name of a model and the time of its signature.
    pub(super) fn check(&self, subject: &str, signed_at: Option<SignedAt>) -> Result<(), Unmet> {
        if let Some(required) = self.subject.filter(|required| *required != subject) {
            return Err(Unmet::Subject {
                found: excerpt(subject),
                required: required.to_owned(),
            });
        }
        let Some(not_before_s) = self.not_before_s else {
            return Ok(());
        };
        let SignedAt { time_s, source } = signed_at.ok_or(Unmet::NoTime)?;
        if time_s >= not_before_s {
            return Ok(());
        }
        Err(Unmet::Early {
            signed: rfc3339(time_s),
            source_name: source.name(),
            required: rfc3339(not_before_s),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED_S: u64 = 1_780_000_000;

    fn check(subject: Option<&str>, not_before_s: Option<u64>, time_s: Option<u64>) -> String {
        let requirements = Requirements {
            subject,
            not_before_s,
        };
        let source = TimeSource::Statement;
        let signed_at = time_s.map(|time_s| SignedAt { time_s, source });
        let found = requirements.check("digits", signed_at);
        found.map_or_else(|unmet| unmet.to_string(), |()| "met".to_owned())
    }

    #[test]
    fn each_requirement_is_checked_by_itself() {
        let (name, later) = (Some("digits"), SIGNED_S.saturating_add(1));
        for (subject, not_before_s, time_s, expected) in [
            (None, None, None, "met"),
            (name, None, None, "met"),
            (name, Some(SIGNED_S), Some(SIGNED_S), "met"),
            (name, Some(SIGNED_S), Some(later), "met"),
            (
                name,
                Some(later),
                Some(SIGNED_S),
                "(statement), and a signature from 2026-",
            ),
            (name, Some(0), None, "which records the time"),
            (
                Some("digit"),
                None,
                Some(SIGNED_S),
                "about the model \"digits\"",
            ),
            (
                Some("Digits"),
                None,
                Some(SIGNED_S),
                "\"Digits\" is required",
            ),
            (Some(""), None, Some(SIGNED_S), "\"\" is required"),
        ] {
            let found = check(subject, not_before_s, time_s);
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }
}
