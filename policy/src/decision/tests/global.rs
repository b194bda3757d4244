//! Limits of the rate limit service: charged once, after the local limits and permits, and never
//! treated as allowed before the service answers.

use serde_json::json;
use tensorgate_values::Scope;

use super::*;
use crate::decision::Addressee;

/// The fixture with a limit of each scope on requests and on their content.
fn shared() -> Policy {
    let mut document = unpriced();
    document["listen"]["limits"]["hold_bytes"] = 1024.into();
    document["rate_limit_service"] = json!({"redis": {"url": "redis://127.0.0.1"}});
    let grant = &mut document["grants"][0];
    grant["models"] = json!(["digits", "twice"]);
    grant["concurrency"] = 4.into();
    grant["rate"]["scope"] = "global".into();
    grant["cost"] = json!({"elements": 4096, "bytes": "16KiB", "window_s": 60, "scope": "global"});
    grant["budget"] = json!({"requests": 50, "elements": 8192, "per": "day"});
    for unused in ["/models/picture", "/handlers"] {
        let (parent, key) = unused.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap();
        parent.as_object_mut().unwrap().remove(key);
    }
    fixture::policy(document)
}

/// A charge's scope and public names.
fn named(step: &Step) -> (Scope, Vec<String>) {
    let Step::Charge(charge) = step else {
        panic!("{step:?}")
    };
    let name = |limit_charge: &crate::decision::LimitCharge| {
        limit_charge.allowance.public_name(&charge.grant)
    };
    (
        charge.scope,
        charge.limit_charges.iter().map(name).collect(),
    )
}

fn charges(step: &Step, scope: Scope, names: &[&str]) {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(named(step), (scope, names));
}

fn quota(left: u64) -> RemainingQuota {
    RemainingQuota {
        left,
        full_after_ns: 1,
        wait: Wait::None,
    }
}

fn spent(left: u64) -> ChargeOutcome {
    ChargeOutcome::Charged(vec![quota(left)])
}

/// A request that is charged locally for its head and has its permits.
fn acquire_result(policy: &Policy, head: &Head<'_>) -> (Decision, Step) {
    let (mut decision, step) = Decision::begin(policy, head);
    charges(&step, Scope::Local, &["scoring:requests:day"]);
    let step = decision.charged(policy, spent(49));
    assert!(matches!(step, Step::Acquire(_)), "{step:?}");
    let step = decision.acquired(policy, &AcquireOutcome::Acquired);
    charges(&step, Scope::Global, &["scoring"]);
    (decision, step)
}

#[test]
fn global_limits_are_charged_after_cheap_checks() {
    let policy = shared();
    let (mut decision, _) = acquire_result(&policy, &rest("digits"));
    let step = decision.charged(&policy, spent(7));
    assert!(matches!(step, Step::ReadBody(_)), "{step:?}");
    whole(&policy, &mut decision);
    assert_eq!(decision.message(&policy, &message(None, None)), Step::Check);
    let step = decision.check(&policy, &message(None, None));
    charges(&step, Scope::Local, &["scoring:elements:day"]);
    let step = decision.charged(&policy, spent(8));
    charges(&step, Scope::Global, &["scoring:elements", "scoring:bytes"]);
    let both = ChargeOutcome::Charged(vec![quota(1), quota(2)]);
    assert_eq!(decision.charged(&policy, both), Step::Forward);
    // The local quotas come first: a caller that shows only the first few leaves out the quotas of
    // the service.
    let requests: Vec<_> = decision.request_quotas().map(|it| it.left).collect();
    assert_eq!(requests, [49, 7]);
    let all = decision.rate_notes(&policy);
    let all: Vec<_> = all.iter().map(|note| note.left).collect();
    assert_eq!(all, [49, 7, 8, 1, 2]);
}

#[test]
fn global_limits_are_charged_once_if_the_body_names_the_model() {
    let policy = shared();
    let (mut decision, step) = Decision::begin(&policy, &grpc(Operation::Infer));
    assert!(matches!(step, Step::ReadBody(_)), "{step:?}");
    let whom = Addressee {
        model: "digits".into(),
        version: None,
        streams: false,
    };
    let step = decision.body(&policy, 100, Some(whom));
    charges(&step, Scope::Local, &["scoring:requests:day"]);
    decision.charged(&policy, spent(1));
    let step = decision.acquired(&policy, &AcquireOutcome::Acquired);
    charges(&step, Scope::Global, &["scoring"]);
    assert_eq!(decision.charged(&policy, spent(1)), Step::Decode);
    let request = InferRequest {
        model: Some("digits".into()),
        ..message(None, None)
    };
    assert_eq!(decision.message(&policy, &request), Step::Check);
    let step = decision.check(&policy, &request);
    charges(&step, Scope::Local, &["scoring:elements:day"]);
}

#[test]
fn a_rejection_names_the_limit_and_the_retry_time() {
    let policy = shared();
    let (mut decision, _) = acquire_result(&policy, &rest("digits"));
    let empty = RemainingQuota {
        left: 0,
        full_after_ns: 9,
        wait: Wait::Ns(1_500_000_000),
    };
    let Step::Deny(denial) = decision.charged(&policy, ChargeOutcome::Exceeded(vec![empty])) else {
        panic!("it is refused")
    };
    assert_eq!(denial.reason, Reason::RateLimited);
    assert_eq!(denial.retry_after_s, Some(2));
    assert_eq!(
        denial.cause,
        "grant \"scoring\" has 0 of 120 requests in 60 s left for all gateways, and 1 is asked for"
    );
    let told: Vec<_> = denial
        .rates
        .iter()
        .map(|note| note.policy.as_str())
        .collect();
    assert_eq!(told, ["scoring:requests:day", "scoring"]);
}

#[test]
fn a_failed_service_with_deny_is_not_the_callers_fault() {
    let policy = shared();
    let (mut decision, _) = acquire_result(&policy, &rest("digits"));
    let step = decision.charged(&policy, ChargeOutcome::Failed);
    assert_eq!(reason(&step), Some(Reason::Overloaded));
}
