//! Files that the host fetches for handlers: limited in every respect, and from listed hosts only.

use tensorgate_policy::policy::address;
use tensorgate_policy::policy::{Fetch, Handler, Network};
use tensorgate_policy::report::{Path, quote};

use super::accepts::media_type;
use super::items;
use super::names;
use super::proofs::network;
use crate::raw;

/// Maximum media types.
const MAX_CONTENT_TYPES: usize = 16;
/// Default concurrent fetches.
const DEFAULT_CONCURRENCY: u64 = 16;
/// Maximum concurrent fetches; each is a connection.
const MAX_CONCURRENCY: u64 = 1_024;
/// Maximum private networks.
const MAX_NETWORKS: usize = 16;

pub(super) fn fetch(path: &Path, raw: &raw::Fetch) -> Option<Fetch> {
    let url = raw::Url {
        hosts: raw.hosts.clone(),
        schemes: Vec::new(),
        ports: raw.ports.clone(),
    };
    let url = items::url(path, &url);
    let content_types = content_types(&path.field("content_types"), &raw.content_types);
    let max_bytes = raw.max_bytes.check(&path.field("max_bytes"));
    let timeout_ms = raw.timeout_ms.check(&path.field("timeout_ms"));
    let max_requests = raw.max_requests.check(&path.field("max_requests"));
    let redirects = raw.redirects.check(&path.field("redirects"));
    let most = raw.concurrency.unwrap_or(DEFAULT_CONCURRENCY);
    let concurrency = concurrency(path, most, max_requests);
    let allow_private = allow_private(&path.field("allow_private"), &raw.allow_private);
    let ca = match &raw.ca {
        Some(file) => names::file(&path.field("ca"), file),
        None => Some(()),
    };
    ca?;
    Some(Fetch {
        url: url?,
        content_types: content_types?,
        max_bytes: max_bytes?,
        timeout_ms: timeout_ms?,
        max_requests: max_requests?,
        redirects: redirects?,
        concurrency: concurrency?,
        allow_private: allow_private?,
        ca: raw.ca.clone(),
    })
}

/// Concurrent requests. One client gets at most half, and a call needs as many as it may request.
pub(super) fn concurrency(path: &Path, most: u64, max_requests: Option<usize>) -> Option<usize> {
    let path = path.field("concurrency");
    let concurrency: usize = path.within(most, 1, MAX_CONCURRENCY, "requests at once")?;
    let needed = max_requests?.saturating_mul(2);
    if concurrency < needed {
        return path.fail_with_fix(
            "is too small: one client gets at most half of it, and one call may use max_requests",
            format!("at least {needed}"),
        );
    }
    Some(concurrency)
}

/// Resources of one call must fit into the buffered bytes.
pub(super) fn fits(path: &Path, handler: &Handler, buffered_bytes: u64) {
    let most_bytes = u64::try_from(handler.max_resolved_bytes()).unwrap_or(u64::MAX);
    if most_bytes > buffered_bytes {
        path.error_with_fix(format!(
                "the fetches and lookups of one call may need {most_bytes} bytes, and listen.limits.buffered_bytes is {buffered_bytes}"
            ),
            "lower max_bytes or max_requests, or raise listen.limits.buffered_bytes",
        );
    }
}

fn content_types(path: &Path, raw: &[String]) -> Option<Vec<String>> {
    if raw.is_empty() {
        return Some(["image/jpeg", "image/png"].map(String::from).to_vec());
    }
    let mut valid = path.distinct(raw);
    valid = valid.and(path.at_most(raw.len(), MAX_CONTENT_TYPES, "types are too many"));
    valid = valid.and(path.each(raw, |path, text| media_type(path, text)));
    valid.map(|()| raw.to_vec())
}

/// Private networks only. Names that resolve to other special addresses are always rejected.
pub(super) fn allow_private(path: &Path, raw: &[String]) -> Option<Vec<Network>> {
    let mut valid = path.distinct(raw);
    path.at_most(raw.len(), MAX_NETWORKS, "networks are too many")?;
    let mut networks = Vec::new();
    for (index, text) in raw.iter().enumerate() {
        let path = path.index(index);
        match network(&path, text) {
            Some(network) if address::is_private(&network) => networks.push(network),
            Some(_) => {
                valid = path.fail_with_fix(
                    format!("{} is not a private network, or part of one", quote(text)),
                    "10.1.0.0/16, or fd12:3456::/48",
                );
            }
            None => valid = None,
        }
    }
    valid.map(|()| networks)
}
