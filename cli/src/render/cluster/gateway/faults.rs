//! Rules of a policy that Envoy Gateway cannot enforce, at their places in the policy.

use tensorgate_policy::policy::{Counter, RateLimitService};
use tensorgate_policy::{Fault, Policy, Severity};
use tensorgate_policy_text::path::below;

use crate::render::envoy::key_sets;

/// The size of headers that Envoy accepts if nothing else is configured, bytes. Envoy Gateway 1.8
/// and 1.9 have no field for it.
const HEADER_BYTES: usize = 60 << 10;
/// The number of header fields that Envoy accepts if nothing else is configured.
const HEADERS: usize = 100;

/// The faults of a policy. `patched` is whether an `EnvoyPatchPolicy` adds what the other resources
/// have no fields for.
pub fn faults(policy: &Policy, patched: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut add = |path: String, message: &str, fix: &str| {
        faults.push(Fault {
            severity: Severity::Error,
            path,
            message: message.to_owned(),
            fix: Some(fix.to_owned()),
        });
    };
    let listen = policy.listen();
    if listen.tls().is_some() {
        let message = "the Gateway's listener ends TLS, with the certificate that it names";
        add("listen.tls".to_owned(), message, "remove listen.tls");
    }
    for client in policy.clients().iter() {
        if client.mtls().is_some() {
            let message =
                "the Gateway's listener ends TLS, and forwards nothing about client certificates";
            let fix = "api_keys or jwt";
            add(below("clients", &[client.name(), "mtls"]), message, fix);
        }
    }
    for (issuer, url) in key_sets::fetched(policy) {
        if url.ca().is_some() {
            let message = "the proxies of the Gateway do not have this file";
            let fix = "jwks: {file: …}, or a server with a certificate of a public authority";
            add(below("issuers", &[issuer, "jwks", "ca"]), message, fix);
        } else if !patched {
            let message = "Envoy Gateway offers the filter no cluster to fetch keys from";
            let fix = "jwks: {file: …}, or --patch-policy, which adds the cluster";
            add(below("issuers", &[issuer, "jwks", "url"]), message, fix);
        }
    }
    let counter = policy.rate_limit_service().map(RateLimitService::counter);
    if let (Some(counter), false) = (counter, patched) {
        let field = match counter {
            Counter::Redis(_) => "redis",
            Counter::Endpoint { .. } => "endpoint",
        };
        let message = "Envoy Gateway offers the filter no cluster of the rate limit service";
        let fix = "scope: local for each limit, or --patch-policy, which adds the cluster";
        add(below("rate_limit_service", &[field]), message, fix);
    }
    let limits = listen.limits();
    if limits.header_bytes > HEADER_BYTES && !patched {
        let message = "Envoy Gateway 1.8 accepts 60 KiB of headers, and has no field for more";
        let fix = "header_bytes: 60KiB, or --patch-policy, which sets the field";
        add("listen.limits.header_bytes".to_owned(), message, fix);
    }
    if limits.headers > HEADERS && !patched {
        let message = "Envoy Gateway accepts 100 header fields, and has no field for more";
        let fix = "headers: 100, or --patch-policy, which sets the field";
        add("listen.limits.headers".to_owned(), message, fix);
    }
    faults
}
