//! Rules of a policy that Istio cannot enforce, each at its place in the policy.

use std::ops::RangeInclusive;

use tensorgate_policy::{Fault, Severity};
use tensorgate_policy_load::load::Loaded;
use tensorgate_policy_text::path::below;
use tensorgate_settings::admin;

use super::Entry;
use crate::render::envoy::key_sets;

/// Ports of a sidecar's own.
const SIDECAR_PORTS: RangeInclusive<u16> = 15_000..=15_100;

/// The faults.
pub fn faults(loaded: &Loaded, entry: &Entry) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut add = |path: String, message: String, fix: &str| {
        faults.push(Fault {
            severity: Severity::Error,
            path,
            message,
            fix: Some(fix.to_owned()),
        });
    };
    let written = &loaded.version.raw;
    if written.listen.tls.is_some() {
        let message = "the mesh ends TLS before the filter, so these certificates have no effect";
        let fix = "remove listen.tls: the sidecar or the Gateway object has the certificates";
        add("listen.tls".to_owned(), message.to_owned(), fix);
    }
    let of_client = |name: &str, field: &str| below("clients", &[name, field]);
    for (name, client) in &written.clients {
        if client.mtls.is_some() {
            let message = "client certificates end at the mesh's proxy, so the filter sees none";
            let fix = "metadata, for an identity that the mesh has verified";
            add(of_client(name, "mtls"), message.to_owned(), fix);
        }
    }
    match entry {
        Entry::Sidecar(_) => {
            let message = "a sidecar takes the client's address from x-forwarded-for, which the client can write";
            for (name, client) in &written.clients {
                if client.sources.is_some() {
                    let fix = "render with --gateway, or remove sources";
                    add(of_client(name, "sources"), message.to_owned(), fix);
                }
            }
            if written.listen.trusted_hops.0 > 0 {
                let path = "listen.trusted_hops".to_owned();
                add(path, message.to_owned(), "render with --gateway, or 0");
            }
            if written.lockout.is_some() {
                let fix = "render with --gateway, or remove lockout";
                add("lockout".to_owned(), message.to_owned(), fix);
            }
            let address = loaded.version.policy.listen().address();
            let port = address.port();
            let of_host = [admin::DEFAULT_ADDRESS.port(), admin::LOCAL_PORT];
            if SIDECAR_PORTS.contains(&port) || of_host.contains(&port) {
                let message =
                    format!("port {port} of the pods belongs to the sidecar or to the host");
                let fix = format!("{}:8080", address.ip());
                add("listen.address".to_owned(), message, &fix);
            }
        }
        Entry::Gateway(_) => {
            for (issuer, url) in key_sets::fetched(&loaded.version.policy) {
                if url.ca().is_some() {
                    let message = "the gateway's pods do not have this file";
                    let path = below("issuers", &[issuer, "jwks", "ca"]);
                    let fix =
                        "a server with a certificate of a public authority, or keys in the policy";
                    add(path, message.to_owned(), fix);
                }
            }
        }
    }
    faults
}
