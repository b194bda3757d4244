//! The listener, its limits, and the locations of API keys.

use std::borrow::Cow;

use tensorgate_policy::policy::{
    KeyLocations, Limits, Listen, MAX_KEY_HEADER_BYTES, PeerName, Tls,
};
use tensorgate_policy::report::{Path, quote};
use tensorgate_policy::values::{Health, KeyFormat};

use super::{names, proofs};
use crate::raw;
use crate::raw::{ByteSize, Judge};

/// Maximum buffered body size. A filter's VM has 1 GiB: the body once, up to 256 MiB of converted
/// elements (`wire`'s limit) and the old half of a growing buffer. 128 MiB leaves room for other
/// streams.
const MAX_HOLD_BYTES: u64 = 128 << 20;
/// Default size of the bodies that a filter judges before the host does: JSON and small tensors,
/// where a second judgement costs less than an invalid body in the host. A larger body costs a
/// proxy several times as much to read as to forward.
const DEFAULT_JUDGE_BYTES: u64 = 64 << 10;
/// Maximum names of trusted proxies: each is compared for every request.
const MAX_FORWARDERS: usize = 16;

pub(super) fn listen(path: &Path, policy: &raw::Policy) -> Option<Listen> {
    let raw = &policy.listen;
    let address: Option<core::net::SocketAddr> = raw.address.parse().ok();
    if address.is_none() {
        path.field("address").error_with_fix(
            format!("{} is not an IP address and a port", quote(&raw.address)),
            "127.0.0.1:8080",
        );
    }
    let trusted_hops = raw.trusted_hops.check(&path.field("trusted_hops"));
    let tls = raw
        .tls
        .as_ref()
        .map(|tls| self::tls(&path.field("tls"), tls, raw.trusted_hops.0));
    if raw.tls.is_none() {
        plain_text(&path.field("tls"), policy, address);
    }
    let key_locations = key_locations(&path.field("api_key"), policy);
    if raw.health == Health::Public {
        path.field("health").warn(
            "anyone can query liveness and readiness without a credential",
            "clients",
        );
    }
    let judged_bytes = judged_bytes(path, raw);
    let limits = limits(&path.field("limits"), &raw.limits);
    if raw.limits.max_expansion != raw::Limits::default().max_expansion
        && policy
            .models
            .values()
            .all(|model| model.encodings.is_empty())
    {
        path.field("limits").field("max_expansion").warn(
            "has no effect: no model accepts compressed requests",
            "encodings: [gzip] on a model",
        );
    }
    Some(Listen {
        address: address?,
        trusted_hops: trusted_hops?,
        tls: tls.map_or(Some(None), |tls| tls.map(Some))?,
        key_locations: key_locations?,
        health: raw.health,
        judged_bytes: judged_bytes?,
        limits: limits?,
    })
}

/// Maximum size of a body that a filter judges where a host is behind it.
fn judged_bytes(path: &Path, raw: &raw::Listen) -> Option<usize> {
    let path = path.field("judge_bytes");
    let hold_bytes = raw.limits.hold_bytes();
    let bytes = match (raw.judge, raw.judge_bytes) {
        (Some(_), Some(_)) => {
            return path.fail_with_fix("has no effect beside judge", "only one of the two");
        }
        (Some(Judge::Host), None) => ByteSize(0),
        (Some(Judge::Envoy), None) => hold_bytes,
        (None, None) => hold_bytes.min(ByteSize(DEFAULT_JUDGE_BYTES)),
        (None, Some(bytes)) if bytes > hold_bytes => {
            return path.fail_with_fix(
                format!("is more than listen.limits.hold_bytes, {}", hold_bytes.0),
                format!("at most {}", hold_bytes.0),
            );
        }
        (None, Some(bytes)) => bytes,
    };
    // A larger number is a fault of `hold_bytes`.
    usize::try_from(bytes.0).ok()
}

/// Warns of credentials that are readable without TLS.
fn plain_text(path: &Path, policy: &raw::Policy, address: Option<core::net::SocketAddr>) {
    let tokens = policy.clients.values().any(|client| client.jwt.is_some());
    let elsewhere = address.is_some_and(|address| !address.ip().is_loopback());
    if tokens || elsewhere {
        path.warn("credentials cross the network unencrypted", "cert and key");
    }
}

fn tls(path: &Path, raw: &raw::Tls, trusted_hops: u64) -> Option<Tls> {
    let file = |name: &str, text: Option<&str>| {
        let path = path.field(name);
        let text = path.required(text, "a PEM file")?;
        names::file(&path, text)
    };
    let mut valid = file("cert", raw.cert.as_deref());
    valid = file("key", raw.key.as_deref()).and(valid);
    for (name, optional) in [
        ("client_ca", &raw.client_ca),
        ("client_crl", &raw.client_crl),
    ] {
        if optional.is_some() {
            valid = file(name, optional.as_deref()).and(valid);
        }
    }
    if raw.client_crl.is_some() && raw.client_ca.is_none() {
        valid = path.field("client_crl").fail_with_fix(
            "has no effect: client certificates are not requested",
            "client_ca",
        );
    }
    let forwarders = forwarders(&path.field("forwarded_by"), raw, trusted_hops);
    valid?;
    Some(Tls {
        cert: raw.cert.clone()?,
        key: raw.key.clone()?,
        client_ca: raw.client_ca.clone(),
        client_crl: raw.client_crl.clone(),
        forwarders: forwarders?,
    })
}

