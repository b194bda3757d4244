//! Clients, their keys with their last days, and groups.

use core::num::NonZeroU64;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tensorgate_policy::policy::{ApiKey, Client, ClientId};
use tensorgate_policy::report::{Path, quote};
use tensorgate_policy::values::time::end_of_day_unix_s;

use super::proofs::Owners;
use super::usage::{GROUP_PREFIX, Usage};
use super::{limits, names, proofs};
use crate::raw;

/// Keys by digest, each with the client and index where it stands first. Paths for a hundred
/// thousand keys would dominate the memory of validation.
type Keys<'r> = BTreeMap<[u8; 32], (ApiKey, (&'r str, usize))>;

/// Clients in name order, and their keys in the order of their digests; `None` if any of them is
/// faulty.
pub(super) fn clients(
    path: &Path,
    raw: &raw::Policy,
    used: &Usage<'_>,
) -> Option<(Vec<Client>, Vec<ApiKey>)> {
    let mut keys = Keys::new();
    let all = path;
    let mut owners = Owners::default();
    let mut clients = Vec::with_capacity(raw.clients.len());
    for (id, (name, client)) in (0..).map(ClientId).zip(&raw.clients) {
        let path = path.key(name);
        let named = names::name(&path, name);
        let keys_path = path.field("api_keys");
        let mut valid = Some(());
        for (index, key) in client.api_keys.iter().enumerate() {
            valid = valid.and(api_key(all, (id, name, index), key, &mut keys));
        }
        if client.api_keys_file.is_some() {
            // The loader replaces the file's name by its keys.
            path.field("api_keys_file")
                .error("the file was not read: the policy is checked without its files");
        }
        let jwt = client
            .jwt
            .as_ref()
            .map(|rule| proofs::jwt(&path.field("jwt"), rule, raw, &mut owners));
        let mtls = client
            .mtls
            .as_ref()
            .map(|rule| proofs::mtls(&path.field("mtls"), rule, &raw.listen, &mut owners));
        let metadata = client
            .metadata
            .as_ref()
            .map(|rule| proofs::metadata(&path.field("metadata"), rule, name, &mut owners));
        let sources = proofs::sources(&path.field("sources"), client.sources.as_deref());
        let proofs = [jwt.is_some(), mtls.is_some(), metadata.is_some()];
        if client.api_keys.is_empty() && !proofs.contains(&true) {
            keys_path.warn(
                format!(
                    "client {} has no credential, so that it can never authenticate",
                    quote(name)
                ),
                "add api_keys, jwt, mtls or metadata",
            );
        }
        if !used.clients.contains(name.as_str()) {
            path.warn(
                format!("client {} is in no grant", quote(name)),
                "add it to a grant, or remove it",
            );
        }
        let concurrency = limits::requests(&path.field("concurrency"), client.concurrency);
        // A present but invalid rule is `Some(None)`; then the client is invalid.
        let client = || {
            named.and(valid)?;
            Some(Client {
                name: name.clone(),
                jwt: jwt.map_or(Some(None), |rule| rule.map(Box::new).map(Some))?,
                mtls: mtls.map_or(Some(None), |rule| rule.map(Box::new).map(Some))?,
                metadata: metadata.map_or(Some(None), |rule| rule.map(Box::new).map(Some))?,
                sources: sources?,
                concurrency: concurrency?.and_then(NonZeroU64::new),
            })
        };
        clients.push(client());
    }
    let clients: Option<Vec<Client>> = clients.into_iter().collect();
    let keys = keys.into_values().map(|(key, _)| key);
    clients.map(|clients| (clients, keys.collect()))
}

/// Path of a client's key.
fn key_path(clients: &Path, (client, index): (&str, usize)) -> Path {
    clients.key(client).field("api_keys").index(index)
}

fn api_key<'r>(
    clients: &Path,
    (client, name, index): (ClientId, &'r str, usize),
    raw: &raw::ApiKey,
    keys: &mut Keys<'r>,
) -> Option<()> {
    let path = key_path(clients, (name, index));
    let digest_path = path.field("sha256");
    let text = digest_path.required(
        raw.sha256.as_deref(),
        "the digest that `tensorgate keys new` or `tensorgate keys hash` prints",
    );
    let sha256 = text.and_then(|text| names::sha256(&digest_path, text));
    let expires_unix_s = match &raw.not_after {
        None => Some(None),
        Some(text) => {
            let end = end_of_day_unix_s(text);
            if end.is_none() {
                let message = format!("{} is not a date", quote(text));
                path.field("not_after")
                    .error_with_fix(message, "YYYY-MM-DD, from 1970 on");
            }
            end.map(Some)
        }
    };
    let key = ApiKey {
        sha256: sha256?,
        // A day always ends after 1970-01-01.
        expires_unix_s: expires_unix_s.flatten().and_then(NonZeroU64::new),
        client,
        format: raw.format,
    };
    match keys.entry(key.sha256) {
        Entry::Occupied(first) => {
            let (_, first) = first.get();
            let first = key_path(clients, *first);
            digest_path.fail(format!("is the same key as {}", first.as_str()))
        }
        Entry::Vacant(entry) => {
            entry.insert((key, (name, index)));
            expires_unix_s.map(drop)
        }
    }
}

/// Groups contain existing clients, each once, and no groups.
pub(super) fn groups(path: &Path, raw: &raw::Policy, used: &Usage<'_>) {
    for (name, members) in &raw.groups {
        let path = path.key(name);
        names::name(&path, name);
        path.not_empty(members, "list its clients, or remove it");
        path.distinct(members);
        for (index, member) in members.iter().enumerate() {
            let path = path.index(index);
            if member.starts_with(GROUP_PREFIX)
                || (raw.groups.contains_key(member) && !raw.clients.contains_key(member))
            {
                path.error_with_fix(
                    "a group cannot contain a group",
                    "list the clients of that group",
                );
            } else if !raw.clients.contains_key(member) {
                path.unknown::<_, ()>("client", member, raw.clients.keys());
            }
        }
        if !used.groups.contains(name.as_str()) {
            path.warn(
                format!("group {} is in no grant", quote(name)),
                "add it to a grant, or remove it",
            );
        }
    }
}
