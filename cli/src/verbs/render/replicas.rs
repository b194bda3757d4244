//! What several pods make of limits that each of them, or each of their hosts, counts alone.

use std::collections::BTreeSet;

use tensorgate_cli_common::ui::printable;
use tensorgate_policy::policy::Model;
use tensorgate_policy::values::Scope;
use tensorgate_policy::{Operation, Policy};
use tensorgate_policy_compiler::raw;

/// Number of grants, or of models, that a note names for each kind of limit.
const NAMED: usize = 8;

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
    let limits = multiplied(policy, pods.is_none());
    if !limits.is_empty() {
        notes.push(format!(
            "note: {each} counts limits of scope local alone, so a client gets {factor} as much: {}; share them with scope: global and rate_limit_service: {{redis: …}}, or divide them with local_share: replicas where render knows the number of pods",
            limits.join("; ")
        ));
    }
    // Where the number of pods is not known, hosts run elsewhere and have their own notes.
    if pods.is_some() {
        let fix = "divide them with local_share: replicas, or set them for one host";
        notes.extend(of_hosts(policy, &each, fix));
    }
    if let Some(lockout) = &policy.lockout {
        notes.push(format!(
            "note: {each} counts the failures of lockout alone, so a guesser has {factor} as many ({}); no service shares them: set failures for one pod",
            lockout.failures.0
        ));
    }
    notes
}

/// Notes on what each host counts alone, for proxies whose hosts run elsewhere. `streaming` are the
/// grants of [`streaming`].
pub(super) fn notes_on_hosts(policy: &raw::Policy, streaming: &[&str]) -> Vec<String> {
    let mut notes = Vec::new();
    let contents = contents(policy);
    if !contents.is_empty() {
        notes.push(format!(
            "note: each sandbox host, and not each pod of the proxies, counts contents (elements, bytes, tokens) of scope local: {}; with several hosts share them with scope: global and rate_limit_service: {{redis: …}}",
            contents.join("; ")
        ));
    }
    let requests = local_kinds(policy, &raw::CLIENT_LIMITS, |grant, kind| {
        limits_requests(grant, kind) && limits_callers(grant)
    });
    if !requests.is_empty() {
        notes.push(format!(
            "note: each sandbox host, and not each pod of the proxies, counts requests of grants that limit those of users or sources: {}; with several hosts share them with scope: global and rate_limit_service: {{redis: …}}",
            requests.join("; ")
        ));
    }
    notes.extend(of_hosts(
        policy,
        "each sandbox host",
        "set them for one host",
    ));
    let is_streaming = |grant: &raw::Grant| {
        let name = grant.name.as_deref();
        name.is_some_and(|name| streaming.contains(&name))
    };
    let messages = local_kinds(policy, &raw::CLIENT_LIMITS, |grant, kind| {
        is_streaming(grant) && limits_requests(grant, kind) && !limits_callers(grant)
    });
    if !messages.is_empty() {
        notes.push(format!(
            "note: each sandbox host counts messages of streams alone, beside the requests that each pod of the proxies counts, for limits of scope local: {}; share them with scope: global and rate_limit_service: {{redis: …}}",
            messages.join("; ")
        ));
    }
    let grants = policy.grants.iter();
    let grants = grants.filter(|grant| grant.concurrency.is_some() && is_streaming(grant));
    let grants: Vec<_> = grants.filter_map(|grant| grant.name.as_deref()).collect();
    let models = policy.models.iter();
    let models = models.filter(|(_, model)| model.limits.is_some());
    let models: Vec<_> = models.map(|(name, _)| name.as_str()).collect();
    let mut in_flight = Vec::new();
    if !grants.is_empty() {
        let grants = listed(&grants);
        in_flight.push(format!("concurrency of {grants}, for messages of streams"));
    }
    if !models.is_empty() {
        in_flight.push(format!("limits of models: {}", listed(&models)));
    }
    if !in_flight.is_empty() {
        notes.push(format!(
            "note: each sandbox host counts requests in flight alone: {}; no service shares them: set them for one host",
            in_flight.join("; ")
        ));
    }
    notes
}

/// Names of the grants by which clients send messages of streams, which the host counts.
pub(super) fn streaming(policy: &Policy) -> Vec<&str> {
    let mut ids = BTreeSet::new();
    for (_, model, _, operation, grant) in policy.granted() {
        let takes_messages = policy.model(model).is_some_and(Model::takes_messages);
        if operation == Operation::Stream && takes_messages {
            ids.insert(grant);
        }
    }
    let grants = ids.into_iter().filter_map(|id| policy.grant(id));
    grants.map(|grant| grant.name()).collect()
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
    local_kinds(policy, &raw::CLIENT_LIMITS, |grant, kind| {
        !requests_only || (limits_requests(grant, kind) && !limits_callers(grant))
    })
}

/// Whether a kind of limit of a grant limits requests.
fn limits_requests(grant: &raw::Grant, kind: &str) -> bool {
    match kind {
        "cost" => false,
        "budget" => {
            let budget = grant.budget.as_ref();
            budget.is_some_and(|budget| budget.requests.is_some())
        }
        _ => true,
    }
}

