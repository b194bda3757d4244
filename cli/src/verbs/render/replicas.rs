//! What several pods make of limits that each of them, or each of their hosts, counts alone.

use tensorgate_cli_common::ui::printable;
use tensorgate_policy::raw::{self, Scope};

/// Number of grants that a note names for each kind of limit.
const NAMED_GRANTS: usize = 8;

/// Notes on what more than one pod lets through; `pods` is `None` if their number is not known.
pub(super) fn notes(policy: &raw::Policy, pods: Option<u32>) -> Vec<String> {
    let (each, factor) = match pods {
        Some(0 | 1) => return Vec::new(),
        Some(pods) => (format!("each of the {pods} pods"), format!("{pods} times")),
        None => (
            "each pod of the proxies".to_owned(),
            "N times, with N pods,".to_owned(),
        ),
    };
    let mut notes = Vec::new();
    let of_contents = contents(policy);
    if pods.is_none() && !of_contents.is_empty() {
        notes.push(format!(
            "note: each sandbox host, and not each pod of the proxies, counts contents (elements, bytes, tokens) of scope local: {}; with several hosts share them with scope: global and rate_limit_service: {{redis: …}}",
            of_contents.join("; ")
        ));
    }
    let limits = multiplied(policy, pods.is_none());
    if !limits.is_empty() {
        notes.push(format!(
            "note: {each} counts limits of scope local alone, so a client gets {factor} as much: {}; share them with scope: global and rate_limit_service: {{redis: …}}, or divide them with local_share: replicas where render knows the number of pods",
            limits.join("; ")
        ));
    }
    if let Some(lockout) = &policy.lockout {
        let failures = lockout.failures.map(|failures| format!(" ({failures})"));
        notes.push(format!(
            "note: {each} counts the failures of lockout alone, so a guesser has {factor} as many{}; no service shares them: set failures for one pod",
            failures.unwrap_or_default()
        ));
    }
    notes
}

/// What holds for limits that were divided by the number of pods.
pub(super) fn divided_note(pods: u32) -> String {
    format!(
        "note: limits with local_share are divided by {pods} pods: let no autoscaler change their number, and for another one render again with --replicas"
    )
}

/// The kinds of limits that pods multiply, each with its grants. Proxies whose hosts run elsewhere
/// count requests alone (`requests_only`). A pod that has its own host counts contents too.
fn multiplied(policy: &raw::Policy, requests_only: bool) -> Vec<String> {
    let counts = |grant: &raw::Grant, kind: &str| match (kind, requests_only) {
        ("cost", true) => false,
        ("budget", true) => {
            let budget = grant.budget.as_ref();
            budget.is_some_and(|budget| budget.requests.is_some())
        }
        _ => true,
    };
    local_kinds(policy, counts)
}

/// The kinds of local limits on contents, each with its grants.
fn contents(policy: &raw::Policy) -> Vec<String> {
    let counts = |grant: &raw::Grant, kind: &str| match kind {
        "cost" => true,
        "budget" => {
            let budget = grant.budget.as_ref();
            budget.is_some_and(raw::Budget::limits_contents)
        }
        _ => false,
    };
    local_kinds(policy, counts)
}

/// The kinds of limits of scope `local` that are not divided and that `counts`, each with its
/// grants.
fn local_kinds(policy: &raw::Policy, counts: impl Fn(&raw::Grant, &str) -> bool) -> Vec<String> {
    let kinds = ["rate", "cost", "budget"].into_iter();
    kinds
        .filter_map(|kind| {
            let is_listed = |grant: &&raw::Grant| {
                let mut limits = grant.limits();
                limits.any(|limit| limit == (kind, Scope::Local, None)) && counts(grant, kind)
            };
            let grants = policy.grants.iter().filter(is_listed);
            let names: Vec<_> = grants.filter_map(|grant| grant.name.as_deref()).collect();
            (!names.is_empty()).then(|| format!("{kind} of {}", listed(&names)))
        })
        .collect()
}

/// The first names, and how many more there are.
fn listed(names: &[&str]) -> String {
    let shown: Vec<_> = names
        .iter()
        .take(NAMED_GRANTS)
        .map(|name| printable(name))
        .collect();
    let text = shown.join(", ");
    match names.len().saturating_sub(shown.len()) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tensorgate_policy::raw::LocalShare;

    use super::*;

    /// A policy whose grants have these limits.
    fn policy(grants: &[(&str, Option<raw::Rate>, Option<raw::Budget>)]) -> raw::Policy {
        let grants = grants.iter();
        let grants = grants.map(|(name, rate, budget)| raw::Grant {
            name: Some((*name).to_owned()),
            rate: rate.clone(),
            budget: budget.clone(),
            ..raw::Grant::default()
        });
        raw::Policy {
            grants: grants.collect(),
            ..raw::Policy::default()
        }
    }

    #[test]
    fn each_limit_that_pods_multiply_is_named_with_its_grants() {
        let local = raw::Rate::default();
        let global = raw::Rate {
            scope: Scope::Global,
            ..raw::Rate::default()
        };
        let divided = raw::Rate {
            local_share: Some(LocalShare::Replicas),
            ..raw::Rate::default()
        };
        let day = raw::Budget {
            requests: Some(1_000),
            ..raw::Budget::default()
        };
        let mut policy = policy(&[
            ("scoring", Some(local), Some(day)),
            ("shared", Some(global), None),
            ("divided", Some(divided), None),
        ]);
        assert_eq!(notes(&policy, Some(1)), [""; 0]);
        for (pods, factor) in [(Some(3), "3 times"), (None, "N times, with N pods,")] {
            let notes = notes(&policy, pods);
            assert_eq!(notes.len(), 1, "{notes:?}");
            let named = format!("gets {factor} as much: rate of scoring; budget of scoring; share");
            for note in &notes {
                assert!(note.contains(&named), "{note}");
                assert!(
                    note.contains("scope: global") && note.contains("redis"),
                    "{note}"
                );
            }
        }
        policy.lockout = Some(raw::Lockout::default());
        policy.grants.clear();
        let notes = notes(&policy, Some(2));
        assert!(
            notes.iter().any(|note| note.contains("lockout")) && notes.len() == 1,
            "{notes:?}"
        );
    }

    #[test]
    fn contents_count_per_host_where_proxies_have_none_of_their_own() {
        let elements = raw::Budget {
            elements: Some(1_000),
            ..raw::Budget::default()
        };
        let policy = policy(&[("scoring", Some(raw::Rate::default()), Some(elements))]);
        let in_pods = notes(&policy, Some(2));
        assert_eq!(in_pods.len(), 1, "{in_pods:?}");
        assert!(
            in_pods
                .concat()
                .contains("rate of scoring; budget of scoring;")
        );
        let elsewhere = notes(&policy, None);
        assert_eq!(elsewhere.len(), 2, "{elsewhere:?}");
        let (per_host, per_proxy) = (elsewhere.first().unwrap(), elsewhere.last().unwrap());
        assert!(per_host.contains("each sandbox host"), "{per_host}");
        assert!(per_host.contains("local: budget of scoring;"));
        assert!(per_proxy.contains("as much: rate of scoring; share"));
    }

    #[test]
    fn a_long_list_of_grants_counts_the_rest() {
        let names: Vec<_> = (0..10).map(|number| format!("g{number}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert_eq!(listed(&names), "g0, g1, g2, g3, g4, g5, g6, g7 and 2 more");
        assert_eq!(listed(&["a\u{1b}b"]), printable("a\u{1b}b"));
    }
}
