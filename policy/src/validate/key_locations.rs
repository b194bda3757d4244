//! Locations of API keys: fields without another meaning, and names with one spelling.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::names;
use super::report::{Path, quote};
use crate::policy::{KeyLocations, MAX_KEY_HEADER_BYTES};
use crate::raw::{self, KeyFormat};

/// Maximum header fields for keys: each is searched in every head.
const MAX_HEADERS: usize = 8;
/// Maximum length of a cookie or parameter name.
const MAX_NAME_BYTES: usize = 64;
/// Header field of a bearer token.
const BEARER: &str = "authorization";

pub(super) fn key_locations(path: &Path, policy: &raw::Policy) -> Option<KeyLocations> {
    let mut keys = policy.clients.values().flat_map(|client| &client.api_keys);
    let any_format = keys.any(|key| key.format == KeyFormat::Any);
    let Some(raw::ApiKeyLocations {
        headers,
        cookie,
        query,
    }) = &policy.listen.api_key
    else {
        return Some(KeyLocations {
            any_format,
            ..KeyLocations::USUAL
        });
    };
    let fields = match headers {
        Some(names) => self::headers(&path.field("headers"), names),
        None => Some((KeyLocations::USUAL.headers, KeyLocations::USUAL.bearer)),
    };
    let mut good = Some(());
    let none = headers.as_ref().is_some_and(Vec::is_empty);
    if none && cookie.is_none() && query.is_none() {
        good = path.fail_with_fix("no request could carry a key", "headers: [x-api-key]");
    }
    if let Some(name) = cookie {
        let path = path.field("cookie");
        // A token of RFC 6265, 4.1.1, limited to characters that all servers read alike.
        good = good.and(plain(&path, name, b"-_."));
        path.warn(
            "browsers send cookies by themselves, for pages of others too",
            "a header field, or SameSite=Strict where the cookie is set",
        );
    }
    if let Some(name) = query {
        let path = path.field("query");
        good = good.and(plain(&path, name, b"-_"));
        path.warn(
            "a key in a query is in the logs and histories of all before the gate",
            "a header field",
        );
    }
    good?;
    let (headers, bearer) = fields?;
    Some(KeyLocations {
        headers,
        bearer,
        any_format,
        cookie: cookie.clone(),
        query: query.clone(),
    })
}

type Headers = (Cow<'static, [Cow<'static, str>]>, bool);

fn headers(path: &Path, raw: &[String]) -> Option<Headers> {
    path.at_most(raw.len(), MAX_HEADERS, "are too many")?;
    let lower: Vec<String> = raw.iter().map(|name| name.to_ascii_lowercase()).collect();
    let mut good = path.distinct(&lower);
    for (index, name) in lower.iter().enumerate().filter(|(_, name)| *name != BEARER) {
        let path = path.index(index);
        good = good.and(names::header(&path, name, MAX_KEY_HEADER_BYTES));
    }
    good?;
    let others = lower.iter().filter(|name| *name != BEARER);
    let headers = others.cloned().map(Cow::Owned).collect::<Vec<_>>();
    Some((Cow::Owned(headers), lower.iter().any(|name| name == BEARER)))
}

/// A name without escapes or another spelling.
fn plain(path: &Path, name: &str, marks: &[u8]) -> Option<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || marks.contains(&byte);
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(fits) {
        return Some(());
    }
    path.fail_with_fix(
        format!("{} is not a name that has one spelling", quote(name)),
        format!("1 to {MAX_NAME_BYTES} letters, digits, dashes and underscores"),
    )
}
