//! Inference servers, and TLS to them.

use std::collections::BTreeMap;

use tensorgate_policy::policy::{
    Backend, BackendTls, CircuitBreaker, OutlierDetection, Retry, Trust,
};
use tensorgate_policy::report::{Path, Valid, optional, quote};
use tensorgate_policy::values::{BackendKind, ConnectionSharing, is_host_name};

use super::names;
use super::proofs::spiffe;
use super::usage::Usage;
use crate::raw;

/// Maximum endpoints of a backend: each has a connection and health checks.
const MAX_ENDPOINTS: usize = 64;
const MS_PER_S: u64 = 1_000;

pub(super) fn backends(
    path: &Path,
    raw: &raw::Policy,
    used: &Usage<'_>,
) -> Option<BTreeMap<String, Backend>> {
    names::each(path, &raw.backends, |path, name, raw_backend| {
        let backend = backend(path, raw_backend);
        if let Some(backend) = &backend {
            outlived(path, backend, raw.listen.limits.timeout_ms.0);
        }
        if !used.backends.contains(name) {
            path.warn(
                format!("backend {} serves no model", quote(name)),
                "remove it",
            );
        }
        backend
    })
}

/// A backend's timeout must end before the request's, or it has no effect.
fn outlived(path: &Path, backend: &Backend, limit_ms: u64) {
    if backend.timeout_ms >= limit_ms {
        path.field("timeout_ms").warn(
            format!("has no effect: listen.limits.timeout_ms ends a request after {limit_ms} ms"),
            format!("less than {limit_ms}"),
        );
    }
}

fn backend(path: &Path, raw: &raw::Backend) -> Option<Backend> {
    let kind = path.field("kind").required(
        raw.kind,
        "open-inference, tf-serving, torchserve, openai, http-json or embedded",
    );
    let location = match kind {
        Some(
            BackendKind::OpenInference
            | BackendKind::TfServing
            | BackendKind::TorchServe
            | BackendKind::OpenAi
            | BackendKind::HttpJson,
        ) => remote(path, raw),
        Some(BackendKind::Embedded) => embedded(path, raw),
        None => None,
    };
    let max_in_flight: Option<u64> = raw.max_in_flight.check(&path.field("max_in_flight"));
    let min_in_flight = match (&raw.adaptive_concurrency, max_in_flight) {
        (Some(raw), Some(most)) => path
            .field("adaptive_concurrency")
            .field("min_in_flight")
            .within(raw.min_in_flight.unwrap_or(1), 1, most, "requests")
            .map(Some),
        _ => Some(None),
    };
    let queue = raw.queue.check(&path.field("queue"));
    let timeout_ms = raw.timeout_ms.check(&path.field("timeout_ms"));
    let tls = tls(path, raw);
    let connections = connections(&path.field("connections"), kind, raw.connections);
    let retry = raw
        .retry
        .as_ref()
        .map_or(Some(Retry::NONE), |raw| retry(&path.field("retry"), raw));
    let health = raw.health_check.clone().unwrap_or_default();
    let at_health = path.field("health_check");
    let health_interval_s: Option<u64> = health.interval_s.check(&at_health.field("interval_s"));
    let health_path = optional(health.path.as_deref(), |text| {
        health_path(&at_health.field("path"), kind, text)
    });
    let outliers = outliers(
        &path.field("outlier_detection"),
        raw.outlier_detection.as_ref(),
    );
    let breaker = breaker(&path.field("circuit_breaker"), raw.circuit_breaker.as_ref());
    location?;
    Some(Backend {
        kind: kind?,
        endpoints: raw.endpoints.clone(),
        models: raw.models.clone(),
        tls: tls?,
        connections: connections?,
        max_in_flight: usize::try_from(max_in_flight?).ok()?,
        min_in_flight: min_in_flight?,
        queue: queue?,
        timeout_ms: timeout_ms?,
        retry: retry?,
        health_interval_ms: health_interval_s?.saturating_mul(MS_PER_S),
        health_path: health_path?,
        outliers: outliers?,
        breaker: breaker?,
    })
}

fn retry(path: &Path, raw: &raw::Retry) -> Option<Retry> {
    let attempts = raw.attempts.check(&path.field("attempts"));
    let budget_percent = raw.budget_percent.check(&path.field("budget_percent"));
    Some(Retry {
        attempts: attempts?,
        budget_percent: budget_percent?,
    })
}

