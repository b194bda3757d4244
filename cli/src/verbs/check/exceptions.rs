//! Warnings of exceptions for model files that have ended or end soon. Validation has no clock.

use tensorgate_policy::time::{DAY_S, end_of_day_unix_s};
use tensorgate_policy::{Fault, FileException, Severity};
use tensorgate_policy_compiler::raw;
use tensorgate_policy_text::path::below;

/// How long before its end an exception is reported, seconds.
const SOON_S: u64 = FileException::WARNING_DAYS * DAY_S;
/// Hex digits of a digest in a warning.
const SHORT: usize = 12;

/// A warning for each exception that has ended or ends soon, at a time in seconds since 1970.
pub(super) fn faults(policy: &raw::Policy, now_unix_s: u64) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, model) in &policy.models {
        let mut add = |path: &str, artifact: Option<&raw::Artifact>| {
            let exceptions = artifact.and_then(|artifact| artifact.exceptions.as_ref());
            for (index, exception) in exceptions.into_iter().flatten().enumerate() {
                let path = format!("{path}.exceptions[{index}].until");
                faults.extend(fault(path, exception, now_unix_s));
            }
        };
        add(
            &below("models", &[name, "artifact"]),
            model.artifact.as_ref(),
        );
        if let raw::Versions::Ruled(rules) = &model.versions {
            for (version, rule) in rules {
                let path = below("models", &[name, "versions", version, "artifact"]);
                add(&path, rule.artifact.as_ref());
            }
        }
    }
    faults
}

fn fault(path: String, exception: &raw::ArtifactException, now_unix_s: u64) -> Option<Fault> {
    let until = exception.until.as_deref()?;
    let left_s = end_of_day_unix_s(until)?.saturating_sub(now_unix_s);
    if left_s > SOON_S {
        return None;
    }
    let sha256 = exception.sha256.as_deref().unwrap_or_default();
    let short = sha256.get(..SHORT).unwrap_or(sha256);
    let message = if left_s == 0 {
        format!(
            "the exception for the file {short}… has ended: the model is not ready if it has this file"
        )
    } else {
        format!(
            "the exception for the file {short}… ends after {until}: then the model is not ready if it has this file"
        )
    };
    Some(Fault {
        severity: Severity::Warning,
        path,
        message,
        fix: Some("review the file and set a later day, or replace the file".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_reported_from_two_weeks_before_its_end() {
        let exception = raw::ArtifactException {
            sha256: Some("ab".repeat(32)),
            path: None,
            reason: None,
            until: Some("2027-01-31".to_owned()),
        };
        let end_unix_s = 1_801_440_000_u64;
        for (now_unix_s, expected) in [
            (end_unix_s.saturating_sub(SOON_S).saturating_sub(1), None),
            (
                end_unix_s.saturating_sub(SOON_S),
                Some("abababababab… ends after 2027-01-31"),
            ),
            (
                end_unix_s.saturating_sub(1),
                Some("abababababab… ends after 2027-01-31"),
            ),
            (end_unix_s, Some("abababababab… has ended")),
        ] {
            let fault = fault("x".to_owned(), &exception, now_unix_s);
            let message = fault.map(|fault| fault.message);
            assert_eq!(message.is_some(), expected.is_some(), "{now_unix_s}");
            let has = |message: String| message.contains(expected.unwrap_or_default());
            assert!(message.is_none_or(has), "{now_unix_s}");
        }
    }
}
