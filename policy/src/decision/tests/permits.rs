//! Which concurrency permits are required, when, and what their rejection reports.

use super::*;
use crate::decision::{AcquireOutcome, Addressee, PermitScope, PermitUnit};
use crate::request::Coding;

/// Every kind of limit.
fn limited() -> Policy {
    let mut document = unpriced();
    document["clients"]["scorer"]["concurrency"] = 5.into();
    document["grants"][0]["concurrency"] = 4.into();
    document["grants"][0]["rate"] = serde_json::Value::Null;
    document["models"]["digits"]["limits"] =
        serde_json::json!({"concurrency": 3, "in_flight_bytes": "2MiB"});
    document["models"]["digits"]["protocols"] =
        serde_json::json!(["oip-rest", "oip-grpc", "tf-serving-grpc"]);
    fixture::policy(document)
}

/// Permits as text: key, amount, limit.
fn permits(step: &Step) -> Vec<String> {
    let Step::Acquire(acquire) = step else {
        return vec![];
    };
    let text = |permit: &crate::decision::PermitRequest| {
        format!("{} {}/{}", permit.key(), permit.amount, permit.limit)
    };
    acquire.permits.iter().map(text).collect()
}

const CLIENT: &str = "flight:requests:client:scorer 1/5";
const GRANT: &str = "flight:requests:grant:7:scoring:scorer 1/4";
const MODEL: &str = "flight:requests:model:digits 1/3";
const BYTES: &str = "flight:bytes:model:digits 100/2097152";

#[test]
fn if_the_path_names_the_model_its_permits_wait_for_the_body() {
    let policy = limited();
    let (mut decision, step) = Decision::begin(&policy, &rest("digits"));
    assert_eq!(permits(&step), [CLIENT, GRANT]);
    assert!(decision.needs_body_size(&policy));
    let step = decision.acquired(&policy, &AcquireOutcome::Acquired);
    assert_eq!(step, read(BODY_BYTES, BodyFormat::OipJson));
    let step = decision.body(&policy, 100, None);
    assert_eq!(permits(&step), [MODEL, BYTES]);
    assert_eq!(
        decision.acquired(&policy, &AcquireOutcome::Acquired),
        Step::Decode
    );
    assert_eq!(decision.message(&policy, &message(None, None)), Step::Check);
}

#[test]
fn if_the_body_names_the_model_all_permits_are_acquired_together() {
    let policy = limited();
    let all = [CLIENT, GRANT, MODEL, BYTES];
    for protocol in [Protocol::OipGrpc, Protocol::TfGrpc] {
        let head = Head {
            route: Route::Model {
                protocol,
                operation: Operation::Infer,
                model: None,
                version: None,
            },
            ..grpc(Operation::Infer)
        };
        let (mut decision, _) = Decision::begin(&policy, &head);
        let addressee = Addressee {
            model: "digits".into(),
            version: None,
            streams: false,
        };
        let step = decision.body(&policy, 100, Some(addressee));
        assert_eq!(permits(&step), all, "{protocol:?}");
        assert_eq!(
            decision.acquired(&policy, &AcquireOutcome::Acquired),
            Step::Decode
        );
        let request = message(Some("digits"), None);
        assert_eq!(decision.message(&policy, &request), Step::Check);
        // Once more where only the decoder knows the addressee.
        let (mut decision, _) = Decision::begin(&policy, &head);
        assert_eq!(decision.body(&policy, 100, None), Step::Decode);
        assert_eq!(permits(&decision.message(&policy, &request)), all);
        assert_eq!(
            decision.acquired(&policy, &AcquireOutcome::Acquired),
            Step::Check
        );
    }
}

#[test]
fn a_compressed_body_takes_permits_for_its_expanded_size() {
    let mut document = unpriced();
    document["models"]["digits"]["encodings"] = serde_json::json!(["gzip"]);
    document["models"]["digits"]["limits"] = serde_json::json!({"in_flight_bytes": "2MiB"});
    document["listen"]["limits"]["max_expansion"] = 30.into();
    document["grants"][0]["rate"] = serde_json::Value::Null;
    let policy = fixture::policy(document);
    let head = Head {
        encoding: Encoding::Coded(Coding::Gzip),
        ..rest("digits")
    };
    for (compressed_bytes, estimate, most) in [
        // Whatever its ratio, a body may become what is free.
        (100, 3_000, 1 << 20),
        // No body expands to more than may be buffered.
        (40_000, 1 << 20, 1 << 20),
    ] {
        let (mut decision, step) = Decision::begin(&policy, &head);
        let Step::ReadBody(plan) = step else {
            panic!("{step:?}")
        };
        let expansion = plan.expansion.unwrap();
        assert_eq!(expansion.most_by_ratio(compressed_bytes), estimate);
        assert_eq!(expansion.most(compressed_bytes), most);
        let step = decision.body(&policy, estimate, None);
        let expected = format!("flight:bytes:model:digits {estimate}/2097152");
        assert_eq!(permits(&step), [expected], "{step:?}");
    }
}

