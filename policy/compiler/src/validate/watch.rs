//! The anomaly rules: which run, their thresholds and exceptions, what their alerts do, and who
//! receives them. An exception names clients and models that exist, and never hides all of a rule
//! unnoticed.

mod quiet;

use tensorgate_policy::policy::{Network, QuietWindow, RuleSettings, Watch, are_always};
use tensorgate_policy::report::{Path, all, optional, quote};
use tensorgate_policy::values::{AlertAction, WatchRule};

use super::names;
use super::proofs::network;
use super::webhook::webhook;
use crate::raw;

/// Maximum number of webhooks beside `webhook`. Each has queues of its own.
const MAX_WEBHOOKS: usize = 7;
/// Minimum and maximum number of times the usual number.
const TIMES: (f64, f64) = (1.1, 1_000.0);
/// Maximum number of networks in an exception. Each alert is compared with all of them.
const MAX_SOURCES: usize = 1_024;
/// Maximum number of quiet windows of a rule.
const MAX_WINDOWS: usize = 32;

pub(super) fn watch(at: &Path, policy: &raw::Policy) -> Option<Watch> {
    let default = raw::Watch::default();
    let raw = policy.watch.as_ref().unwrap_or(&default);
    let named = optional(raw.name.as_ref(), |name| {
        names::name(&at.field("name"), name).map(|()| name.clone())
    });
    let first = webhook(&at.field("webhook"), raw.webhook.as_ref());
    let webhooks_path = at.field("webhooks");
    let bounded = webhooks_path.at_most(raw.webhooks.len(), MAX_WEBHOOKS, "webhooks are too many");
    let further: Option<Vec<_>> = webhooks_path.each(&raw.webhooks, |path, raw| {
        webhook(path, Some(raw)).flatten()
    });
    let distinct = at.field("off").distinct(&raw.off);
    let on_alert = on_alert(&at.field("on_alert"), raw);
    let response_s = raw.response_s.check(&at.field("response_s"));
    let rules = rules(&at.field("rules"), policy, raw);
    bounded?;
    distinct?;
    let first = first?;
    let has_first_webhook = first.is_some();
    Some(Watch {
        enabled: raw.enabled,
        off: raw.off.clone(),
        name: named?,
        webhooks: first.into_iter().chain(further?).collect(),
        has_first_webhook,
        on_alert: on_alert?,
        response_s: response_s?,
        rules: rules?,
    })
}

/// The rule with this name, which must not be off.
fn running(at: &Path, name: &str, raw: &raw::Watch) -> Option<WatchRule> {
    let Some(rule) = WatchRule::from_name(name) else {
        let known: Vec<&'static str> = WatchRule::ALL.iter().map(|rule| rule.name()).collect();
        return at.unknown_of("rule", name, &known);
    };
    if raw.off.contains(&rule) {
        return at.fail_with_fix(
            format!("the rule {} is off, so it has no alerts", quote(name)),
            "remove this line, or the rule from watch.off",
        );
    }
    Some(rule)
}

/// What alerts do. Only rules about clients may block or throttle one.
fn on_alert(at: &Path, raw: &raw::Watch) -> Option<Vec<(WatchRule, AlertAction)>> {
    // To notify is what every rule does.
    let actions = raw.on_alert.iter().filter(|(name, action)| {
        **action != AlertAction::Notify || WatchRule::from_name(name).is_none()
    });
    all(actions.map(|(name, action)| {
        let at = at.key(name);
        match WatchRule::from_name(name) {
            Some(rule) if !rule.is_about_clients() => {
                let about = if rule.is_about_gate() {
                    "the gate itself"
                } else {
                    "sources or models"
                };
                at.fail_with_fix(
                    format!(
                        "alerts of {} are about {about}, and only a client can be blocked or throttled",
                        quote(name)
                    ),
                    "notify",
                )
            }
            _ => running(&at, name, raw).map(|rule| (rule, *action)),
        }
    }))
}

/// Thresholds and exceptions.
fn rules(
    at: &Path,
    policy: &raw::Policy,
    raw: &raw::Watch,
) -> Option<Vec<(WatchRule, RuleSettings)>> {
    all(raw.rules.iter().map(|(name, settings)| {
        let at = at.key(name);
        let rule = running(&at, name, raw)?;
        rule_settings(&at, rule, policy, settings).map(|settings| (rule, settings))
    }))
}