fn outliers(path: &Path, raw: Option<&raw::OutlierDetection>) -> Option<OutlierDetection> {
    let raw = raw.cloned().unwrap_or_default();
    let failures = raw
        .consecutive_failures
        .check(&path.field("consecutive_failures"));
    let ejection_s: Option<u64> = raw.base_ejection_s.check(&path.field("base_ejection_s"));
    let percent = raw
        .max_ejection_percent
        .check(&path.field("max_ejection_percent"));
    Some(OutlierDetection {
        consecutive_failures: failures?,
        base_ejection_ms: ejection_s?.saturating_mul(MS_PER_S),
        max_ejection_percent: percent?,
    })
}

/// Which requests share a connection. Over gRPC each answer has the number of its request's stream,
/// so no answer can be taken for another's.
fn connections(
    path: &Path,
    kind: Option<BackendKind>,
    chosen: ConnectionSharing,
) -> Option<ConnectionSharing> {
    if !chosen.is_shared() && kind.is_some_and(|kind| !kind.is_http1()) {
        return path.fail_with_fix(
            "is only for backends of kind openai and http-json: over gRPC no answer can be taken for another request's",
            "remove it",
        );
    }
    Some(chosen)
}

/// The health check path; other protocols have their own health checks.
fn health_path(path: &Path, kind: Option<BackendKind>, text: &str) -> Option<String> {
    if kind != Some(BackendKind::HttpJson) {
        return path.fail_with_fix("is only for backends of kind http-json", "remove it");
    }
    names::route(path, text, "/readyz")
}

fn breaker(path: &Path, raw: Option<&raw::CircuitBreaker>) -> Option<CircuitBreaker> {
    let raw = raw.cloned().unwrap_or_default();
    let failures = raw
        .consecutive_failures
        .check(&path.field("consecutive_failures"));
    let open_s: Option<u64> = raw.open_s.check(&path.field("open_s"));
    Some(CircuitBreaker {
        consecutive_failures: failures?,
        open_ms: open_s?.saturating_mul(MS_PER_S),
    })
}

/// Backends with endpoints.
fn remote(path: &Path, raw: &raw::Backend) -> Option<()> {
    let endpoints_path = path.field("endpoints");
    let mut valid = endpoints_path.not_empty(&raw.endpoints, "[http://host:port]");
    endpoints_path.at_most(raw.endpoints.len(), MAX_ENDPOINTS, "endpoints are too many")?;
    for (index, text) in raw.endpoints.iter().enumerate() {
        let path = endpoints_path.index(index);
        valid = valid.and(endpoint(&path, text));
        if raw.endpoints.iter().take(index).any(|other| other == text) {
            valid = path.fail_with_fix(format!("{} is listed twice", quote(text)), "remove it");
        }
    }
    if raw.models.is_some() {
        valid = path
            .field("models")
            .fail_with_fix("is only for backends of kind embedded", "remove it");
    }
    valid
}

/// The embedded server: a model folder and no endpoint.
fn embedded(path: &Path, raw: &raw::Backend) -> Option<()> {
    let models_path = path.field("models");
    let folder = models_path.required(raw.models.as_deref(), "the folder of models");
    let valid = folder.and_then(|folder| names::file(&models_path, folder));
    if !raw.endpoints.is_empty() {
        return path
            .field("endpoints")
            .fail_with_fix("are not for a backend of kind embedded", "remove them");
    }
    valid
}

