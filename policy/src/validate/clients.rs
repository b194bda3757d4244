//! Clients, their keys with their last days, and groups.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::num::NonZeroU64;

use super::proofs::Owners;
use super::report::{Path, quote};
use super::usage::{GROUP_PREFIX, Usage};
use super::{limits, names, proofs};
use crate::policy::{ApiKey, Client};
use crate::raw;

/// Client and index of the first of equal keys. Paths for a hundred thousand keys would dominate
/// the memory of validation.
type KeyOwners<'r> = BTreeMap<[u8; 32], (&'r str, usize)>;

/// Clients, in name order; `None` if any of them is faulty.
pub(super) fn clients(path: &Path, raw: &raw::Policy, used: &Usage<'_>) -> Option<Vec<Client>> {
    let mut key_owners = KeyOwners::new();
    let all = path;
    let mut owners = Owners::default();
    let mut clients = Vec::with_capacity(raw.clients.len());
    for (name, client) in &raw.clients {
        let path = path.key(name);
        let named = names::name(&path, name);
        let keys_path = path.field("api_keys");
        let keys: Vec<Option<ApiKey>> = client
            .api_keys
            .iter()
            .enumerate()
            .map(|(index, key)| api_key(all, (name, index), key, &mut key_owners))
            .collect();
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
        let api_keys: Option<Vec<ApiKey>> = keys.into_iter().collect();
        let concurrency = limits::requests(&path.field("concurrency"), client.concurrency);
        // A present but invalid rule is `Some(None)`; then the client is invalid.
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

/// Path of a client's key.
fn key_path(clients: &Path, (client, index): (&str, usize)) -> Path {
    clients.key(client).field("api_keys").index(index)
}

fn api_key<'r>(
    clients: &Path,
    owner: (&'r str, usize),
    raw: &raw::ApiKey,
    owners: &mut KeyOwners<'r>,
) -> Option<ApiKey> {
    let path = key_path(clients, owner);
    let digest_path = path.field("sha256");
    let text = digest_path.required(
        raw.sha256.as_deref(),
        "the digest that `tensorgate keys new` or `tensorgate keys hash` prints",
    );
    let sha256 = text.and_then(|text| names::sha256(&digest_path, text));
    let mut own = Some(());
    if let Some(sha256) = sha256 {
        if let Some(first) = owners.get(&sha256) {
            let first = key_path(clients, *first);
            digest_path.error(format!("is the same key as {}", first.as_str()));
            own = None;
        } else {
            owners.insert(sha256, owner);
        }
    }
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
    own?;
    Some(ApiKey {
        sha256: sha256?,
        // A day always ends after 1970-01-01.
        expires_unix_s: expires_unix_s?.and_then(NonZeroU64::new),
        format: raw.format,
    })
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

/// Seconds per day; Unix time has no leap seconds.
const DAY_S: u64 = 86_400;

/// First Unix second after a day `YYYY-MM-DD` in UTC; `None` if this is not a Gregorian date from
/// 1970 to 9999.
pub(super) fn end_of_day_unix_s(text: &str) -> Option<u64> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = text.as_bytes() else {
        return None;
    };
    let number = |digits: &[&u8]| {
        digits.iter().try_fold(0_u64, |number, digit| {
            let value = char::from(**digit).to_digit(10)?;
            number.checked_mul(10)?.checked_add(u64::from(value))
        })
    };
    let (year, month, day) = (
        number(&[y0, y1, y2, y3])?,
        number(&[m0, m1])?,
        number(&[d0, d1])?,
    );
    if year < 1970 || day == 0 || day > days_in_month(year, month)? {
        return None;
    }
    let before_year = (1970..year).try_fold(0_u64, |days, year| {
        days.checked_add(if is_leap(year) { 366 } else { 365 })
    })?;
    let before_month = (1..month).try_fold(0_u64, |days, month| {
        days.checked_add(days_in_month(year, month)?)
    })?;
    // `day` counts from 1, so this is the next day.
    before_year
        .checked_add(before_month)?
        .checked_add(day)?
        .checked_mul(DAY_S)
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in_month(year: u64, month: u64) -> Option<u64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if is_leap(year) { 29 } else { 28 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::end_of_day_unix_s;

    #[test]
    fn a_day_ends_with_the_first_second_of_the_next() {
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(end_of_day_unix_s(text), expected, "{text:?}");
        }
        check("1970-01-01", Some(86_400));
        check("2000-02-28", Some(951_782_400));
        check("2000-02-29", Some(951_868_800));
        check("2027-01-31", Some(1_801_440_000));
        check("2038-01-19", Some(2_147_558_400));
        check("9999-12-31", Some(253_402_300_800));
    }

    #[test]
    fn invalid_dates_are_rejected() {
        for text in [
            "",
            "2027",
            "2027-1-31",
            "2027-01-32",
            "2027-00-10",
            "2027-13-01",
            "2027-01-00",
            "2026-02-29",
            "1900-02-29",
            "2100-02-29",
            "2027-04-31",
            "1969-12-31",
            "0000-00-00",
            "27-01-31",
            "2027/01/31",
            "2027-01-31Z",
            " 2027-01-31",
            "+027-01-31",
            "2027-0a-31",
            "２０２７-01-31",
            "10000-01-01",
        ] {
            assert_eq!(end_of_day_unix_s(text), None, "{text:?}");
        }
    }
}
