//! Inference servers.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::names;
use super::report::{Path, Report, quote};
use super::usage::Usage;
use crate::policy::Backend;
use crate::raw::{self, BackendKind};

/// Requests at a backend at once, unless the policy says: what one GPU keeps busy with.
const DEFAULT_MAX_IN_FLIGHT: u64 = 64;
/// Requests that wait, unless the policy says: twice as many as run.
const DEFAULT_QUEUE: u64 = 128;
/// A dispatch, milliseconds, unless the policy says.
const DEFAULT_TIMEOUT_MS: u64 = 2_000;
/// Requests in flight or waiting: each holds a body.
const MAX_REQUESTS: u64 = 65_536;
/// A dispatch, milliseconds: one hour.
const MAX_TIMEOUT_MS: u64 = 3_600_000;

pub(super) fn backends(
    report: &mut Report,
    path: &Path,
    raw: &BTreeMap<String, raw::Backend>,
    used: &Usage<'_>,
) -> Option<BTreeMap<String, Backend>> {
    let mut backends = Vec::new();
    for (name, raw) in raw {
        let path = path.key(name);
        let named = names::name(report, &path, name);
        let backend = backend(report, &path, raw);
        if !used.backends.contains(name.as_str()) {
            report.warn(
                &path,
                format!("backend {} serves no model", quote(name)),
                "remove it",
            );
        }
        backends.push(named.and(backend).map(|backend| (name.clone(), backend)));
    }
    backends.into_iter().collect()
}

fn backend(report: &mut Report, path: &Path, raw: &raw::Backend) -> Option<Backend> {
    let kind = report.required(
        &path.field("kind"),
        raw.kind,
        "open-inference, openai or embedded",
    );
    let place = match kind {
        Some(BackendKind::OpenInference | BackendKind::OpenAi) => remote(report, path, raw),
        Some(BackendKind::Embedded) => embedded(report, path, raw),
        None => None,
    };
    let max_in_flight = raw.max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT);
    let max_in_flight = report.within(
        &path.field("max_in_flight"),
        max_in_flight,
        1,
        MAX_REQUESTS,
        "requests",
    );
    let queue = report.within(
        &path.field("queue"),
        raw.queue.unwrap_or(DEFAULT_QUEUE),
        1,
        MAX_REQUESTS,
        "requests",
    );
    let timeout_ms = raw.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
    let timeout_ms = report.within(
        &path.field("timeout_ms"),
        timeout_ms,
        1,
        MAX_TIMEOUT_MS,
        "ms",
    );
    place?;
    Some(Backend {
        kind: kind?,
        endpoints: raw.endpoints.clone(),
        models: raw.models.clone(),
        max_in_flight: usize::try_from(max_in_flight?).ok()?,
        queue: usize::try_from(queue?).ok()?,
        timeout_ms: timeout_ms?,
    })
}

/// A server elsewhere: one plain-text endpoint so far.
fn remote(report: &mut Report, path: &Path, raw: &raw::Backend) -> Option<()> {
    let endpoints_path = path.field("endpoints");
    let mut good = report.not_empty(&endpoints_path, &raw.endpoints, "http://host:port");
    if raw.endpoints.len() > 1 {
        report.error_with_fix(
            &endpoints_path,
            "more than one endpoint is not supported yet",
            "name one",
        );
        good = None;
    }
    for (index, text) in raw.endpoints.iter().enumerate() {
        good = good.and(endpoint(report, &endpoints_path.index(index), text));
    }
    if raw.models.is_some() {
        report.error_with_fix(
            &path.field("models"),
            "a backend elsewhere has its models there",
            "remove it",
        );
        good = None;
    }
    good
}

/// The server that comes along: a folder of models and no endpoint.
fn embedded(report: &mut Report, path: &Path, raw: &raw::Backend) -> Option<()> {
    let models_path = path.field("models");
    let folder = report.required(&models_path, raw.models.as_deref(), "the folder of models");
    let good = folder.and_then(|folder| names::file(report, &models_path, folder));
    if !raw.endpoints.is_empty() {
        report.error_with_fix(
            &path.field("endpoints"),
            "an embedded backend has no endpoints",
            "remove them",
        );
        return None;
    }
    good
}

/// `http://host:port` and not a byte more: no user, path or query that could mean something to a client library.
fn endpoint(report: &mut Report, path: &Path, text: &str) -> Option<()> {
    if text.starts_with("https://") {
        report.error_with_fix(
            path,
            "https to a backend is not supported yet",
            "http:// on a private network",
        );
        return None;
    }
    let good = text
        .strip_prefix("http://")
        .and_then(|rest| rest.rsplit_once(':'))
        .is_some_and(|(host, port)| {
            let is_port = !port.starts_with('0')
                && port.bytes().all(|byte| byte.is_ascii_digit())
                && port.parse::<u16>().is_ok();
            is_port && is_host(host)
        });
    if !good {
        report.error_with_fix(
            path,
            format!("{} is not an endpoint", quote(text)),
            "http://host:port",
        );
        return None;
    }
    Some(())
}

/// A DNS name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn is_host(host: &str) -> bool {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return address.parse::<core::net::Ipv6Addr>().is_ok();
    }
    /// RFC 1035 §2.3.4.
    const MAX_DNS_BYTES: usize = 253;
    /// RFC 1035 §2.3.4.
    const MAX_LABEL_BYTES: usize = 63;
    host.len() <= MAX_DNS_BYTES
        && host.split('.').all(|label| {
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}
