//! The response of the admin server's `/status`: what a gate did in the last minutes, and what is
//! wrong with it now. It is bounded, and has no secrets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tensorgate_policy::values::safe_text::{prefix, printable};

use crate::conditions::{Change, Condition, ConditionKind, Conditions, Holding};
use crate::recent_outcomes::{OutcomeCounts, RecentAlerts, RecentOutcomes};

/// The most conditions of a kind that are listed.
const SHOWN_OF_KIND: usize = 8;
/// The most changes that are listed. A reader asks for those after the last one.
const SHOWN_CHANGES: usize = 48;
/// The longest subject in bytes.
const MAX_SUBJECT_BYTES: usize = 256;
/// The longest detail in bytes.
const MAX_DETAIL_BYTES: usize = 400;

/// The response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GateStatus {
    /// The run of the host. In another one, numbers of changes and alerts begin again.
    pub run: String,
    /// The outcomes of the last five minutes.
    pub counts: OutcomeCounts,
    /// The conditions that hold, at most eight of a kind.
    pub holding: Vec<Holding>,
    /// How many of each kind hold, at most 256.
    pub holding_counts: BTreeMap<ConditionKind, usize>,
    /// The last changes, or with `?after=NUMBER` the first after one, at most 48.
    pub changes: Vec<Change>,
    /// The last alerts.
    pub alerts: RecentAlerts,
    /// When the policy last changed.
    pub last_policy_change: Option<PolicyChange>,
    /// The anomaly rules that cannot know yet what is usual.
    pub learning: Vec<String>,
}

/// A change of the policy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyChange {
    /// The version in force since then.
    pub generation: String,
    /// The version before. `None` if the host has started with this one.
    pub was: Option<String>,
    /// When, RFC 3339.
    pub time: String,
}

impl GateStatus {
    /// The response of a run of the host, with the changes after a number or else the last ones.
    pub fn new(
        run: &str,
        conditions: &Conditions,
        recent: &RecentOutcomes,
        last_policy_change: Option<PolicyChange>,
        after: Option<u64>,
    ) -> Self {
        let mut holding_counts = BTreeMap::<ConditionKind, usize>::new();
        let mut holding = Vec::new();
        let mut ongoing = conditions.holding();
        // What concerns all clients comes first: a client can cause many conditions of its own.
        ongoing.sort_by_key(|it| (it.condition.kind, it.condition.client.is_some()));
        for ongoing in ongoing {
            let count = holding_counts.entry(ongoing.condition.kind).or_default();
            *count = count.saturating_add(1);
            if *count <= SHOWN_OF_KIND {
                holding.push(Holding {
                    condition: shortened(ongoing.condition),
                    ..ongoing
                });
            }
        }
        let changes = conditions.changes(after.unwrap_or_default());
        let hidden = match after {
            Some(_) => 0,
            None => changes.len().saturating_sub(SHOWN_CHANGES),
        };
        let changes = changes.into_iter().skip(hidden).take(SHOWN_CHANGES);
        Self {
            run: run.to_owned(),
            counts: recent.counts(),
            holding,
            holding_counts,
            changes: changes
                .map(|change| Change {
                    condition: shortened(change.condition),
                    ..change
                })
                .collect(),
            alerts: recent.alerts(),
            last_policy_change,
            learning: Vec::new(),
        }
    }
}

/// A condition with printable texts of bounded length. Servers choose parts of them.
fn shortened(condition: Condition) -> Condition {
    let short = |text: &str, max_bytes| {
        let text = printable(prefix(text, max_bytes));
        prefix(&text, max_bytes).to_owned()
    };
    Condition {
        subject: short(&condition.subject, MAX_SUBJECT_BYTES),
        detail: short(&condition.detail, MAX_DETAIL_BYTES),
        ..condition
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// The largest response that commands read, in bytes.
    const MAX_BYTES: usize = 256 << 10;

    #[test]
    fn the_response_is_bounded_and_hides_no_kind() {
        let conditions = Conditions::new(Vec::new());
        let condition = |kind, number: usize| Condition {
            kind,
            subject: format!("{number} {}", "s".repeat(1_000)),
            client: Some("c".repeat(128)),
            detail: "\"d\u{1b}".repeat(1_000),
        };
        let kinds = [
            ConditionKind::ModelUnready,
            ConditionKind::BackendAway,
            ConditionKind::CircuitOpen,
            ConditionKind::ClientBlocked,
            ConditionKind::AuditFailing,
            ConditionKind::PolicyNotInForce,
            ConditionKind::ScannerFailed,
            ConditionKind::ModelRejected,
            ConditionKind::LimitServiceAway,
        ];
        let all = (0..300).flat_map(|number| kinds.map(|kind| condition(kind, number)));
        conditions.update(UNIX_EPOCH, all.collect());
        let recent = RecentOutcomes::default();
        let status = |after| GateStatus::new("run", &conditions, &recent, None, after);
        let shown = status(None);
        let text = serde_json::to_string(&shown).unwrap_or_default();
        assert!(text.len() < MAX_BYTES, "{}", text.len());
        assert!(!text.contains("\\u001b"), "printable");
        assert_eq!(shown.holding_counts.len(), kinds.len());
        assert!(shown.holding_counts.values().all(|count| *count == 256));
        assert_eq!(serde_json::from_str::<GateStatus>(&text).ok(), Some(shown));
        let numbers = |after| {
            let changes = status(after).changes;
            let numbers = [changes.first(), changes.last()];
            let [first, last] = numbers.map(|it| it.map(|it| it.number));
            (first, last)
        };
        // 512 of 2304 changes are kept.
        assert_eq!(numbers(None), (Some(2_257), Some(2_304)));
        assert_eq!(numbers(Some(2_000)), (Some(2_001), Some(2_048)));
        assert_eq!(numbers(Some(2_304)), (None, None));
    }

    #[test]
    fn conditions_of_one_client_hide_none_of_all() {
        let conditions = Conditions::new(Vec::new());
        let circuit = |subject: String, client: Option<&str>| Condition {
            kind: ConditionKind::CircuitOpen,
            subject,
            client: client.map(str::to_owned),
            detail: String::new(),
        };
        let own = (0..20).map(|it| circuit(format!("handler \"a{it}\""), Some("attacker")));
        let all = circuit("handler \"z\"".to_owned(), None);
        conditions.update(UNIX_EPOCH, own.chain([all.clone()]).collect());
        let recent = RecentOutcomes::default();
        let status = GateStatus::new("run", &conditions, &recent, None, None);
        assert_eq!(status.holding.len(), SHOWN_OF_KIND);
        let first = status.holding.first().map(|it| &it.condition);
        assert_eq!(first, Some(&all));
    }
}
