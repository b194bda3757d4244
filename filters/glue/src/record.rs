//! What a decision came to, for logs, access logs, metrics and `explain`. Never holds a credential.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tensorgate_policy::Reason;
use tensorgate_policy::denial::{MAX_SHADOWED, Shadowed};
use tensorgate_policy::policy::Shadow;

/// A log line's cause, bytes; the cause may quote a caller's own names, which are bounded in their turn
/// ([`tensorgate_wire::limits::MAX_NAME_BYTES`]).
pub const MAX_DETAIL_BYTES: usize = 1024;

/// Access-log properties, as a filter sets them. Envoy prints one with `%FILTER_STATE(wasm.tg_outcome:PLAIN)%`.
pub mod property {
    /// In a chain: the filter that spoke last.
    pub const FILTER: &str = "tg_filter";
    /// What the request came to, as JSON: [`super::Record::to_property`]. One property, because each costs a call of the proxy.
    pub const OUTCOME: &str = "tg_outcome";
    /// Set once the head went on while the body was still to be judged: whoever stands behind knows of the request, whatever the verdict is.
    pub const FORWARDED: &str = "tg_forwarded";
    /// The VM's name and the number of this outcome, as `crate::entry` sets it.
    pub const ENTRY: &str = "tg_entry";
}

/// How a request left the gate. The set of values is fixed: metrics carry nothing that a client chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Sent on.
    Allow,
    /// Refused.
    Deny(Reason),
    /// Ended before it could be judged: the client went away, or the proxy itself gave up on it.
    Aborted,
}

impl Verdict {
    /// Every verdict.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Allow, Self::Aborted]
            .into_iter()
            .chain(Reason::ALL.into_iter().map(Self::Deny))
    }

    /// `allow`, `deny` or `aborted`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny(_) => "deny",
            Self::Aborted => "aborted",
        }
    }

    /// `ok`, the refusal's reason, or `incomplete`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Allow => "ok",
            Self::Deny(reason) => reason.name(),
            Self::Aborted => "incomplete",
        }
    }

    /// The counter's name with its labels, in the form that the rendered `stats_tags` take apart.
    pub fn metric(self) -> String {
        format!(
            "tensorgate_requests;verdict={};reason={};",
            self.name(),
            self.reason()
        )
    }
}

/// The counter's name of a denial in shadow, in the same form.
pub fn shadow_metric(reason: Reason) -> String {
    format!("tensorgate_shadowed;reason={reason};")
}

/// What filters before this one have told in [`property::OUTCOME`] of what was in shadow; only what may be.
pub fn told_in_shadow(outcome: &[u8]) -> Vec<Shadowed> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Outcome {
        shadow: Vec<Shadowed>,
    }
    let told = serde_json::from_slice(outcome).map_or(Vec::new(), |told: Outcome| told.shadow);
    let may_be = |one: &Shadowed| {
        let mut reasons = Shadow::REASONS.into_iter();
        reasons.any(|reason| reason.name() == one.reason)
    };
    told.into_iter().filter(may_be).take(MAX_SHADOWED).collect()
}

/// One request's outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The reason, if refused.
    pub reason: Option<Reason>,
    /// The client's name, once known.
    pub client: Option<String>,
    /// The log's name of the credential that was judged.
    pub credential: Option<String>,
    /// The model's public name, once granted.
    pub model: Option<String>,
    /// The grant's name, once found.
    pub rule: Option<String>,
    /// The whole cause, for the log.
    pub detail: String,
    /// What would have refused it but for its grant's mode.
    pub shadow: Vec<Shadowed>,
}

/// [`property::OUTCOME`].
#[derive(Serialize)]
struct Told<'a> {
    verdict: &'static str,
    reason: &'static str,
    /// Unset while unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    /// Unset where none was judged, or where it has no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a str>,
    /// Unset until granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    /// Unset until found.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    /// Unset unless refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    /// Unset if empty.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    shadow: &'a [Shadowed],
}

impl Record {
    /// The cause of a refusal, within its bound.
    pub fn cause(&self) -> Option<&str> {
        self.reason?;
        Some(truncate(&self.detail, MAX_DETAIL_BYTES))
    }

    /// [`property::OUTCOME`]: verdict and reason, and what else is known.
    pub fn to_property(&self, verdict: Verdict) -> String {
        let told = Told {
            verdict: verdict.name(),
            reason: verdict.reason(),
            client: self.client.as_deref(),
            credential: self.credential.as_deref(),
            model: self.model.as_deref(),
            rule: self.rule.as_deref(),
            detail: self.cause(),
            shadow: &self.shadow,
        };
        // Texts alone: nothing in it that JSON cannot say.
        serde_json::to_string(&told).unwrap_or_default()
    }

    /// One JSON line for the log: control characters in what a caller sent are escaped, so that one request is one line.
    pub fn to_log_line(&self, verdict: Verdict, request_id: &str, source: Option<&str>) -> String {
        let mut line = json!({
            "event": "decision",
            "verdict": verdict.name(),
            "reason": verdict.reason(),
            "request_id": request_id,
            "source": source,
            "client": self.client,
            "credential": self.credential,
            "model": self.model,
            "rule": self.rule,
            "detail": truncate(&self.detail, MAX_DETAIL_BYTES),
        });
        if let (false, Some(members)) = (self.shadow.is_empty(), line.as_object_mut()) {
            members.insert("shadow".to_owned(), json!(self.shadow));
        }
        line.to_string()
    }
}

/// The longest prefix within `max_bytes` that ends between two characters.
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
        let line = record.to_log_line(Verdict::Deny(Reason::UnknownInput), "id", None);
        assert!(!line.contains('\n'), "{line}");
    }

    #[test]
    fn what_was_in_shadow_is_read_back_as_it_was_told() {
        let record = Record {
            shadow: Shadow::REASONS
                .map(|reason| Shadowed::of(&Denial::new(reason, "é\n".repeat(200))))
                .into(),
            ..Record::default()
        };
        let told = record.to_property(Verdict::Allow);
        assert_eq!(told_in_shadow(told.as_bytes()), record.shadow);
        assert!(told.len() < 8 << 10, "{}", told.len());
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
            assert_eq!(told_in_shadow(text.as_bytes()).len(), expected, "{text}");
        }
        let line = record.to_log_line(Verdict::Allow, "id", None);
        assert!(
            line.contains(r#""shadow":[{"#) && !line.contains('\n'),
            "{line}"
        );
    }

    #[test]
    fn a_long_cause_is_cut_between_characters() {
        let record = Record {
            detail: "é".repeat(MAX_DETAIL_BYTES),
            ..Record::default()
        };
        let line = record.to_log_line(Verdict::Deny(Reason::Malformed), "id", None);
        assert!(line.len() < MAX_DETAIL_BYTES + 200, "{}", line.len());
    }

    #[test]
    fn every_verdict_has_a_counter_of_its_own() {
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
