//! Limits of end users and sources: which there are, whether a caller can be told from others, and
//! how many states they may have.

use std::collections::BTreeSet;

use tensorgate_policy::policy::{
    Allowance, CallerLimits, ClientId, Holder, MAX_POLICY_SLOTS, MIN_SLOTS, Model, allowances,
};
use tensorgate_policy::report::{Path, Valid, quote};
use tensorgate_policy::values::Scope;

use super::{limits, service};
use crate::raw;

/// A grant whose limits are validated.
#[derive(Clone, Copy)]
pub(super) struct Limited<'g> {
    pub(super) path: &'g Path,
    pub(super) grant: &'g raw::Grant,
    /// Ids in name order.
    pub(super) clients: Option<&'g BTreeSet<ClientId>>,
    pub(super) infers: bool,
    pub(super) models: &'g [&'g Model],
    pub(super) policy: &'g raw::Policy,
}

/// The limits of a grant's users and sources, if any; the outer `None` is a fault. `slots` counts
/// those of the policy so far.
pub(super) fn of_grant(limited: Limited<'_>, slots: &mut u64) -> Valid<Option<Box<CallerLimits>>> {
    let Limited { path, grant, .. } = limited;
    let (user_path, source_path) = (&path.field("per_user"), &path.field("per_source"));
    let per_user = limits(
        limited,
        user_path,
        grant.per_user.as_ref(),
        slots,
        |slots| Holder::User { slots },
    );
    let per_source = limits(
        limited,
        source_path,
        grant.per_source.as_ref(),
        slots,
        |slots| Holder::Source { slots },
    );
    let known = grant.per_user.as_ref().map(|_| users(limited, user_path));
    let listen = &limited.policy.listen;
    if grant.per_source.is_some() && listen.trusted_hops.0 == 0 && listen.tls.is_none() {
        source_path.warn(
            "behind a proxy or load balancer all callers have one source address, and share one quota",
            "listen.trusted_hops: the number of proxies in front",
        );
    }
    let (per_user, per_source) = (per_user?, per_source?);
    known.unwrap_or(Some(()))?;
    if per_user.is_empty() && per_source.is_empty() {
        return Some(None);
    }
    Some(Some(Box::new(CallerLimits {
        per_user,
        per_source,
    })))
}

/// The limits of one kind of holder.
fn limits(
    limited: Limited<'_>,
    path: &Path,
    raw: Option<&raw::CallerLimits>,
    slots: &mut u64,
    holder: impl Fn(u32) -> Holder,
) -> Option<Vec<Allowance>> {
    let Some(raw) = raw else {
        return Some(Vec::new());
    };
    let Limited { infers, models, .. } = limited;
    let own_slots = raw.slots.check(&path.field("slots"));
    let rate = limits::rate(&path.field("rate"), raw.rate.as_ref());
    let cost = limits::cost(&path.field("cost"), raw.cost.as_ref(), infers, models);
    let budget = limits::budget(&path.field("budget"), raw.budget.as_ref(), infers, models);
    let scopes = [
        ("rate", raw.rate.as_ref().map(|it| it.scope)),
        ("cost", raw.cost.as_ref().map(|it| it.scope)),
        ("budget", raw.budget.as_ref().map(|it| it.scope)),
    ];
    let mut valid = Some(());
    for (name, scope) in scopes {
        if scope == Some(Scope::Global) {
            valid = valid.and(service::of_hosts(&path.field(name)));
        }
    }
    if scopes.iter().all(|(_, scope)| scope.is_none()) {
        path.error_with_fix("sets no limit", "rate, cost or budget");
        return None;
    }
    let grant = limited.grant;
    let missing = [
        ("rate", raw.rate.is_some() && grant.rate.is_none()),
        ("cost", raw.cost.is_some() && grant.cost.is_none()),
        ("budget", raw.budget.is_some() && grant.budget.is_none()),
    ];
    for (name, _) in missing.into_iter().filter(|(_, is_missing)| *is_missing) {
        path.field(name).warn(
            "limits no client as a whole: one that changes its users or sources gets the quota of every slot",
            format!("{name} of the grant"),
        );
    }
    if grant.limits_requests() && !raw.limits_requests() {
        path.warn(
            "limits no requests: one over this limit can still use up its client's rate",
            "rate",
        );
    }
    valid?;
    let own_slots: u32 = own_slots?;
    let found: Vec<_> = allowances(rate?, &cost?, &budget?, holder(own_slots)).collect();
    let clients = limited.clients.map_or(0, BTreeSet::len);
    fits(path, (found.len(), clients, own_slots), slots)?;
    Some(found)
}

/// Bounds the states of the whole policy.
fn fits(path: &Path, (limits, clients, slots): (usize, usize, u32), all: &mut u64) -> Option<()> {
    let counted = u64::try_from(limits.saturating_mul(clients)).unwrap_or(u64::MAX);
    let before = *all;
    *all = all.saturating_add(counted.saturating_mul(u64::from(slots)));
    if before > MAX_POLICY_SLOTS || *all <= MAX_POLICY_SLOTS {
        return Some(());
    }
    let left = MAX_POLICY_SLOTS.saturating_sub(before).checked_div(counted);
    let fix = match left.filter(|left| *left >= u64::from(MIN_SLOTS)) {
        Some(left) => format!("slots: {left}"),
        None => "fewer clients or limits".into(),
    };
    path.fail_with_fix(
        format!(
            "makes {all} slots in the policy, more than {MAX_POLICY_SLOTS}: {clients} clients, {limits} limits, {slots} slots each"
        ),
        fix,
    )
}

/// Whether tokens of the clients name a user. Other callers share the quota of one user.
fn users(limited: Limited<'_>, path: &Path) -> Option<()> {
    let policy = limited.policy;
    let names_user = |rule: &raw::JwtRule| {
        let issuer = rule.issuer.as_ref().and_then(|it| policy.issuers.get(it));
        issuer.is_some_and(|issuer| issuer.user_claim.is_some())
    };
    let granted = limited.clients?;
    let clients: Vec<_> = (0..)
        .zip(&policy.clients)
        .filter_map(|(id, client)| granted.contains(&ClientId(id)).then_some(client))
        .collect();
    if !clients
        .iter()
        .any(|(_, it)| it.jwt.as_deref().is_some_and(names_user))
    {
        return path.fail_with_fix(
            "no token of the grant's clients names a user",
            "issuers: {…: {user_claim: sub}}",
        );
    }
    let shares = |client: &raw::Client| {
        let jwt = client.jwt.as_deref().filter(|rule| !names_user(rule));
        [
            ("API keys", !client.api_keys.is_empty()),
            ("tokens without user_claim", jwt.is_some()),
            ("certificates", client.mtls.is_some()),
            ("metadata", client.metadata.is_some()),
        ]
        .into_iter()
        .find_map(|(what, has)| has.then_some(what))
    };
    if let Some((name, what)) = clients
        .iter()
        .find_map(|(name, it)| Some((name, shares(it)?)))
    {
        path.warn(
            format!(
                "callers with {what} of client {} share the quota of one user",
                quote(name)
            ),
            "a client of their own",
        );
    }
    Some(())
}
