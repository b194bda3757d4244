//! Clients, their keys, and groups of them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use super::date::end_of_day_unix_s;
use super::proofs::{self, Owners};
use super::report::{Path, Report, quote, unknown};
use super::usage::{GROUP_PREFIX, Usage};
use super::{flight, names};
use crate::policy::{ApiKey, Client};
use crate::raw;

/// Where the first of equal keys stands: whose it is, and which of its keys. A path for each of a hundred thousand would be most of what
/// validation needs.
type KeyOwners<'r> = BTreeMap<[u8; 32], (&'r str, usize)>;

/// Clients, in name order; `None` if any of them is faulty.
pub(super) fn clients(
    report: &mut Report,
    path: &Path,
    raw: &raw::Policy,
    used: &Usage<'_>,
) -> Option<Vec<Client>> {
    let mut key_owners = KeyOwners::new();
    let all = path;
    let mut owners = Owners::default();
    let mut clients = Vec::with_capacity(raw.clients.len());
    for (name, client) in &raw.clients {
        let path = path.key(name);
        let named = names::name(report, &path, name);
        let keys_path = path.field("api_keys");
        let keys: Vec<Option<ApiKey>> = client
            .api_keys
            .iter()
            .enumerate()
            .map(|(index, key)| api_key(report, all, (name, index), key, &mut key_owners))
            .collect();
        if client.api_keys_file.is_some() {
            // Whoever loads a policy puts the keys in the file's place.
            report.error(&path.field("api_keys_file"), "the file has not been read");
        }
        let jwt = client
            .jwt
            .as_ref()
            .map(|rule| proofs::jwt(report, &path.field("jwt"), rule, raw, &mut owners));
        let mtls = client
            .mtls
            .as_ref()
            .map(|rule| proofs::mtls(report, &path.field("mtls"), rule, &raw.listen, &mut owners));
        let metadata = client
            .metadata
            .as_ref()
            .map(|rule| proofs::metadata(report, &path.field("metadata"), rule, name, &mut owners));
        let sources = proofs::sources(report, &path.field("sources"), client.sources.as_deref());
        let proofs = [jwt.is_some(), mtls.is_some(), metadata.is_some()];
        if client.api_keys.is_empty() && !proofs.contains(&true) {
            report.warn(
                &keys_path,
                format!("client {} can never prove who it is", quote(name)),
                "add a key",
            );
        }
        if !used.clients.contains(name.as_str()) {
            report.warn(
                &path,
                format!("client {} is in no grant", quote(name)),
                "grant it something or remove it",
            );
        }
        let api_keys: Option<Vec<ApiKey>> = keys.into_iter().collect();
        let concurrency = flight::requests(report, &path.field("concurrency"), client.concurrency);
        // A rule that is there and faulty is `Some(None)`: it leaves no client.
        let client = || {
            named?;
            Some(Client {
                name: name.clone(),
                api_keys: api_keys?,
                jwt: jwt.map_or(Some(None), |rule| rule.map(Box::new).map(Some))?,
                mtls: mtls.map_or(Some(None), |rule| rule.map(Some))?,
                metadata: metadata.map_or(Some(None), |rule| rule.map(Box::new).map(Some))?,
                sources: sources?,
                concurrency: concurrency?,
            })
        };
        clients.push(client());
    }
    clients.into_iter().collect()
}

/// Where a client's key stands.
fn key_path(clients: &Path, (client, index): (&str, usize)) -> Path {
    clients.key(client).field("api_keys").index(index)
}

fn api_key<'r>(
    report: &mut Report,
    clients: &Path,
    place: (&'r str, usize),
    raw: &raw::ApiKey,
    owners: &mut KeyOwners<'r>,
) -> Option<ApiKey> {
    let path = key_path(clients, place);
    let digest_path = path.field("sha256");
    let text = report.required(
        &digest_path,
        raw.sha256.as_deref(),
        "the digest that `tensorgate keys new` prints",
    );
    let sha256 = text.and_then(|text| names::sha256(report, &digest_path, text));
    let mut own = Some(());
    if let Some(sha256) = sha256 {
        if let Some(first) = owners.get(&sha256) {
            let first = key_path(clients, *first);
            report.error(
                &digest_path,
                format!("the same key stands at {}", first.as_str()),
            );
            own = None;
        } else {
            owners.insert(sha256, place);
        }
    }
    let expires_unix_s = match &raw.not_after {
        None => Some(None),
        Some(text) => {
            let end = end_of_day_unix_s(text);
            if end.is_none() {
                let message = format!("{} is not a day of the calendar", quote(text));
                report.error_with_fix(
                    &path.field("not_after"),
                    message,
                    "YYYY-MM-DD, from 1970 on",
                );
            }
            end.map(Some)
        }
    };
    own?;
    Some(ApiKey {
        sha256: sha256?,
        expires_unix_s: expires_unix_s?,
    })
}

/// Groups hold clients that exist, each once, and no groups.
pub(super) fn groups(report: &mut Report, path: &Path, raw: &raw::Policy, used: &Usage<'_>) {
    for (name, members) in &raw.groups {
        let path = path.key(name);
        names::name(report, &path, name);
        report.not_empty(&path, members, "name its clients or remove it");
        report.distinct(&path, members);
        for (index, member) in members.iter().enumerate() {
            let path = path.index(index);
            if member.starts_with(GROUP_PREFIX)
                || (raw.groups.contains_key(member) && !raw.clients.contains_key(member))
            {
                report.error_with_fix(&path, "groups do not nest", "name the clients themselves");
            } else if !raw.clients.contains_key(member) {
                unknown(
                    report,
                    &path,
                    "client",
                    member,
                    raw.clients.keys().map(|name| name.as_str()),
                );
            }
        }
        if !used.groups.contains(name.as_str()) {
            report.warn(
                &path,
                format!("group {} is in no grant", quote(name)),
                "grant it something or remove it",
            );
        }
    }
}
