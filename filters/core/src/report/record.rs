//! The outcome of a decision for logs, access logs, metrics and `explain`. Never contains a
//! credential.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tensorgate_identity::ConfirmationFault;
use tensorgate_policy::denial::{MAX_SHADOWED, OverloadCause, Shadowed};
use tensorgate_policy::policy::Shadow;
use tensorgate_policy::{Operation, Reason, SmolStr};

use crate::host::Verdict;

/// Maximum length of a cause in the log, in bytes. A cause may quote names from the caller, which
/// are limited themselves ([`tensorgate_wire::limits::MAX_NAME_BYTES`]).
pub const MAX_DETAIL_BYTES: usize = 1024;

/// Usual size of [`super::property::OUTCOME`], for preallocation.
const USUAL_PROPERTY_BYTES: usize = 384;

/// Name of the counter for a rejection as overloaded, in the form that the rendered `stats_tags`
/// parse.
pub fn overload_metric(cause: OverloadCause) -> String {
    format!("tensorgate_overloaded;cause={};", cause.name())
}

/// Name of the counter for a token that is bound to what its sender does not have, in the same
/// form.
pub fn unconfirmed_metric(fault: ConfirmationFault) -> String {
    format!("tensorgate_unconfirmed_tokens;cause={};", fault.name())
}

/// Name of the counter for a shadow denial, in the same form.
pub fn shadow_metric(reason: Reason) -> String {
    format!("tensorgate_shadowed;reason={reason};")
}

/// What another filter wrote to [`super::property::OUTCOME`]. Of what cannot be read, nothing is
/// known.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReportedOutcome {
    /// Its verdict.
    pub verdict: Option<String>,
    /// The request's id; empty if there is none.
    pub request_id: String,
    /// The shadow denials with known reasons.
    pub shadow: Vec<Shadowed>,
}

impl ReportedOutcome {
    /// Reads the property's value.
    pub fn parse(outcome_json: &[u8]) -> Self {
        let mut outcome: Self = serde_json::from_slice(outcome_json).unwrap_or_default();
        outcome.shadow.retain(|denial| {
            let mut reasons = Shadow::REASONS.into_iter();
            reasons.any(|reason| reason.name() == denial.reason)
        });
        outcome.shadow.truncate(MAX_SHADOWED);
        outcome
    }

    /// Whether it says that the request was allowed.
    pub fn is_allowed(&self) -> bool {
        self.verdict.as_deref() == Some(Verdict::Allow.name())
    }
}

/// Outcome of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The gate's id of the request; empty if it was rejected before it got one.
    pub request_id: String,
    /// Reason of the rejection.
    pub reason: Option<Reason>,
    /// What is exhausted or failed, for a rejection as overloaded.
    pub overload: Option<OverloadCause>,
    /// Name of the client, once known. For a rejected key that is revoked, its client.
    pub client: Option<SmolStr>,
    /// Log name of the evaluated credential.
    pub credential: Option<SmolStr>,
    /// Public name of the model, once granted.
    pub model: Option<SmolStr>,
    /// The operation, once the route is known.
    pub operation: Option<Operation>,
    /// Name of the grant, once found.
    pub rule: Option<SmolStr>,
    /// Full cause, for the log.
    pub detail: String,
    /// Denials that the grant's shadow mode let pass.
    pub shadow: Vec<Shadowed>,
}

/// Contents of [`super::property::OUTCOME`].
#[derive(Serialize)]
struct OutcomeProperty<'a> {
    verdict: &'static str,
    reason: &'static str,
    /// Unset if the request got none.
    #[serde(skip_serializing_if = "str::is_empty")]
    request_id: &'a str,
    /// Unset while unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    /// Unset if no credential was evaluated, or if it has no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a str>,
    /// Unset until granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    /// Unset until the route is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    /// Unset until found.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    /// Unset unless rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    /// Unset if empty.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    shadow: &'a [Shadowed],
}

impl Record {
    /// Cause of a rejection, truncated to its maximum.
    pub fn cause(&self) -> Option<&str> {
        self.reason?;
        Some(truncate(&self.detail, MAX_DETAIL_BYTES))
    }

    /// [`super::property::OUTCOME`]: verdict, reason and what else is known.
    pub fn to_property(&self, verdict: Verdict) -> String {
        let property_json = OutcomeProperty {
            verdict: verdict.name(),
            reason: verdict.reason(),
            request_id: &self.request_id,
            client: self.client.as_deref(),
            credential: self.credential.as_deref(),
            model: self.model.as_deref(),
            operation: self.operation.map(Operation::name),
            rule: self.rule.as_deref(),
            detail: self.cause(),
            shadow: &self.shadow,
        };
        let mut text = Vec::with_capacity(USUAL_PROPERTY_BYTES);
        // Only texts, so serialization cannot fail, and the result is text.
        let _ = serde_json::to_writer(&mut text, &property_json);
        String::from_utf8(text).unwrap_or_default()
    }

