//! Inference streams: one head, and a decision for each message.

use super::*;
use crate::decision::Addressee;

/// The fixture with streams in its first grant and every limit that a stream can have.
fn streaming() -> Policy {
    let mut document = unpriced();
    document["listen"]["limits"]["streams_per_client"] = 3.into();
    document["clients"]["scorer"]["concurrency"] = 5.into();
    let grant = &mut document["grants"][0];
    grant["concurrency"] = 4.into();
    grant["operations"] = serde_json::json!(["stream", "metadata", "ready"]);
    document["models"]["digits"]["limits"] =
        serde_json::json!({"concurrency": 6, "in_flight_bytes": 1000});
    fixture::policy(document)
}

fn keys(step: &Step) -> Vec<String> {
    let Step::Acquire(acquire) = step else {
        return vec![];
    };
    let text = |permit: &crate::decision::PermitRequest| {
        format!("{} {}/{}", permit.key(), permit.amount, permit.limit)
    };
    acquire.permits.iter().map(text).collect()
}

fn digits() -> Option<Addressee<'static>> {
    Some(Addressee {
        model: "digits".into(),
        version: None,
        streams: false,
    })
}

fn open(policy: &Policy) -> Decision {
    let (mut decision, step) = Decision::begin(policy, &grpc(Operation::Stream));
    assert_eq!(
        keys(&step),
        [
            "flight:requests:client:scorer 1/5",
            "flight:requests:streams:scorer 1/3"
        ]
    );
    let step = decision.acquired(policy, &AcquireOutcome::Acquired);
    assert!(matches!(step, Step::ReadMessages(_)), "{step:?}");
    decision
}

#[test]
fn each_message_has_a_decision_of_its_own() {
    let policy = streaming();
    let stream = open(&policy);
    for _ in 0..3 {
        let mut refused = stream.of_message();
        let step = refused.body(
            &policy,
            100,
            Some(Addressee {
                model: "hidden".into(),
                version: None,
                streams: false,
            }),
        );
        assert!(matches!(step, Step::Deny(denial) if denial.reason == Reason::NotGranted));
        let mut message = stream.of_message();
        let step = message.body(&policy, 100, digits());
        assert!(matches!(step, Step::Charge(_)), "{step:?}");
        let step = message.charged(&policy, ChargeOutcome::CHARGED);
        assert_eq!(
            keys(&step),
            [
                "flight:requests:grant:7:scoring:scorer 1/4",
                "flight:requests:passing:6:digits:scorer 1/3",
                "flight:bytes:passing:6:digits:scorer 100/500",
                "flight:requests:model:digits 1/6",
                "flight:bytes:model:digits 100/1000"
            ]
        );
        assert_eq!(
            message.acquired(&policy, &AcquireOutcome::Acquired),
            Step::Decode
        );
    }
}

#[test]
fn a_message_is_judged_on_an_open_stream_only() {
    let policy = streaming();
    let late = |mut decision: Decision| match decision.body(&policy, 100, digits()) {
        Step::Deny(denial) => denial.reason,
        step => panic!("{step:?}"),
    };
    let stream = open(&policy);
    assert_eq!(
        late(stream.clone()),
        Reason::Overloaded,
        "the head has no body"
    );
    let (unopened, _) = Decision::begin(&policy, &grpc(Operation::Stream));
    assert_eq!(late(unopened.of_message()), Reason::Overloaded);
    assert_eq!(late(stream.of_message().of_message()), Reason::Overloaded);
    let mut refused = stream;
    refused.refuse(&policy, Denial::new(Reason::Malformed, "cut"));
    assert_eq!(late(refused.of_message()), Reason::Malformed);
}

#[test]
fn infer_and_stream_are_granted_separately() {
    let reason = |policy: &Policy, operation| match Decision::begin(policy, &grpc(operation)).1 {
        Step::Deny(denial) => Some(denial.reason),
        _ => None,
    };
    let streams = streaming();
    assert_eq!(reason(&streams, Operation::Stream), None);
    assert_eq!(reason(&streams, Operation::Infer), Some(Reason::NotGranted));
    let infers = policy();
    assert_eq!(reason(&infers, Operation::Stream), Some(Reason::NotGranted));
    assert_eq!(reason(&infers, Operation::Infer), None);
}

#[test]
fn every_count_of_a_stream_has_a_slot() {
    let keys: Vec<String> = streaming()
        .permit_counters()
        .iter()
        .map(|permit| permit.key())
        .collect();
    for key in [
        "flight:requests:streams:scorer",
        "flight:requests:passing:6:digits:scorer",
        "flight:bytes:passing:6:digits:scorer",
    ] {
        assert!(keys.iter().any(|known| known == key), "{key}: {keys:?}");
    }
}
