//! Differences in limits: what a grant allows each of its clients, before and after.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;
use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Allowance, Holder, Limit};

/// A limit that changes for a client.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Changed {
    pub(super) grant: String,
    pub(super) client: String,
    /// Public name of the limit.
    pub(super) limit: String,
    /// The limit before; `None` if there was none.
    pub(super) before: Option<String>,
    /// The limit after; `None` if there is none.
    pub(super) after: Option<String>,
    /// Direction of the change, if it has one.
    pub(super) allows: Option<Allows>,
}

/// Direction of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Allows {
    More,
    Less,
}

/// Grant, client and limit.
type Key = (String, String, String);

/// A limit, and whether it is in shadow mode.
type Held = (Allowance, bool);

/// Every limit that changes for a client with the same grant before and after.
pub(super) fn changed(before: &Policy, after: &Policy) -> Vec<Changed> {
    let both = |policy: &Policy, grant: &str, client: &str| {
        let grant = policy.grants().iter().find(|known| known.name() == grant);
        let id = policy.client_id(client);
        grant.is_some_and(|grant| id.is_some_and(|id| grant.clients().contains(&id)))
    };
    let (was, is) = (limits(before), limits(after));
    let mut keys: Vec<&Key> = was.keys().chain(is.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter(|(grant, client, _)| both(before, grant, client) && both(after, grant, client))
        .filter_map(|key| {
            let (was, is) = (was.get(key), is.get(key));
            let (grant, client, limit) = key.clone();
            (was != is).then(|| Changed {
                grant,
                client,
                limit,
                before: was.map(describe),
                after: is.map(describe),
                allows: allows(was, is),
            })
        })
        .collect()
}

fn limits(policy: &Policy) -> BTreeMap<Key, Held> {
    policy
        .allowances_with_callers()
        .map(|(grant, client, allowance)| {
            let limit = allowance.public_name(grant.name());
            let key = (grant.name().to_owned(), client.name().to_owned(), limit);
            (key, (allowance, grant.shadow().limits(allowance.unit)))
        })
        .collect()
}

fn allows(before: Option<&Held>, after: Option<&Held>) -> Option<Allows> {
    // A limit in shadow mode allows everything.
    let holds = |held: Option<&Held>| held.filter(|(_, shadowed)| !shadowed).map(|(it, _)| *it);
    let (before, after) = match (holds(before), holds(after)) {
        (None, None) => return None,
        (None, _) => return Some(Allows::Less),
        (_, None) => return Some(Allows::More),
        (Some(before), Some(after)) => (before, after),
    };
    // Compares quota per window by cross multiplication, to avoid fractions.
    let scaled_rate = |one: &Allowance, other: &Allowance| {
        u128::from(one.quota()).saturating_mul(u128::from(other.window_s()))
    };
    let ways = [
        after.most().cmp(&before.most()),
        scaled_rate(&after, &before).cmp(&scaled_rate(&before, &after)),
        // A limit shared by all gateways allows less than one per gateway.
        before.is_global().cmp(&after.is_global()),
    ];
    let goes = |way| ways.contains(&way);
    match (goes(Ordering::Greater), goes(Ordering::Less)) {
        (true, false) => Some(Allows::More),
        (false, true) => Some(Allows::Less),
        _ => None,
    }
}

fn describe((allowance, shadowed): &Held) -> String {
    let (quota, unit) = (allowance.quota(), allowance.unit.name());
    let text = match allowance.limit {
        Limit::Day(_) => format!("{quota} {unit} a day"),
        Limit::Window(rate) if rate.bucket().burst == quota => {
            format!("{quota} {unit} in {} s", rate.window_s())
        }
        Limit::Window(rate) => {
            let (window_s, burst) = (rate.window_s(), rate.bucket().burst);
            format!("{quota} {unit} in {window_s} s, {burst} at once")
        }
    };
    let shared = if allowance.is_global() {
        " for all gateways"
    } else {
        ""
    };
    let holder = match allowance.holder {
        Holder::Client | Holder::Model => String::new(),
        Holder::User { slots } => format!(" for each user, in {slots} slots"),
        Holder::Source { slots } => format!(" for each source, in {slots} slots"),
    };
    let shadow = if *shadowed { ", in shadow" } else { "" };
    format!("{text}{holder}{shared}{shadow}")
}