fn rule_settings(
    at: &Path,
    rule: WatchRule,
    policy: &raw::Policy,
    raw: &raw::RuleSettings,
) -> Option<RuleSettings> {
    let at_least = optional(raw.at_least, |number| {
        let at = at.field("at_least");
        if !rule.has_at_least() {
            return at.fail_with_fix(format!("{rule} counts nothing"), "remove it");
        }
        number.check(&at)
    });
    let times = optional(raw.times, |times| factor(&at.field("times"), rule, times));
    let except = at.field("except");
    let clients = listed(
        &except.field("clients"),
        (rule, rule.has_clients(), "clients"),
        "client",
        &raw.except.clients,
        policy.clients.keys().map(String::as_str).collect(),
    );
    let models = listed(
        &except.field("models"),
        (rule, rule.has_models(), "models"),
        "model",
        &raw.except.models,
        policy.models.keys().map(String::as_str).collect(),
    );
    let sources = sources(&except.field("sources"), rule, &raw.except.sources);
    let quiet = windows(&at.field("quiet"), rule, &raw.quiet);
    Some(RuleSettings {
        at_least: at_least?,
        times: times?,
        clients: clients?,
        models: models?,
        sources: sources?,
        quiet: quiet?,
    })
}

fn factor(at: &Path, rule: WatchRule, times: f64) -> Option<f64> {
    let (least, most) = TIMES;
    if !rule.has_times() {
        return at.fail_with_fix(
            format!("{rule} does not compare with a multiple of the usual number"),
            "remove it",
        );
    }
    if !(least..=most).contains(&times) {
        return at.fail_with_fix(
            format!("{times} times is out of bounds"),
            format!("{least} to {most}"),
        );
    }
    Some(times)
}

/// Names in an exception, which exist. `about`: the rule, whether its alerts are about such names,
/// and what they are.
fn listed(
    at: &Path,
    about: (WatchRule, bool, &str),
    kind: &str,
    names: &[String],
    known: Vec<&str>,
) -> Option<Vec<String>> {
    let (rule, is_allowed, whose) = about;
    if names.is_empty() {
        return Some(Vec::new());
    }
    if !is_allowed {
        return not_about(at, rule, whose);
    }
    let distinct = at.distinct(names);
    let found: Option<Vec<String>> = at.each(names, |at, name| {
        if known.contains(&name.as_str()) {
            Some(name.clone())
        } else {
            at.unknown(kind, name, known.iter().copied())
        }
    });
    let found = distinct.and(found)?;
    // Some rules are about clients and about others.
    let is_about_others = matches!(
        rule,
        WatchRule::Rejections
            | WatchRule::Management
            | WatchRule::PredictionDrift
            | WatchRule::CircuitOpen
    );
    let is_all = whose == "models" || !is_about_others;
    if is_all && found.len() >= known.len() {
        hides_all(at, rule);
    }
    Some(found)
}

fn sources(at: &Path, rule: WatchRule, texts: &[String]) -> Option<Vec<Network>> {
    if texts.is_empty() {
        return Some(Vec::new());
    }
    if !rule.has_sources() {
        return not_about(at, rule, "sources");
    }
    at.at_most(texts.len(), MAX_SOURCES, "networks are too many")?;
    let distinct = at.distinct(texts);
    let networks: Option<Vec<Network>> = at.each(texts, |at, text| network(at, text));
    let networks = distinct.and(networks)?;
    for (index, network) in networks.iter().enumerate() {
        if network.prefix_bits == 0 {
            at.index(index).warn(
                format!("hides the alerts of {rule} about every source"),
                format!("watch: {{off: [{rule}]}}"),
            );
        }
    }
    Some(networks)
}

fn windows(at: &Path, rule: WatchRule, texts: &[String]) -> Option<Vec<QuietWindow>> {
    at.at_most(texts.len(), MAX_WINDOWS, "windows are too many")?;
    let distinct = at.distinct(texts);
    let windows: Option<Vec<QuietWindow>> = at.each(texts, |at, text| quiet::window(at, text));
    let windows = distinct.and(windows)?;
    if !windows.is_empty() && are_always(&windows) {
        hides_all(at, rule);
    }
    Some(windows)
}

fn not_about<T>(at: &Path, rule: WatchRule, whose: &str) -> Option<T> {
    let known: Vec<&str> = [
        (rule.has_clients(), "clients"),
        (rule.has_models(), "models"),
        (rule.has_sources(), "sources"),
    ]
    .into_iter()
    .filter_map(|(is_known, name)| is_known.then_some(name))
    .collect();
    let fix = if known.is_empty() {
        "quiet, or watch.off".to_owned()
    } else {
        format!("except: {{{}: […]}}", known.join(" or "))
    };
    at.fail_with_fix(format!("no alert of {rule} is about {whose}"), fix)
}

fn hides_all(at: &Path, rule: WatchRule) {
    at.warn(
        format!("hides every alert of {rule}"),
        format!("watch: {{off: [{rule}]}}"),
    );
}
