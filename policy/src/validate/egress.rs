//! Files that the host fetches for handlers: limited in every respect, and from listed hosts only.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::accepts::media_type;
use super::items;
use super::names;
use super::proofs::network;
use super::report::{Path, Report, quote};
use crate::address;
use crate::policy::{Fetch, Handler, Network};
use crate::raw::{self, ByteSize};

/// Maximum media types.
const MAX_CONTENT_TYPES: usize = 16;
/// Default size of a file.
const DEFAULT_MAX_BYTES: ByteSize = ByteSize(4 << 20);
/// Maximum size of a file; it is held in memory and copied into the guest.
const MAX_BYTES: u64 = 64 << 20;
/// Default timeout of a fetch, in milliseconds.
const DEFAULT_TIMEOUT_MS: u64 = 500;
/// Maximum timeout of a fetch: one minute.
const MAX_TIMEOUT_MS: u64 = 60_000;
/// Default fetches per call.
const DEFAULT_REQUESTS: u64 = 4;
/// Maximum fetches per call.
const MAX_REQUESTS: u64 = 16;
/// Maximum redirects.
const MAX_REDIRECTS: u64 = 4;
/// Default concurrent fetches.
const DEFAULT_CONCURRENCY: u64 = 16;
/// Maximum concurrent fetches; each is a connection.
const MAX_CONCURRENCY: u64 = 1_024;
/// Maximum private networks.
const MAX_NETWORKS: usize = 16;

pub(super) fn fetch(report: &mut Report, path: &Path, raw: &raw::Fetch) -> Option<Fetch> {
    let url = raw::Url {
        hosts: raw.hosts.clone(),
        schemes: Vec::new(),
        ports: raw.ports.clone(),
    };
    let url = items::url(report, path, &url);
    let content_types = content_types(report, &path.field("content_types"), &raw.content_types);
    let max_bytes = report.bytes_within(
        &path.field("max_bytes"),
        raw.max_bytes.unwrap_or(DEFAULT_MAX_BYTES),
        1,
        MAX_BYTES,
    );
    let timeout_ms = report.within(
        &path.field("timeout_ms"),
        raw.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS),
        1,
        MAX_TIMEOUT_MS,
        "ms",
    );
    let max_requests = report.within(
        &path.field("max_requests"),
        raw.max_requests.unwrap_or(DEFAULT_REQUESTS),
        1,
        MAX_REQUESTS,
        "requests",
    );
    let redirects = report.within(
        &path.field("redirects"),
        raw.redirects.unwrap_or(0),
        0,
        MAX_REDIRECTS,
        "redirects",
    );
    let max_requests = max_requests.and_then(|most| usize::try_from(most).ok());
    let most = raw.concurrency.unwrap_or(DEFAULT_CONCURRENCY);
    let concurrency = concurrency(report, path, most, max_requests);
    let allow_private = allow_private(report, &path.field("allow_private"), &raw.allow_private);
    let ca = match &raw.ca {
        Some(file) => names::file(report, &path.field("ca"), file),
        None => Some(()),
    };
    ca?;
    Some(Fetch {
        url: url?,
        content_types: content_types?,
        max_bytes: max_bytes?,
        timeout_ms: timeout_ms?,
        max_requests: max_requests?,
        redirects: usize::try_from(redirects?).ok()?,
        concurrency: concurrency?,
        allow_private: allow_private?,
        ca: raw.ca.clone(),
    })
}

/// Concurrent requests. One client gets at most half, and a call needs as many as it may request.
pub(super) fn concurrency(
    report: &mut Report,
    path: &Path,
    most: u64,
    max_requests: Option<usize>,
) -> Option<usize> {
    let path = path.field("concurrency");
    let concurrency = report.within(&path, most, 1, MAX_CONCURRENCY, "requests at once")?;
    let concurrency = usize::try_from(concurrency).ok()?;
    let needed = max_requests?.saturating_mul(2);
    if concurrency < needed {
        report.error_with_fix(
            &path,
            "one client's half does not hold what one call may ask for",
            format!("at least {needed}"),
        );
        return None;
    }
    Some(concurrency)
}

/// Resources of one call must fit into the buffered bytes.
pub(super) fn fits(report: &mut Report, path: &Path, handler: &Handler, buffered_bytes: u64) {
    let most_bytes = u64::try_from(handler.max_resolved_bytes()).unwrap_or(u64::MAX);
    if most_bytes > buffered_bytes {
        report.error_with_fix(
            path,
            format!(
                "what one call has brought may take {most_bytes} bytes, and all requests together hold {buffered_bytes}"
            ),
            "less, or more listen.limits.buffered_bytes",
        );
    }
}

fn content_types(report: &mut Report, path: &Path, raw: &[String]) -> Option<Vec<String>> {
    if raw.is_empty() {
        return Some(["image/jpeg", "image/png"].map(String::from).to_vec());
    }
    let mut good = report.distinct(path, raw);
    if raw.len() > MAX_CONTENT_TYPES {
        report.error_with_fix(
            path,
            format!("{} types are too many", raw.len()),
            format!("at most {MAX_CONTENT_TYPES}"),
        );
        good = None;
    }
    for (index, text) in raw.iter().enumerate() {
        good = good.and(media_type(report, &path.index(index), text));
    }
    good.map(|()| raw.to_vec())
}

/// Private networks only. Names that resolve to other special addresses are always rejected.
pub(super) fn allow_private(
    report: &mut Report,
    path: &Path,
    raw: &[String],
) -> Option<Vec<Network>> {
    let mut good = report.distinct(path, raw);
    if raw.len() > MAX_NETWORKS {
        report.error_with_fix(
            path,
            format!("{} networks are too many", raw.len()),
            format!("at most {MAX_NETWORKS}"),
        );
        return None;
    }
    let mut networks = Vec::new();
    for (index, text) in raw.iter().enumerate() {
        let path = path.index(index);
        match network(report, &path, text) {
            Some(network) if address::is_private(&network) => networks.push(network),
            Some(_) => {
                report.error_with_fix(
                    &path,
                    format!("{} is no part of one private network", quote(text)),
                    "10.1.0.0/16, or fd12:3456::/48",
                );
                good = None;
            }
            None => good = None,
        }
    }
    good.map(|()| networks)
}