#[test]
fn metadata_requests_need_no_permit_of_the_model() {
    let policy = limited();
    let (mut decision, step) = Decision::begin(&policy, &asked(Operation::Ready, "digits", None));
    assert_eq!(permits(&step), [CLIENT, GRANT]);
    assert!(!decision.needs_body_size(&policy));
    assert!(matches!(
        decision.acquired(&policy, &AcquireOutcome::Acquired),
        Step::ReadBody(_)
    ));
    assert_eq!(decision.body(&policy, 0, None), Step::Decode);
}

#[test]
fn every_concurrency_limit_has_a_slot() {
    let keys: Vec<String> = limited()
        .permit_counters()
        .iter()
        .map(|permit| permit.key())
        .collect();
    assert_eq!(
        keys,
        [
            "flight:requests:client:scorer",
            "flight:requests:grant:7:scoring:scorer",
            "flight:requests:passing:6:digits:scorer",
            "flight:bytes:passing:6:digits:scorer",
            "flight:requests:model:digits",
            "flight:bytes:model:digits"
        ]
    );
}

/// The same, with streaming of bodies beyond 64 KiB.
fn passing() -> Policy {
    let mut document = unpriced();
    document["listen"]["limits"]["hold_bytes"] = "64KiB".into();
    document["models"]["digits"]["limits"] =
        serde_json::json!({"concurrency": 5, "in_flight_bytes": 1000});
    document["grants"][0]["rate"] = serde_json::Value::Null;
    fixture::policy(document)
}

#[test]
fn one_clients_streamed_bodies_use_at_most_half_a_models_permits_or_one() {
    let policy = passing();
    let check = |model: &'static str, bytes: usize, expected: &[&str]| {
        let (mut decision, _) = Decision::begin(&policy, &grpc(Operation::Infer));
        let addressee = Addressee {
            model: model.into(),
            version: None,
            streams: false,
        };
        let step = decision.head_of_body(&policy, bytes, Some(addressee));
        assert_eq!(permits(&step), expected);
    };
    check(
        "digits",
        100,
        &[
            "flight:requests:passing:6:digits:scorer 1/2",
            "flight:bytes:passing:6:digits:scorer 100/500",
            "flight:requests:model:digits 1/5",
            "flight:bytes:model:digits 100/1000",
        ],
    );
    // One body may be streamed alone, whatever half of the limit is. The model's own limit decides
    // whether it is too large.
    check(
        "digits",
        900,
        &[
            "flight:requests:passing:6:digits:scorer 1/2",
            "flight:bytes:passing:6:digits:scorer 900/900",
            "flight:requests:model:digits 1/5",
            "flight:bytes:model:digits 900/1000",
        ],
    );
    // A buffered body needs only the model's permits.
    let (mut decision, _) = Decision::begin(&policy, &rest("digits"));
    let step = decision.body(&policy, 100, None);
    assert_eq!(
        permits(&step),
        [
            "flight:requests:model:digits 1/5",
            "flight:bytes:model:digits 100/1000"
        ]
    );
}

#[test]
fn every_client_that_may_infer_has_a_slot_for_its_share() {
    let share = |policy: &Policy| -> Vec<String> {
        let keys = policy
            .permit_counters()
            .into_iter()
            .map(|permit| permit.key());
        keys.filter(|key| key.contains(":passing:")).collect()
    };
    // A connection that stays on the listener of an older policy streams bodies that this policy
    // would buffer.
    for policy in [passing(), limited()] {
        assert_eq!(
            share(&policy),
            [
                "flight:requests:passing:6:digits:scorer",
                "flight:bytes:passing:6:digits:scorer"
            ]
        );
    }
}

#[test]
fn a_rejection_names_the_full_limit_and_a_failure_is_internal() {
    let policy = limited();
    let check = |outcome: AcquireOutcome, expected: Reason, cause: &str| {
        let (mut decision, _) = Decision::begin(&policy, &rest("digits"));
        let Step::Deny(denial) = decision.acquired(&policy, &outcome) else {
            panic!("{outcome:?} was let through")
        };
        assert_eq!((denial.reason, denial.rates), (expected, vec![]));
        assert!(denial.cause.contains(cause), "{}", denial.cause);
    };
    let refused = |scope, unit| AcquireOutcome::Refused { scope, unit };
    check(
        refused(PermitScope::Client("scorer".into()), PermitUnit::Requests),
        Reason::Concurrency,
        "client \"scorer\" is at its limit of requests",
    );
    check(
        refused(PermitScope::Model("digits".into()), PermitUnit::Bytes),
        Reason::Concurrency,
        "model \"digits\" is at its limit of bytes",
    );
    check(
        refused(
            PermitScope::Streaming {
                model: "digits".into(),
                client: "scorer".into(),
            },
            PermitUnit::Requests,
        ),
        Reason::Concurrency,
        "the client's share of model \"digits\" is at its limit of requests",
    );
    check(AcquireOutcome::Failed, Reason::Overloaded, "store");
}

