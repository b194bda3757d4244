//! Shares of limits: each in the bundle, and a fault at its line where it is too small.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use serde_json::{Value, json};
use tensorgate_cli_common::load_error::LoadError;
use tensorgate_cli_common::private_dir::PrivateDir;
use tensorgate_policy_compiler::Version;

use crate::load::{Loaded, load};

/// A policy with these limits of its only grant, on line 14.
fn loaded(limits: &str) -> Loaded {
    let folder = PrivateDir::new().unwrap();
    let file = folder.path().join("gate.yaml");
    let text = format!(
        r#"version: 1
listen: {{address: 127.0.0.1:8080}}
clients:
  app: {{api_keys: [{{sha256: a07f87b896d634ad40ab3bf7443a0264f53801c09278d6e035ecb731e9aa9700}}]}}
backends:
  gpu: {{kind: open-inference, endpoints: ["http://127.0.0.1:8001"]}}
models:
  m:
    backend: gpu
    versions: ["1"]
    protocols: [oip-rest]
    inputs: [{{name: x, datatype: FP32, shape: [8], range: [0, 1]}}]
    outputs: [{{name: y, datatype: FP32, shape: [1]}}]
grants: [{{name: g, clients: [app], models: [m], operations: [infer], {limits}}}]
"#
    );
    std::fs::write(&file, text).unwrap();
    load(&file).unwrap()
}

fn grant(loaded: &Loaded) -> Value {
    serde_json::to_value(&loaded.version.raw.grants[0]).unwrap()
}

/// `line path: message` of each fault.
fn faults(limits: &str, pods: Option<u32>) -> Vec<String> {
    let Err(LoadError::Faults(_, faults)) = loaded(limits).divided(pods) else {
        return Vec::new();
    };
    let faults = faults.into_iter();
    faults
        .map(|fault| format!("{} {}: {}", fault.span.line, fault.path, fault.message))
        .collect()
}

const SHARED: &str = "rate: {quota: 7, window_s: 60, burst: 4, local_share: replicas}, \
    cost: {elements: 100, bytes: 1000, window_s: 60, local_share: replicas}, \
    budget: {requests: 9, elements: 50, per: day}";

#[test]
fn a_pod_gets_its_share_rounded_down_under_a_generation_of_its_own() {
    let undivided = loaded(SHARED);
    assert_eq!(undivided.limits_to_divide(), [("g", "rate"), ("g", "cost")]);
    let before = undivided.version.generation.clone();
    let share = undivided.divided(Some(3)).unwrap();
    let expected = json!({"quota": 2, "window_s": 60, "burst": 1});
    assert_eq!(grant(&share)["rate"], expected);
    assert_eq!(grant(&share)["cost"]["elements"], 33);
    // A limit without `local_share` stays.
    assert_eq!(grant(&share)["budget"]["requests"], 9);
    assert_eq!(
        (share.limits_to_divide().len(), share.divided_by),
        (0, Some(3))
    );
    assert_ne!(share.version.generation, before);
    let own = Version::new(share.version.raw.clone()).unwrap();
    assert_eq!(share.version.generation, own.generation);
    // The filter and `explain` judge by the validated policy.
    let rate = share.version.policy.grants()[0].rate().unwrap();
    assert_eq!((rate.quota(), rate.bucket().burst), (2, 1));
}

#[test]
fn a_burst_that_is_not_written_is_the_share() {
    let share = loaded("rate: {quota: 10, window_s: 60, local_share: replicas}");
    let share = share.divided(Some(4)).unwrap();
    let rate = share.version.policy.grants()[0].rate().unwrap();
    assert_eq!((rate.quota(), rate.bucket().burst), (2, 2));
}

#[test]
fn a_policy_without_shares_is_unchanged_everywhere() {
    for pods in [None, Some(1), Some(5)] {
        let undivided = loaded("rate: {quota: 7, window_s: 60}");
        let before = undivided.version.clone();
        let after = undivided.divided(pods).unwrap();
        assert_eq!(after.version.generation, before.generation);
        assert_eq!((after.version.raw, after.divided_by), (before.raw, None));
    }
}

#[test]
fn a_share_that_no_request_could_pass_is_a_fault_at_its_line() {
    for (limits, pods, expected) in [
        (
            "rate: {quota: 3, window_s: 60, local_share: replicas}",
            Some(4),
            "14 grants[0].rate.quota: 3 divided by 4 pods leaves less than 1 for each",
        ),
        (
            "rate: {quota: 8, window_s: 60, burst: 2, local_share: replicas}",
            Some(4),
            "14 grants[0].rate.burst: 2 divided by 4 pods leaves less than 1 for each",
        ),
        (
            "budget: {requests: 1, per: day, local_share: replicas}",
            Some(2),
            "14 grants[0].budget.requests: 1 divided by 2 pods leaves less than 1 for each",
        ),
        // Every request of the model has 8 elements.
        (
            "cost: {elements: 14, window_s: 60, local_share: replicas}",
            Some(2),
            "14 grants[0].cost.elements: divided by 2 pods: a request that model \"m\" accepts can have 8 elements, which would always be rejected",
        ),
        (
            "rate: {quota: 8, window_s: 60, local_share: replicas}",
            None,
            "14 grants[0].rate.local_share: is for targets that write the pods themselves, and here their number is not known",
        ),
    ] {
        assert_eq!(faults(limits, pods), [expected], "{limits}");
    }
    let fits = "cost: {elements: 16, window_s: 60, local_share: replicas}";
    assert_eq!(faults(fits, Some(2)), [""; 0]);
}