/// Whether a grant limits requests of users or sources, so that its hosts count all requests.
fn limits_callers(grant: &raw::Grant) -> bool {
    grant.callers().any(raw::CallerLimits::limits_requests)
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
    local_kinds(policy, &raw::CLIENT_LIMITS, counts)
}

/// A note on limits of users, sources and models, which no service shares.
fn of_hosts(policy: &raw::Policy, each: &str, fix: &str) -> Option<String> {
    let kinds = [raw::USER_LIMITS, raw::SOURCE_LIMITS].concat();
    let mut kinds = local_kinds(policy, &kinds, |_, _| true);
    let models = policy.models.iter();
    let counted = |budget: &raw::Budget| budget.local_share.is_none();
    let models = models.filter(|(_, model)| model.budget.as_ref().is_some_and(counted));
    let models: Vec<_> = models.map(|(name, _)| name.as_str()).collect();
    if !models.is_empty() {
        kinds.push(format!("budget of models {}", listed(&models)));
    }
    (!kinds.is_empty()).then(|| {
        format!(
            "note: {each} counts limits of users, sources and models alone: {}; {fix}",
            kinds.join("; ")
        )
    })
}

/// The kinds of limits of scope `local` that are not divided and that `counts`, each with its
/// grants.
fn local_kinds(
    policy: &raw::Policy,
    kinds: &[&'static str],
    counts: impl Fn(&raw::Grant, &str) -> bool,
) -> Vec<String> {
    let kinds = kinds.iter().copied();
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
        .take(NAMED)
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
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use tensorgate_policy_compiler::raw::LocalShare;

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
        let (per_host, per_proxy) = (notes_on_hosts(&policy, &[]), notes(&policy, None));
        assert_eq!(per_host.len(), 1, "{per_host:?}");
        let per_host = per_host.concat();
        assert!(per_host.contains("each sandbox host"), "{per_host}");
        assert!(per_host.contains("local: budget of scoring;"));
        assert_eq!(per_proxy.len(), 1, "{per_proxy:?}");
        assert!(
            per_proxy
                .concat()
                .contains("as much: rate of scoring; share")
        );
    }

    #[test]
    fn requests_of_grants_that_limit_users_count_per_host() {
        let mut policy = policy(&[("scoring", Some(raw::Rate::default()), None)]);
        for grant in &mut policy.grants {
            grant.per_user = Some(raw::CallerLimits {
                rate: Some(raw::Rate::default()),
                ..raw::CallerLimits::default()
            });
        }
        assert_eq!(notes(&policy, None), [""; 0]);
        let notes = notes_on_hosts(&policy, &[]);
        let [of_client, of_users] = notes.as_slice() else {
            panic!("{notes:?}")
        };
        assert!(
            of_client.contains("or sources: rate of scoring;"),
            "{of_client}"
        );
        assert!(of_users.contains("per_user.rate of scoring;"), "{of_users}");
        // `render` does not know the number of these hosts, so it cannot divide a limit.
        assert!(!notes.concat().contains("local_share"), "{notes:?}");
    }

    #[test]
    fn messages_of_streams_and_requests_in_flight_count_per_host() {
        let global = raw::Rate {
            scope: Scope::Global,
            ..raw::Rate::default()
        };
        let day = raw::Budget {
            requests: Some(1_000),
            ..raw::Budget::default()
        };
        let mut policy = policy(&[
            ("unary", Some(raw::Rate::default()), None),
            ("frames", Some(raw::Rate::default()), Some(day)),
            ("shared", Some(global), None),
        ]);
        for grant in &mut policy.grants {
            grant.concurrency = Some(4.into());
        }
        assert_eq!(notes_on_hosts(&policy, &[]), [""; 0]);
        let notes = notes_on_hosts(&policy, &["frames", "shared"]);
        assert_eq!(notes.len(), 2, "{notes:?}");
        let all = notes.concat();
        for part in [
            "each sandbox host counts messages of streams alone",
            "scope local: rate of frames; budget of frames; share",
            "alone: concurrency of frames, shared, for messages of streams; no service",
        ] {
            assert!(all.contains(part), "{part}: {all}");
        }
        let limited = raw::Model {
            limits: Some(raw::ModelLimits::default()),
            ..raw::Model::default()
        };
        policy.models.insert("digits".to_owned(), limited.into());
        let models = notes_on_hosts(&policy, &[]).concat();
        assert!(
            models.contains("alone: limits of models: digits; no"),
            "{models}"
        );
    }

    #[test]
    fn a_long_list_of_grants_counts_the_rest() {
        let names: Vec<_> = (0..10).map(|number| format!("g{number}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert_eq!(listed(&names), "g0, g1, g2, g3, g4, g5, g6, g7 and 2 more");
        assert_eq!(listed(&["a\u{1b}b"]), printable("a\u{1b}b"));
    }
}
