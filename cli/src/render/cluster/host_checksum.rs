//! The annotation of the pods with a digest of what a host takes from its first policy alone: the
//! ports and folders of its OS sandbox, and where its audit log is. A running host holds a policy
//! that changes them, so such a policy has to replace the pods. Another policy must not.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tensorgate_os_sandbox::{BaseFolders, Resource};
use tensorgate_policy::hex;
use tensorgate_policy_compiler::Version;
use tensorgate_settings::policy_resources::PolicyResources;

/// The annotation's key.
pub const HOST_CHECKSUM: &str = "checksum/host";

/// The digest of a policy, for a host with these folders. Other files that the policy names come by
/// volumes, which are in the pods' own specification and below the root.
pub fn host_checksum(version: &Version, folders: &BaseFolders) -> String {
    let resources = PolicyResources::of(&version.policy).ports_and_written_folders(folders);
    let resources: Vec<_> = (resources.iter())
        .map(|resource| match resource {
            Resource::Port(port) => format!("port {port}"),
            Resource::Read(path) => format!("read {}", path.display()),
            Resource::Write(path) => format!("write {}", path.display()),
        })
        .collect();
    let audit = version.raw.audit.clone().unwrap_or_default();
    let mut audit = serde_json::to_value(audit).unwrap_or_default();
    if let Some(audit) = audit.as_object_mut() {
        // The only part of it that a running host changes.
        audit.remove("on_failure");
    }
    let fixed: Value = json!({"resources": resources, "audit": audit});
    hex(&Sha256::digest(fixed.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::render::cluster::test_support::{loaded, policy, workload};
    use crate::render::cluster::workload::Pod;

    /// The pods' template for the usual policy, with one text replaced and lines added.
    fn pods(from: &str, to: &str, more: &str) -> Value {
        let usual = policy("svc-web");
        assert!(usual.contains(from), "{from}");
        let loaded = loaded(&format!("{}{more}", usual.replace(from, to)));
        let deployment = workload(&loaded).deployment(&loaded, Pod::default());
        json!(deployment).pointer("/spec/template").unwrap().clone()
    }

    #[test]
    fn a_policy_that_a_running_host_holds_replaces_the_pods_and_no_other_does() {
        let now = pods("", "", "");
        let checksum = "/metadata/annotations/checksum~1host";
        assert!(now.pointer(checksum).is_some_and(Value::is_string));
        let redis = "rate_limit_service: {redis: {url: \"redis://cache.ml.svc:6379\"}}\n";
        for (from, to, more, replaced) in [
            (":8001", ":8002", "", true),
            ("", "", redis, true),
            ("", "", "audit: {path: other/decisions.jsonl}\n", true),
            ("", "", "audit: {files: 3}\n", true),
            // Another server at the same port, another limit, and what is the default.
            ("triton.ml.svc", "triton-2.ml.svc", "", false),
            ("quota: 600", "quota: 60", "", false),
            ("value: \"svc-web\"", "value: \"svc-app\"", "", false),
            ("", "", "audit: {on_failure: allow}\n", false),
            ("", "", "audit: {path: audit/decisions.jsonl}\n", false),
        ] {
            let next = pods(from, to, more);
            let differs = next.pointer(checksum) != now.pointer(checksum);
            assert_eq!(differs, replaced, "{to}{more}");
        }
    }
}
