//! What the exceptions of anomaly rules hide, as notes: which alerts of whom are not raised, and
//! when.

use tensorgate_policy_compiler::raw::{Policy, RuleSettings};
use tensorgate_policy_text::path::below;

/// A note for each exception of a valid policy.
pub(super) fn notes(policy: &Policy) -> Vec<String> {
    let rules = policy.watch.iter().flat_map(|watch| &watch.rules);
    rules
        .flat_map(|(rule, settings)| of_rule(rule, settings))
        .collect()
}

fn of_rule(rule: &str, settings: &RuleSettings) -> Vec<String> {
    let RuleSettings {
        at_least: _,
        times: _,
        except,
        quiet,
    } = settings;
    let note = |field: &[&str], what: &str, names: &[String]| {
        let path: Vec<&str> = ["rules", rule].iter().chain(field).copied().collect();
        let path = below("watch", &path);
        let names = names.join(", ");
        (!names.is_empty()).then(|| format!("{path}: no alert of {rule} is raised {what} {names}"))
    };
    let notes = [
        note(&["except", "clients"], "about the client", &except.clients),
        note(&["except", "models"], "about the model", &except.models),
        note(
            &["except", "sources"],
            "because of requests from",
            &except.sources,
        ),
        note(&["quiet"], "about anyone at, in UTC,", quiet),
    ];
    notes.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn each_exception_has_a_note_of_what_it_hides() {
        let policy = json!({"watch": {"rules": {
            "volume": {
                "at_least": 600,
                "except": {"clients": ["batch", "cron"]},
                "quiet": ["mon-fri 02:00-04:00"]
            },
            "new-source": {"except": {"sources": ["100.64.0.0/10"]}},
            "latency": {"times": 3, "except": {"models": ["ranker"]}},
            "probing": {"at_least": 20}
        }}});
        let notes = notes(&serde_json::from_value(policy).unwrap());
        assert_eq!(
            notes,
            [
                "watch.rules.latency.except.models: no alert of latency is raised about the model \
                 ranker",
                "watch.rules.new-source.except.sources: no alert of new-source is raised because \
                 of requests from 100.64.0.0/10",
                "watch.rules.volume.except.clients: no alert of volume is raised about the client \
                 batch, cron",
                "watch.rules.volume.quiet: no alert of volume is raised about anyone at, in UTC, \
                 mon-fri 02:00-04:00",
            ]
        );
    }
}
