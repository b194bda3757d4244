//! The lines of `status` about the last minutes, what is wrong, alerts and changes.

use tensorgate_watch::conditions::{Change, Condition, ConditionKind, Holding};
use tensorgate_watch::gate_status::{GateStatus, PolicyChange};

use crate::stack::gate_changes::seconds;

/// The most alerts and the most changes that are shown, the last ones.
const SHOWN: usize = 5;
/// The seconds of a minute.
const MINUTE_S: u64 = 60;

/// Names and texts of the lines. `shows_files` says whether other lines name no held files.
pub(super) fn lines(status: &GateStatus, shows_files: bool) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut line = |name: &str, text: String| lines.push((name.to_owned(), text));
    if let Some(change) = &status.last_policy_change {
        line("last policy change", policy_change(change));
    }
    let counts = &status.counts;
    let minutes = counts.over_s.checked_div(MINUTE_S).unwrap_or_default();
    // The counts are those of the audit log's lines.
    let is_failing = |it: &Holding| it.condition.kind == ConditionKind::AuditFailing;
    let note = match status.holding.iter().any(is_failing) {
        true => ", without requests that the audit log does not have",
        false => "",
    };
    line(
        &format!("last {minutes} minutes"),
        format!(
            "{} answered, {} denied, {} ended early{note}",
            counts.allow, counts.deny, counts.aborted
        ),
    );
    let reasons = counts.reasons.iter();
    let reasons: Vec<_> = reasons
        .map(|it| format!("{} {}", it.count, it.reason))
        .collect();
    if !reasons.is_empty() {
        line("denied", reasons.join(", "));
    }
    for ongoing in &status.holding {
        let Condition {
            kind,
            subject,
            detail,
            ..
        } = &ongoing.condition;
        if is_shown(*kind, shows_files) {
            let since = seconds(&ongoing.since);
            line(kind.begins(), format!("{subject}, since {since}: {detail}"));
        }
    }
    for (kind, count) in &status.holding_counts {
        let listed = status.holding.iter();
        let listed = listed
            .filter(|ongoing| ongoing.condition.kind == *kind)
            .count();
        let more = count.saturating_sub(listed);
        if more > 0 && is_shown(*kind, shows_files) {
            line(kind.begins(), format!("{more} more"));
        }
    }
    let alerts = &status.alerts;
    if alerts.open > 0 {
        line("alerts in the last hour", alerts.open.to_string());
    }
    let hidden = alerts.last.len().saturating_sub(SHOWN);
    for alert in alerts.last.iter().skip(hidden) {
        let (time, rule) = (seconds(&alert.time), &alert.rule);
        let (subject, what) = (&alert.subject, &alert.what);
        line("alert", format!("{time} {rule}: {subject} {what}"));
    }
    let hidden = status.changes.len().saturating_sub(SHOWN);
    for change in status.changes.iter().skip(hidden) {
        line("change", describe(change));
    }
    lines
}

/// Whether a kind has lines here. The causes of others stand above: of the gate, of models, and of
/// held files.
const fn is_shown(kind: ConditionKind, shows_files: bool) -> bool {
    match kind {
        ConditionKind::BackendAway
        | ConditionKind::CircuitOpen
        | ConditionKind::ClientBlocked
        | ConditionKind::LimitServiceAway => true,
        ConditionKind::PolicyNotInForce => shows_files,
        ConditionKind::ModelUnready
        | ConditionKind::ModelRejected
        | ConditionKind::ScannerFailed
        | ConditionKind::AuditFailing => false,
    }
}

fn policy_change(change: &PolicyChange) -> String {
    let PolicyChange {
        generation,
        was,
        time,
    } = change;
    let time = seconds(time);
    match was {
        Some(was) => format!("{time}, {generation} instead of {was}"),
        // A host that starts again knows of no earlier change.
        None => format!("{time}, the host's start with {generation}"),
    }
}

/// A change in short. The detail stands where what holds is listed.
fn describe(change: &Change) -> String {
    let Condition { kind, subject, .. } = &change.condition;
    let what = match change.begins {
        true => kind.begins(),
        false => kind.ends(),
    };
    format!("{} {what}: {subject}", seconds(&change.time))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_minutes_are_described_in_short() {
        let status = json!({
            "run": "1-1",
            "counts": {"over_s": 300, "allow": 120, "deny": 4, "aborted": 1,
                "reasons": [{"reason": "out-of-range", "count": 3}, {"reason": "blocked", "count": 1}]},
            "holding": [
                {"since": "2026-11-27T02:10:04.5Z", "kind": "model-unready", "subject": "m", "detail": "x"},
                {"since": "2026-11-27T02:10:04.5Z", "kind": "circuit-open",
                    "subject": "backend \"b\" for client \"c\"", "client": "c", "detail": "it failed"}],
            "holding_counts": {"model-unready": 1, "circuit-open": 3},
            "changes": [{"number": 1, "time": "2026-11-27T02:10:04.5Z", "begins": false,
                "kind": "backend-away", "subject": "b", "detail": "x"}],
            "alerts": {"open": 1, "last": [{"number": 1, "time": "2026-11-27T02:11:00.1Z",
                "id": "alert-1", "rule": "volume", "subject": "client c", "what": "sent more"}]},
            "last_policy_change": {"generation": "g2", "was": "g1", "time": "2026-11-27T02:00:00.1Z"},
        });
        let status: GateStatus = serde_json::from_value(status).unwrap_or_default();
        let lines = lines(&status, false).into_iter();
        let texts: Vec<_> = lines
            .map(|(name, text)| format!("{name}: {text}"))
            .collect();
        let expected = [
            "last policy change: 2026-11-27T02:00:00Z, g2 instead of g1",
            "last 5 minutes: 120 answered, 4 denied, 1 ended early",
            "denied: 3 out-of-range, 1 blocked",
            "circuit open: backend \"b\" for client \"c\", since 2026-11-27T02:10:04Z: it failed",
            "circuit open: 2 more",
            "alerts in the last hour: 1",
            "alert: 2026-11-27T02:11:00Z volume: client c sent more",
            "change: 2026-11-27T02:10:04Z backend back: b",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn counts_are_incomplete_while_the_audit_log_is_not_written() {
        let status = json!({
            "holding": [{"since": "2026-11-27T02:04:15.5Z", "kind": "audit-failing",
                "subject": "audit/decisions.jsonl", "detail": "no space left on device"}],
        });
        let status: GateStatus = serde_json::from_value(status).unwrap_or_default();
        let lines = lines(&status, false);
        let note = "early, without requests that the audit log does not have";
        let counts = lines.first().map(|(_, text)| text.as_str());
        assert!(
            counts.is_some_and(|text| text.ends_with(note)),
            "{counts:?}"
        );
    }
}
