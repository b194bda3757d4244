//! Feature services: endpoint, protocol and allowed features.

use std::collections::BTreeMap;

use tensorgate_policy::contract::is_name;
use tensorgate_policy::policy::{KEY_PLACEHOLDER, Lookup};
use tensorgate_policy::report::{Path, quote};
use tensorgate_policy::values::LookupKind;

use super::backends;
use super::egress::{allow_private, concurrency};
use super::names;
use super::usage::Usage;
use crate::raw;

/// Maximum features.
const MAX_FEATURES: usize = 256;
/// Maximum length of a feature or entity name.
const MAX_NAME_BYTES: usize = 128;
/// Maximum length of a path.
const MAX_PATH_BYTES: usize = 1_024;
/// Path of Feast's feature server.
const FEAST_PATH: &str = "/get-online-features";

pub(super) fn lookups(
    path: &Path,
    raw: &BTreeMap<String, raw::Lookup>,
    used: &Usage<'_>,
) -> Option<BTreeMap<String, Lookup>> {
    names::each(path, raw, |path, name, raw| {
        let lookup = lookup(path, raw);
        if !used.lookups.contains(name) {
            path.warn(
                format!("no handler uses lookup {}", quote(name)),
                "remove it",
            );
        }
        lookup
    })
}

fn lookup(path: &Path, raw: &raw::Lookup) -> Option<Lookup> {
    let kind = path.field("kind").required(raw.kind, "feast, or rest");
    let endpoint = endpoint(path, raw);
    let request_path = kind.and_then(|kind| request_path(path, raw, kind));
    let entity = kind.and_then(|kind| entity(path, raw, kind));
    let features = features(&path.field("features"), &raw.features);
    let max_key_bytes = raw.max_key_bytes.check(&path.field("max_key_bytes"));
    let most_keys = if kind == Some(LookupKind::Rest) {
        1
    } else {
        256
    };
    let max_keys = path.field("max_keys").within(
        raw.max_keys.unwrap_or(16_u64.min(most_keys)),
        1,
        most_keys,
        "keys",
    );
    let max_requests = raw.max_requests.check(&path.field("max_requests"));
    let timeout_ms = raw.timeout_ms.check(&path.field("timeout_ms"));
    let max_bytes = raw.max_bytes.check(&path.field("max_bytes"));
    let most = raw.concurrency.unwrap_or(32);
    let concurrency = concurrency(path, most, max_requests);
    let allow_private = allow_private(&path.field("allow_private"), &raw.allow_private);
    let authorities = backends::authorities(path, raw.endpoint.as_ref(), raw.tls.as_ref());
    let bearer = match &raw.bearer_file {
        Some(file) => names::file(&path.field("bearer_file"), file),
        None => Some(()),
    };
    let (tls, host, port) = endpoint?;
    if !tls && raw.bearer_file.is_some() {
        let fix = "https://";
        path.field("endpoint")
            .warn("the token can be read on the network", fix);
    }
    bearer?;
    Some(Lookup {
        kind: kind?,
        tls,
        host,
        port,
        path: request_path?,
        entity: entity?,
        key: raw.key.unwrap_or_default(),
        max_key_bytes: max_key_bytes?,
        max_keys: max_keys?,
        features: features?,
        max_requests: max_requests?,
        max_bytes: max_bytes?,
        timeout_ms: timeout_ms?,
        concurrency: concurrency?,
        allow_private: allow_private?,
        authorities: authorities?,
        bearer_file: raw.bearer_file.clone(),
    })
}

/// Whether TLS is used, host and port.
fn endpoint(path: &Path, raw: &raw::Lookup) -> Option<(bool, String, u16)> {
    let path = path.field("endpoint");
    let fix = "https://features.example.com:443";
    let text = path.required(raw.endpoint.as_ref(), fix)?;
    let read = || {
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, rest) => (false, rest?),
        };
        let (host, port) = rest.rsplit_once(':')?;
        let port = tensorgate_policy::contract::number(port)?;
        is_name(host).then(|| (tls, String::from(host), port))
    };
    let endpoint = read();
    if endpoint.is_none() {
        let message = format!("{} is not an endpoint with a host name", quote(text));
        path.error_with_fix(message, fix);
    }
    endpoint
}

/// The path; only the key is variable.
fn request_path(path: &Path, raw: &raw::Lookup, kind: LookupKind) -> Option<String> {
    let path = path.field("path");
    let (text, keys) = match (&raw.path, kind) {
        (Some(text), LookupKind::Rest) => (text.as_str(), 1),
        (None, LookupKind::Rest) => {
            return path.fail_with_fix("is missing", "/v1/customers/{key}");
        }
        (text, LookupKind::Feast) => (text.as_deref().unwrap_or(FEAST_PATH), 0),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._~:@!$&'()*+,;=-?".contains(&byte);
    let found = text
        .split(['/', '?'])
        .filter(|part| *part == KEY_PLACEHOLDER)
        .count();
    let rest = text.replace(KEY_PLACEHOLDER, "");
    let is_valid = text.starts_with('/')
        && text.len() <= MAX_PATH_BYTES
        && rest.bytes().all(plain)
        && found == keys
        && text.matches(KEY_PLACEHOLDER).count() == keys
        && !text.split('/').any(|part| part == "." || part == "..");
    if !is_valid {
        let fix = if keys == 1 {
            "/v1/customers/{key}, with {key} as a whole segment"
        } else {
            FEAST_PATH
        };
        let message = format!("{} is not the path of a lookup", quote(text));
        return path.fail_with_fix(message, fix);
    }
    Some(text.into())
}

fn entity(path: &Path, raw: &raw::Lookup, kind: LookupKind) -> Option<String> {
    let path = path.field("entity");
    match (kind, &raw.entity) {
        (LookupKind::Feast, entity) => {
            let entity = path.required(entity.as_ref(), "customer_id")?;
            named(&path, entity).map(|()| entity.clone())
        }
        (LookupKind::Rest, Some(_)) => path.fail_with_fix("is only for kind feast", "remove it"),
        (LookupKind::Rest, None) => Some(String::new()),
    }
}

fn features(path: &Path, raw: &[String]) -> Option<Vec<String>> {
    let mut valid = path.not_empty(raw, "[customer_stats:age]");
    valid = valid.and(path.distinct(raw));
    path.at_most(raw.len(), MAX_FEATURES, "features are too many")?;
    valid = valid.and(path.each(raw, |path, text| named(path, text)));
    valid.map(|()| raw.to_vec())
}

/// A feature name: `view:feature`.
fn named(path: &Path, text: &str) -> Option<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_:.-".contains(&byte);
    let is_valid = (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(plain);
    if !is_valid {
        return path.fail_with_fix(
            format!("{} is not a valid name", quote(text)),
            format!("at most {MAX_NAME_BYTES} letters, digits and _ : . -"),
        );
    }
    Some(())
}