/// Exactly `http(s)://host:port`: no user, path or query that a client library could interpret.
fn endpoint(path: &Path, text: &str) -> Option<()> {
    let is_valid = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .and_then(|rest| rest.rsplit_once(':'))
        .is_some_and(|(host, port)| {
            let is_port = !port.starts_with('0')
                && port.bytes().all(|byte| byte.is_ascii_digit())
                && port.parse::<u16>().is_ok();
            is_port && is_host(host)
        });
    if !is_valid {
        return path.fail_with_fix(
            format!(
                "{} is not an endpoint: expected http or https, a host and a port, and no path",
                quote(text)
            ),
            "http://host:port",
        );
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
    // Names within a cluster may contain underscores.
    is_host_name(host, |byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Maximum length of a Unix socket's path, as in the kernel's address structure.
const MAX_SOCKET_BYTES: usize = 107;

/// TLS settings for `https` endpoints only. Mixing plain and encrypted endpoints would allow a
/// downgrade.
pub(super) fn tls(path: &Path, raw: &raw::Backend) -> Valid<Option<BackendTls>> {
    let path = path.field("tls");
    let encrypted = |text: &String| text.starts_with("https://");
    let Some(tls) = &raw.tls else {
        if raw.endpoints.iter().any(encrypted) {
            return path.fail_with_fix(
                "is missing: an https endpoint needs a CA to verify it with",
                "tls: {ca: FILE}",
            );
        }
        return Some(None);
    };
    if raw.endpoints.is_empty() || !raw.endpoints.iter().all(encrypted) {
        return path.fail_with_fix(
            "cannot apply to an endpoint without https",
            "https://host:port for every endpoint",
        );
    }
    let id = match tls.spiffe.as_deref() {
        Some(id) => spiffe(&path.field("spiffe"), id).map(|()| Some(id.into())),
        None => Some(None),
    };
    let trust = match &tls.workload_api {
        Some(address) => agent(&path, tls, address),
        None => files(&path, tls),
    };
    Some(Some(BackendTls {
        trust: trust?,
        spiffe: id?,
    }))
}

/// Trusted authorities of another server than a backend, with the system's as default.
pub(super) fn authorities(
    path: &Path,
    endpoint: Option<&String>,
    of_server: Option<&raw::BackendTls>,
) -> Valid<Option<BackendTls>> {
    let Some(of_server) = of_server else {
        return Some(None);
    };
    let like = raw::Backend {
        endpoints: endpoint.cloned().into_iter().collect(),
        tls: Some(of_server.clone()),
        ..raw::Backend::default()
    };
    tls(path, &like)
}

/// An agent replaces the files. Its authorities cover a whole trust domain, so the policy must name
/// the server's SPIFFE ID.
fn agent(path: &Path, tls: &raw::BackendTls, address: &str) -> Option<Trust> {
    let mut is_valid = true;
    for (name, there) in [
        ("ca", tls.ca.is_some()),
        ("cert", tls.cert.is_some()),
        ("key", tls.key.is_some()),
    ] {
        if there {
            path.field(name).error_with_fix(
                "cannot stand beside workload_api, which supplies it",
                "remove it",
            );
            is_valid = false;
        }
    }
    if tls.spiffe.is_none() {
        path.field("spiffe").error_with_fix(
            "is missing: beside workload_api the server's SPIFFE ID must be given, because the agent's CAs sign every workload",
            "spiffe://trust-domain/path",
        );
        is_valid = false;
    }
    let socket = address.strip_prefix("unix:").unwrap_or_default();
    let plain = |text: &str| !text.chars().any(|c| c.is_control() || c.is_whitespace());
    if !socket.starts_with('/') || socket.len() > MAX_SOCKET_BYTES || !plain(socket) {
        path.field("workload_api").error_with_fix(
            format!("{} is not the address of a Unix socket", quote(address)),
            "unix:/absolute/path",
        );
        is_valid = false;
    }
    is_valid.then(|| Trust::WorkloadApi(address.into()))
}

fn files(path: &Path, tls: &raw::BackendTls) -> Option<Trust> {
    let file = |name: &str, text: Option<&str>| {
        text.map(|text| names::file(&path.field(name), text).map(|()| String::from(text)))
    };
    let ca = file("ca", tls.ca.as_deref());
    let cert = file("cert", tls.cert.as_deref());
    let key = file("key", tls.key.as_deref());
    let ca = path.field("ca").required(ca, "a PEM file");
    let identity = match (cert, key) {
        (None, None) => Some(None),
        (Some(cert), Some(key)) => cert.zip(key).map(Some),
        (cert, _) => {
            let (missing, there) = if cert.is_some() {
                ("key", "cert")
            } else {
                ("cert", "key")
            };
            path.field(missing).fail_with_fix(
                format!("is missing: {there} is given, and both are needed"),
                "a PEM file",
            )
        }
    };
    Some(Trust::Files {
        ca: ca??,
        identity: identity?,
    })
}
