//! Renders a policy as objects of a Kubernetes cluster.
//!
//! | target | filter | host |
//! |---|---|---|
//! | [`kubernetes`] | in an Envoy of the gate's own pods | beside it, over Unix sockets |
//! | [`istio`] | in the sidecar of the gate's pods, or in a gateway | behind a sidecar |
//! | [`gateway`] | in the proxies of an Envoy Gateway | in pods of its own, over mutual TLS |
//! | [`helm`] | as [`kubernetes`], in a chart | as [`kubernetes`] |
//!
//! Names that a user gives are checked when they are parsed ([`names`]), and every text of the
//! policy is a value of a tree that is written at the end. So no text can end the value that it is
//! in.

pub mod affinity;
pub mod domains;
mod encoded;
pub mod ending;
pub mod filter_source;
pub mod gateway;
pub mod helm;
mod host_checksum;
pub mod istio;
pub mod kubernetes;
pub mod monitoring;
pub mod names;
pub mod needs;
pub mod network;
pub mod pod_options;
pub mod pod_ports;
pub mod policy_files;
pub mod sizes;
pub mod template;
#[cfg(test)]
pub(super) mod test_support;
pub mod workload;

use std::collections::BTreeSet;
use std::path::PathBuf;

use tensorgate_filter_core::filter::Filter;
use tensorgate_policy::values::BackendKind;
use tensorgate_policy::{Fault, Policy, Severity};
use tensorgate_policy_load::load::Loaded;
use tensorgate_policy_text::path::below;

use super::Unrenderable;
use super::envoy::control_plane::ControlPlane;
use super::envoy::{Driver, RenderOptions, key_sets};
use super::manifests::Manifests;
use crate::model_artifacts::location;
use workload::{ROOT, RUN, Workload, prints_audit_log};

/// What no target in a cluster can enforce.
pub fn faults(policy: &Policy, workload: &Workload, driver: Driver) -> Vec<Fault> {
    let mut faults = driver.faults(policy);
    let mut add = |path: String, message: &str, fix: Option<&str>| {
        faults.push(Fault {
            severity: Severity::Error,
            path,
            message: message.to_owned(),
            fix: fix.map(str::to_owned),
        });
    };
    for (name, backend) in policy.backends() {
        if backend.kind() == BackendKind::Embedded {
            let message = "the embedded backend is for one machine: a cluster has no server for it";
            let fix = "kind: open-inference, with the endpoints of a model server";
            add(below("backends", &[name, "kind"]), message, Some(fix));
        }
        for (at, endpoint) in backend.endpoints().iter().enumerate() {
            if is_loopback(endpoint) {
                let path = format!("{}[{at}]", below("backends", &[name, "endpoints"]));
                let message =
                    "in a cluster this address is the pod itself, which has no model server";
                let fix =
                    "the address of the model server's Service, as in http://triton.ml.svc:8001";
                add(path, message, Some(fix));
            }
        }
    }
    let artifacts = policy.artifacts();
    let located: BTreeSet<_> = artifacts
        .map(|(model, version, _)| location(model, version))
        .collect();
    for path in located {
        let message = "the host in a cluster has no volume with model files, and the model server has its own copy";
        let fix = "remove it, and run `tensorgate model serve-verified` as init container of the model server";
        add(path, message, Some(fix));
    }
    if workload.handlers.is_none() && !workload.files.components.is_empty() {
        let message = "the policy's components need a volume: name it with --handlers-image or --handlers-claim";
        add("handlers".to_owned(), message, None);
    }
    faults
}

/// The objects of every target: the policy, the identity of the pods, their disruption budget and
/// the closed ports of the model servers.
///
/// # Errors
/// The policy is too large.
pub fn common(workload: &Workload, loaded: &Loaded) -> Result<Manifests, Unrenderable> {
    let mut manifests = Manifests::default();
    let policy = workload.policy(&loaded.version);
    manifests.add("configmap-policy", policy.map_err(Unrenderable::Other)?);
    manifests.add("serviceaccount", workload.service_account());
    manifests.add("poddisruptionbudget", workload.disruption_budget());
    if let Some(closed) = workload.model_server_policy() {
        manifests.add("networkpolicy-model-servers", closed);
    }
    Ok(manifests)
}

/// Options for parts of Envoy's configuration that a control plane adds: paths in the container of
/// its proxy, next to the host's sockets or not.
fn proxy_options(control_plane: ControlPlane) -> RenderOptions {
    RenderOptions {
        control_plane,
        listen: None,
        driver: Driver::Wasm,
        filters: PathBuf::new(),
        chain: vec![Filter::Gate],
        host_socket: format!("{RUN}/host.sock").into(),
        admin_socket: PathBuf::new(),
        ready_socket: None,
        stats: None,
        audit_socket: format!("{RUN}/audit.sock").into(),
        limits_socket: format!("{RUN}/limits.sock").into(),
        remote_hosts: None,
        root: PathBuf::from(ROOT),
        secrets: PathBuf::new(),
        system_authorities: PathBuf::from(key_sets::SYSTEM_AUTHORITIES[0]),
        own_cgroup: false,
        sandbox_host: true,
    }
}

/// Whether an endpoint is on the machine of its caller.
fn is_loopback(endpoint: &str) -> bool {
    let Ok(uri) = endpoint.parse::<http::Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default();
    is_loopback_host(host.trim_start_matches('[').trim_end_matches(']'))
}

/// Whether a name, or an address without brackets, is that of its caller's machine.
fn is_loopback_host(host: &str) -> bool {
    host == "localhost"
        || (host.parse::<std::net::IpAddr>()).is_ok_and(|address| address.is_loopback())
}

/// Whether no line of a policy's audit log leaves the pods that are rendered.
pub fn audit_log_stays(loaded: &Loaded) -> bool {
    let export = loaded.version.policy.audit().export();
    let receiver = export.otlp().filter(|rule| !is_loopback_host(rule.host()));
    !prints_audit_log(&loaded.version.raw) && !export.stdout() && receiver.is_none()
}

#[cfg(test)]
mod tests {
    use super::test_support::{loaded, policy};
    use super::{audit_log_stays, is_loopback};

    #[test]
    fn an_audit_log_without_a_receiver_outside_of_its_pod_is_known() {
        for (export, expected) in [
            ("", false),
            ("audit: {export: {stdout: false}}", true),
            ("audit: {export: {stdout: true}}", false),
            (
                "audit: {export: {otlp: {endpoint: \"http://127.0.0.1:4318\"}}}",
                true,
            ),
            (
                "audit: {export: {otlp: {endpoint: \"http://[::1]:4318\"}}}",
                true,
            ),
            (
                "audit: {export: {otlp: {endpoint: \"https://c.example:4318\"}}}",
                false,
            ),
        ] {
            let loaded = loaded(&format!("{}{export}\n", policy("a")));
            assert_eq!(audit_log_stays(&loaded), expected, "{export}");
        }
    }

    #[test]
    fn the_pod_itself_is_recognised() {
        for (endpoint, expected) in [
            ("http://127.0.0.1:8001", true),
            ("http://localhost:8001", true),
            ("https://[::1]:8001", true),
            ("http://127.9.9.9", true),
            ("http://triton.ml.svc:8001", false),
            ("http://10.0.0.1:8001", false),
        ] {
            assert_eq!(is_loopback(endpoint), expected, "{endpoint}");
        }
    }
}