#[test]
fn a_message_has_the_addressee_of_its_body() {
    let policy = policy();
    let addressee = |model: &'static str, version: Option<&'static str>| Addressee {
        model: model.into(),
        version: version.map(Into::into),
        streams: false,
    };
    let check = |first: Addressee<'static>, then: InferRequest<'static>, expected| {
        let (mut decision, _) = Decision::begin(&policy, &grpc(Operation::Infer));
        let step = decide_body(&mut decision, &policy, 100, Some(first.clone()), spent);
        assert_eq!(step, Step::Decode);
        let step = decide_message(&mut decision, &policy, &then, spent);
        assert_eq!(reason(&step), expected, "{first:?}");
    };
    let digits = || addressee("digits", None);
    check(digits(), message(Some("digits"), None), None);
    check(digits(), message(Some("digits"), Some("1")), None);
    check(
        digits(),
        message(Some("twice"), Some("1")),
        Some(Reason::Malformed),
    );
    check(
        addressee("twice", Some("1")),
        message(Some("twice"), Some("2")),
        Some(Reason::Malformed),
    );
    check(digits(), message(None, None), Some(Reason::NotGranted));
    // On a route that names the model, a body that also names it is rejected.
    let (mut decision, _) = decide_head(&policy, &rest("digits"), spent);
    assert_eq!(
        reason(&decision.body(&policy, 100, Some(digits()))),
        Some(Reason::Malformed)
    );
    // A client without a grant is rejected before anything is decoded.
    let (mut decision, _) = Decision::begin(&policy, &grpc(Operation::Infer));
    let step = decision.body(&policy, 100, Some(addressee("hidden", None)));
    assert_eq!(reason(&step), Some(Reason::NotGranted));
}

/// An ensemble of two calls of `digits` and, with the outputs of the first, one of `hidden`.
fn ensemble() -> Policy {
    let mut document = unpriced();
    let digits = document["models"]["digits"].clone();
    document["models"]["digits"]["limits"] = serde_json::json!({"concurrency": 6});
    document["models"]["hidden"]["limits"] =
        serde_json::json!({"concurrency": 7, "in_flight_bytes": 3000});
    document["models"]["hidden"]["inputs"] = serde_json::json!([
        {"name": "scores", "datatype": "FP32", "shape": [{"max": 32}, 10]}, digits["inputs"][0]
    ]);
    let output = |name: &str| {
        let mut output = digits["outputs"][0].clone();
        output["name"] = name.into();
        output
    };
    document["models"]["both"] = serde_json::json!({
        "versions": ["1"], "protocols": ["oip-rest", "oip-grpc"], "inputs": digits["inputs"], "limits": {"concurrency": 5},
        "outputs": [output("a"), output("b"), output("c")],
        "ensemble": {"steps": [
            {"model": "digits", "outputs": {"probabilities": "a"}},
            {"model": "hidden", "inputs": {"image": "image", "scores": "a"}, "outputs": {"probabilities": "b"}},
            {"model": "digits", "outputs": {"probabilities": "c"}}
        ]}
    });
    document["grants"][0]["models"] = serde_json::json!(["both"]);
    document["grants"][0]["rate"] = serde_json::Value::Null;
    document["listen"]["limits"]["hold_bytes"] = "64KiB".into();
    fixture::policy(document)
}

/// Whether a driver creates a slot for each.
fn known(policy: &Policy, taken: &[String]) -> bool {
    let known: Vec<_> = policy
        .permit_counters()
        .iter()
        .map(|permit| permit.key())
        .collect();
    let mut distinct = known.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), known.len(), "{known:?}");
    let mut keys = taken.iter().filter_map(|permit| permit.split(' ').next());
    keys.all(|key| known.iter().any(|known| known == key))
}

#[test]
fn an_ensemble_needs_a_permit_of_each_model() {
    let policy = ensemble();
    let (mut decision, _) = Decision::begin(&policy, &rest("both"));
    let taken = permits(&decision.body(&policy, 100, None));
    let expected = [
        "flight:requests:model:both 1/5",
        "flight:requests:model:digits 2/6",
        "flight:requests:model:hidden 1/7",
        // 100 bytes of the request, and 32 rows of 10 floats.
        "flight:bytes:model:hidden 1380/3000",
    ];
    assert_eq!(taken, expected);
    assert!(known(&policy, &taken), "{taken:?}");
}

#[test]
fn one_clients_streamed_bodies_use_half_of_each_ensemble_models_permits() {
    let policy = ensemble();
    let (mut decision, _) = Decision::begin(&policy, &grpc(Operation::Infer));
    let addressee = Addressee {
        model: "both".into(),
        version: None,
        streams: false,
    };
    let taken = permits(&decision.head_of_body(&policy, 100, Some(addressee)));
    let expected = [
        "flight:requests:passing:4:both:scorer 1/2",
        "flight:requests:model:both 1/5",
        "flight:requests:passing:6:digits:scorer 2/3",
        "flight:requests:model:digits 2/6",
        "flight:requests:passing:6:hidden:scorer 1/3",
        "flight:bytes:passing:6:hidden:scorer 1380/1500",
        "flight:requests:model:hidden 1/7",
        "flight:bytes:model:hidden 1380/3000",
    ];
    assert_eq!(taken, expected);
    assert!(known(&policy, &taken), "{taken:?}");
}
