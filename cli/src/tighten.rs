//! Tightening: applies only the removals of a policy change.
//!
//! A change is held while one of its files is being written or has faults, while the host or Envoy
//! rejects it, or while it would make ready models unready. Its revocations and removals still take
//! effect, and contracts that only tighten. [`tighten`] builds that version: the policy in force,
//! minus what the change removes. Nothing is ever added: no client, no credential, no grant, and no
//! wider scope of any of them.

mod contract;

use std::collections::{BTreeMap, BTreeSet};

use tensorgate_policy::policy::{ClientId, GrantId};
use tensorgate_policy::{Fault, Policy};
use tensorgate_policy_compiler::{Version, raw};

/// Prefix of a group in a grant's list of clients.
const GROUP_PREFIX: &str = "group:";

/// What newly read sources remove.
#[derive(Clone, Copy, Debug, Default)]
pub struct Removals<'a> {
    /// Well-formed entries of revocation lists, in the order of the lists.
    pub revoked: Option<&'a raw::Revoked>,
    /// The digests that remain in each client's file of API keys.
    pub keys: Option<&'a BTreeMap<String, BTreeSet<String>>>,
    /// A valid policy that is not in force: everything that it lacks is removed.
    pub next: Option<&'a Version>,
    /// A valid policy that is not in force: models whose contracts it only tightens are taken.
    pub contracts: Option<&'a Version>,
}

/// The models whose contracts only tighten in another version, while their servers and handlers
/// stay as they are.
pub fn tightened_contracts(now: &Version, next: &Version) -> Vec<String> {
    let (now, next) = (&now.raw, &next.raw);
    let tightened = next.models.iter().filter(|(name, model)| {
        let Some(before) = now.models.get(*name).filter(|before| before != model) else {
            return false;
        };
        let backend = |policy: &raw::Policy| {
            let name = model.backend.as_ref()?;
            policy.backends.get(name).cloned()
        };
        let has_handlers = model.preprocess.is_some() || model.postprocess.is_some();
        backend(next).is_some()
            && backend(now) == backend(next)
            && (!has_handlers || now.handlers == next.handlers)
            && contract::only_tightens(before, model)
    });
    tightened.map(|(name, _)| name.clone()).collect()
}

/// A version without the removals; `None` if nothing changes.
///
/// # Errors
/// The faults of the resulting policy.
pub fn tightened(now: &Version, removals: Removals<'_>) -> Result<Option<Version>, Vec<Fault>> {
    let mut left = tighten(&now.raw, &now.policy, removals);
    if let Some(next) = removals.contracts {
        for name in tightened_contracts(now, next) {
            let model = next.raw.models.get(&name).cloned();
            left.models.extend(model.map(|model| (name, model)));
        }
    }
    if left == now.raw {
        return Ok(None);
    }
    Version::new(left).map(Some)
}

/// The policy in force without the removals. `now` is the same policy, validated.
fn tighten(in_force: &raw::Policy, now: &Policy, removals: Removals<'_>) -> raw::Policy {
    let mut left = in_force.clone();
    if let Some(revoked) = removals.revoked {
        revoke(&mut left.revoked, revoked);
    }
    for (client, digests) in removals.keys.into_iter().flatten() {
        if let Some(client) = left.clients.get_mut(client) {
            let is_left = |key: &raw::ApiKey| {
                let digest = key.sha256.as_ref();
                digest.is_some_and(|digest| digests.contains(digest))
            };
            client.api_keys.retain(is_left);
        }
    }
    if let Some(next) = removals.next {
        remove_clients(&mut left, &next.raw);
        remove_grants(&mut left, now, &next.policy);
    }
    left
}

/// Adds entries to the revocation lists.
fn revoke(lists: &mut raw::Revoked, more: &raw::Revoked) {
    add(&mut lists.jti, &more.jti);
    add(&mut lists.keys, &more.keys);
    add(&mut lists.certificates, &more.certificates);
    let serials = more.serials.as_deref().unwrap_or_default();
    if !serials.is_empty() {
        add(lists.serials.get_or_insert_default(), serials);
    }
}