/// Proxies in front that may forward client certificates.
fn forwarders(path: &Path, raw: &raw::Tls, trusted_hops: u64) -> Option<Vec<PeerName>> {
    if raw.forwarded_by.is_empty() {
        return Some(Vec::new());
    }
    let mut valid = Some(());
    for (missing, message, fix) in [
        (
            raw.client_ca.is_none(),
            "client_ca is missing, so that no proxy can authenticate by certificate",
            "client_ca",
        ),
        (
            trusted_hops == 0,
            "listen.trusted_hops is 0: no proxy is in front",
            "listen.trusted_hops: 1",
        ),
    ] {
        if missing {
            valid = path.fail_with_fix(message, fix);
        }
    }
    path.at_most(raw.forwarded_by.len(), MAX_FORWARDERS, "are too many")?;
    let mut names = Vec::new();
    for (index, rule) in raw.forwarded_by.iter().enumerate() {
        let path = path.index(index);
        let name = proofs::peer_name(&path, rule);
        if name.as_ref().is_some_and(|name| names.contains(name)) {
            valid = path.fail("is listed twice");
        }
        match name {
            Some(name) => names.push(name),
            None => valid = None,
        }
    }
    valid.map(|()| names)
}

fn limits(path: &Path, raw: &raw::Limits) -> Option<Limits> {
    let header_bytes = raw.header_bytes.check(&path.field("header_bytes"));
    let headers = raw.headers.check(&path.field("headers"));
    let body_bytes = raw.body_bytes.check(&path.field("body_bytes"));
    let hold_path = path.field("hold_bytes");
    let hold_bytes = hold_path.bytes_within(raw.hold_bytes(), 1, MAX_HOLD_BYTES);
    if raw.hold_bytes().0 > raw.body_bytes.0 {
        hold_path.error_with_fix(
            format!(
                "is more than listen.limits.body_bytes, {}",
                raw.body_bytes.0
            ),
            format!("at most {}", raw.body_bytes.0),
        );
    }
    let max_expansion = raw.max_expansion.check(&path.field("max_expansion"));
    let buffered_bytes: Option<u64> = raw.buffered_bytes.check(&path.field("buffered_bytes"));
    if raw.body_bytes.0 > raw.buffered_bytes.0 {
        path.field("buffered_bytes").error_with_fix(
            format!("is too small: one body may have {} bytes", raw.body_bytes.0),
            format!("at least {}", raw.body_bytes.0),
        );
    }
    let timeout_ms = raw.timeout_ms.check(&path.field("timeout_ms"));
    let stream_ms = raw.stream_ms.check(&path.field("stream_ms"));
    if raw.timeout_ms.0 > raw.stream_ms.0 {
        path.field("stream_ms").error_with_fix(
            format!(
                "is shorter than listen.limits.timeout_ms, {}",
                raw.timeout_ms.0
            ),
            format!("at least {}", raw.timeout_ms.0),
        );
    }
    let handshake_ms = raw.handshake_ms.check(&path.field("handshake_ms"));
    let idle_ms = raw.idle_ms.check(&path.field("idle_ms"));
    let connections = raw.connections.check(&path.field("connections"));
    let streams = raw
        .streams_per_connection
        .check(&path.field("streams_per_connection"));
    let streams_per_client = raw
        .streams_per_client
        .check(&path.field("streams_per_client"));
    Some(Limits {
        header_bytes: header_bytes?,
        headers: headers?,
        body_bytes: body_bytes?,
        hold_bytes: hold_bytes?,
        max_expansion: max_expansion?,
        buffered_bytes: usize::try_from(buffered_bytes?).unwrap_or(usize::MAX),
        timeout_ms: timeout_ms?,
        stream_ms: stream_ms?,
        handshake_ms: handshake_ms?,
        idle_ms: idle_ms?,
        connections: connections?,
        streams_per_connection: streams?,
        streams_per_client: streams_per_client?,
    })
}

/// Maximum header fields for keys: each is searched in every head.
const MAX_KEY_HEADERS: usize = 8;
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
    let mut valid = Some(());
    let none = headers.as_ref().is_some_and(Vec::is_empty);
    if none && cookie.is_none() && query.is_none() {
        valid = path.fail_with_fix("no request could carry an API key", "headers: [x-api-key]");
    }
    if let Some(name) = cookie {
        let path = path.field("cookie");
        // A token of RFC 6265, 4.1.1, limited to characters that all servers read alike.
        valid = valid.and(plain(&path, name, b"-_."));
        path.warn(
            "browsers send cookies with requests from other sites too",
            "a header field, or SameSite=Strict where the cookie is set",
        );
    }
    if let Some(name) = query {
        let path = path.field("query");
        valid = valid.and(plain(&path, name, b"-_"));
        path.warn(
            "an API key in a query appears in the logs and histories of proxies and browsers",
            "a header field",
        );
    }
    valid?;
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
    path.at_most(raw.len(), MAX_KEY_HEADERS, "are too many")?;
    let lower: Vec<String> = raw.iter().map(|name| name.to_ascii_lowercase()).collect();
    let mut valid = path.distinct(&lower);
    for (index, name) in lower.iter().enumerate().filter(|(_, name)| *name != BEARER) {
        let path = path.index(index);
        valid = valid.and(names::header(&path, name, MAX_KEY_HEADER_BYTES));
    }
    valid?;
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
        format!("{} is not a plain name", quote(name)),
        format!("1 to {MAX_NAME_BYTES} letters, digits, dashes and underscores"),
    )
}