    /// One JSON line for the log. Control characters from the caller are escaped, so one request is
    /// one line.
    pub fn to_log_line(&self, verdict: Verdict, source: Option<&str>) -> String {
        let mut line = json!({
            "event": "decision",
            "verdict": verdict.name(),
            "reason": verdict.reason(),
            "request_id": self.request_id,
            "source": source,
            "client": self.client.as_deref(),
            "credential": self.credential.as_deref(),
            "model": self.model.as_deref(),
            "rule": self.rule.as_deref(),
            "detail": truncate(&self.detail, MAX_DETAIL_BYTES),
        });
        if let Some(members) = line.as_object_mut() {
            if let Some(cause) = self.overload {
                members.insert("overload".to_owned(), json!(cause.name()));
            }
            if !self.shadow.is_empty() {
                members.insert("shadow".to_owned(), json!(self.shadow));
            }
        }
        line.to_string()
    }
}

/// Longest prefix of at most `max_bytes` that ends at a character boundary.
fn truncate(text: &str, max_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(max_bytes))
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use tensorgate_policy::Denial;

    use super::*;

    #[test]
    fn a_line_break_in_a_cause_cannot_forge_a_second_log_line() {
        let record = Record {
            detail: "unknown input \"a\n{\"verdict\":\"allow\"}\"".into(),
            ..Record::default()
        };
        let line = record.to_log_line(Verdict::Deny(Reason::UnknownInput), None);
        assert!(!line.contains('\n'), "{line}");
    }

    #[test]
    fn shadow_denials_are_read_back_as_written() {
        let record = Record {
            shadow: Shadow::REASONS
                .map(|reason| Shadowed::of(&Denial::new(reason, "é\n".repeat(200))))
                .into(),
            ..Record::default()
        };
        let property_json = record.to_property(Verdict::Allow);
        let reported = ReportedOutcome::parse(property_json.as_bytes());
        assert_eq!(reported.shadow, record.shadow);
        assert!(property_json.len() < 8 << 10, "{}", property_json.len());
        for (text, expected) in [
            (Record::default().to_property(Verdict::Allow), 0),
            (
                r#"{"shadow": [{"reason": "shape", "detail": ""}]}"#.into(),
                0,
            ),
            (
                r#"{"shadow": [{"reason": "out-of-range", "detail": ""}]}"#.into(),
                1,
            ),
            (r#"{"shadow": 1}"#.into(), 0),
            (String::new(), 0),
        ] {
            let reported = ReportedOutcome::parse(text.as_bytes());
            assert_eq!(reported.shadow.len(), expected, "{text}");
        }
        let line = record.to_log_line(Verdict::Allow, None);
        assert!(
            line.contains(r#""shadow":[{"#) && !line.contains('\n'),
            "{line}"
        );
    }

    #[test]
    fn an_outcome_that_cannot_be_read_is_not_allowed() {
        let allowed = Record::default().to_property(Verdict::Allow);
        let denied = Record::default().to_property(Verdict::Deny(Reason::Shape));
        for (text, expected) in [
            (allowed.as_str(), true),
            (denied.as_str(), false),
            (allowed.trim_end_matches('}'), false),
            ("{}", false),
            ("", false),
        ] {
            let reported = ReportedOutcome::parse(text.as_bytes());
            assert_eq!(reported.is_allowed(), expected, "{text}");
        }
    }

    #[test]
    fn a_long_cause_is_cut_between_characters() {
        let record = Record {
            detail: "é".repeat(MAX_DETAIL_BYTES),
            ..Record::default()
        };
        let line = record.to_log_line(Verdict::Deny(Reason::Malformed), None);
        assert!(line.len() < MAX_DETAIL_BYTES + 200, "{}", line.len());
    }

    #[test]
    fn a_rejection_as_overloaded_is_logged_and_counted_by_the_same_cause() {
        let record = Record {
            overload: Some(OverloadCause::RateLimitService),
            ..Record::default()
        };
        let line = record.to_log_line(Verdict::Deny(Reason::Overloaded), None);
        assert!(
            line.contains(r#""overload":"rate-limit-service""#),
            "{line}"
        );
        assert_eq!(
            overload_metric(OverloadCause::RateLimitService),
            "tensorgate_overloaded;cause=rate-limit-service;"
        );
        let other = Record::default().to_log_line(Verdict::Allow, None);
        assert!(!other.contains("overload"), "{other}");
    }

    #[test]
    fn every_verdict_has_its_own_counter() {
        let mut names: Vec<_> = Verdict::all().map(Verdict::metric).collect();
        assert!(names.contains(&"tensorgate_requests;verdict=allow;reason=ok;".to_owned()));
        assert!(
            names.contains(&"tensorgate_requests;verdict=deny;reason=rate-limited;".to_owned())
        );
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
