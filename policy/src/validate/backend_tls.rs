//! TLS to servers: trusted authorities and the gate's identity.

use alloc::format;
use alloc::string::String;

use super::names;
use super::proofs::spiffe;
use super::report::{Path, Valid, quote};
use crate::policy::{BackendTls, Trust};
use crate::raw;

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
                "nothing says who may vouch for an https endpoint",
                "tls: {ca: FILE}",
            );
        }
        return Some(None);
    };
    if raw.endpoints.is_empty() || !raw.endpoints.iter().all(encrypted) {
        return path.fail_with_fix(
            "has no effect on an endpoint without https",
            "https://host:port everywhere",
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

/// An agent replaces the files. Its authorities cover a whole trust domain, so the policy must name
/// the server's SPIFFE ID.
fn agent(path: &Path, tls: &raw::BackendTls, address: &str) -> Option<Trust> {
    let mut good = true;
    for (name, there) in [
        ("ca", tls.ca.is_some()),
        ("cert", tls.cert.is_some()),
        ("key", tls.key.is_some()),
    ] {
        if there {
            path.field(name)
                .error_with_fix("is what the agent of workload_api says", "remove it");
            good = false;
        }
    }
    if tls.spiffe.is_none() {
        path.field("spiffe").error_with_fix(
            "is missing beside workload_api: its authorities vouch for every workload",
            "spiffe://trust-domain/path",
        );
        good = false;
    }
    let socket = address.strip_prefix("unix:").unwrap_or_default();
    let plain = |text: &str| !text.chars().any(|c| c.is_control() || c.is_whitespace());
    if !socket.starts_with('/') || socket.len() > MAX_SOCKET_BYTES || !plain(socket) {
        path.field("workload_api").error_with_fix(
            format!("{} is no socket of an agent", quote(address)),
            "unix:/absolute/path",
        );
        good = false;
    }
    good.then(|| Trust::WorkloadApi(address.into()))
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
            path.field(missing)
                .fail_with_fix(format!("is missing beside {there}"), "a PEM file")
        }
    };
    Some(Trust::Files {
        ca: ca??,
        identity: identity?,
    })
}