/// Adds the entries that are missing. If there are any, all entries follow the order of the newly
/// read list, so that a later read of the whole policy gives the same version.
fn add(list: &mut Vec<String>, more: &[String]) {
    let (known, read): (BTreeSet<_>, BTreeSet<_>) = (list.iter().collect(), more.iter().collect());
    if read.is_subset(&known) {
        return;
    }
    let missing = list.iter().filter(|entry| !read.contains(entry));
    *list = more.iter().chain(missing).cloned().collect();
}

/// Removes clients that the next policy lacks, and credentials that it lacks of the remaining
/// clients.
fn remove_clients(left: &mut raw::Policy, next: &raw::Policy) {
    left.clients.retain(|name, client| {
        let next = next.clients.get(name);
        if let Some(next) = next {
            remove_credentials(client, next);
        }
        next.is_some()
    });
    let clients = &left.clients;
    left.groups.retain(|_, members| {
        members.retain(|member| clients.contains_key(member));
        !members.is_empty()
    });
}

fn remove_credentials(client: &mut raw::Client, next: &raw::Client) {
    let keys = next.api_keys.iter();
    let keys: BTreeMap<_, _> = keys.map(|key| (&key.sha256, &key.not_after)).collect();
    client.api_keys.retain_mut(|key| {
        let Some(not_after) = keys.get(&key.sha256) else {
            return false;
        };
        // Calendar days, `YYYY-MM-DD`: they sort as text.
        if let Some(day) = not_after
            && key.not_after.as_ref().is_none_or(|now| day < now)
        {
            key.not_after = Some(day.clone());
        }
        true
    });
    let same_token = |now: &raw::JwtRule| {
        next.jwt.as_ref().is_some_and(|next| {
            let subject = next.subject.is_none() || next.subject == now.subject;
            next.issuer == now.issuer && subject
        })
    };
    client.jwt.take_if(|now| !same_token(now));
    client.mtls.take_if(|now| next.mtls.as_ref() != Some(now));
    client
        .metadata
        .take_if(|now| next.metadata.as_ref() != Some(now));
}

/// Removes clients from grants where the next policy allows them no operation on any model of the
/// grant. A grant without clients is removed. A renamed or split grant keeps its clients, because
/// some operation remains allowed.
fn remove_grants(left: &mut raw::Policy, now: &Policy, next: &Policy) {
    let kept = still_granted(now, next);
    let mut grants = Vec::new();
    for (mut grant, id) in left
        .grants
        .drain(..)
        .zip(now.grants_by_id().map(|(id, _)| id))
    {
        let is_kept = |name: &String| {
            let client = now.client_id(name);
            client.is_some_and(|client| kept.contains(&(id, client)))
        };
        let mut seen = BTreeSet::new();
        let mut clients = Vec::new();
        for name in &grant.clients {
            let group = name.strip_prefix(GROUP_PREFIX);
            match group.map(|group| left.groups.get(group)) {
                Some(Some(members)) if members.iter().all(is_kept) => clients.push(name.clone()),
                Some(members) => clients.extend(members.into_iter().flatten().cloned()),
                None => clients.push(name.clone()),
            }
        }
        clients.retain(|name| {
            let group = name.starts_with(GROUP_PREFIX);
            (group || is_kept(name)) && seen.insert(name.clone())
        });
        if !clients.is_empty() {
            grant.clients = clients;
            grants.push(grant);
        }
    }
    left.grants = grants;
}

/// Pairs of grant and client of which the next policy keeps at least one operation.
fn still_granted(now: &Policy, next: &Policy) -> BTreeSet<(GrantId, ClientId)> {
    let mut kept = BTreeSet::new();
    for (client, model, version, operation, grant) in now.granted() {
        if kept.contains(&(grant, client)) {
            continue;
        }
        let still = || {
            let (was, model) = (now.client(client)?, now.model(model)?);
            let version = model.versions().get(usize::try_from(version).ok()?)?;
            let (client, id) = (next.client_id(was.name())?, next.model_id(model.name())?);
            let versions = next.model(id)?.versions();
            let index = versions.iter().position(|name| name == version)?;
            next.grant_for(client, id, u32::try_from(index).ok()?, operation)
        };
        if still().is_some() {
            kept.insert((grant, client));
        }
    }
    kept
}

#[cfg(test)]
mod tests;
