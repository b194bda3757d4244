//! What is charged, when, and what a rejection reports.

use serde_json::json;

use super::*;
use crate::contract::{Elements, Part};
use crate::decision::Addressee;

/// The fixture with costs and budgets of every unit.
fn priced() -> Policy {
    let mut document = unpriced();
    let text = json!({"name": "text", "datatype": "BYTES", "shape": [{"max": 4}], "max_item_bytes": 8, "optional": true});
    let inputs = document["models"]["digits"]["inputs"].as_array_mut();
    inputs.unwrap().push(text);
    document["listen"]["limits"]["hold_bytes"] = 1024.into();
    document["grants"][0]["models"] = json!(["digits", "twice"]);
    for unused in ["/models/picture", "/handlers"] {
        let (parent, key) = unused.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap();
        parent.as_object_mut().unwrap().remove(key);
    }
    document["grants"][0]["cost"] = json!({"elements": 4096, "bytes": "16KiB", "window_s": 60});
    document["grants"][0]["budget"] =
        json!({"requests": 50, "elements": 8192, "bytes": "1MiB", "per": "day"});
    document["grants"][1]["cost"] = json!({"elements": 1, "window_s": 60});
    fixture::policy(document)
}

const BY_REQUEST: [(&str, u64); 2] = [
    ("rate:7:scoring:scorer", 1),
    ("budget:requests:7:scoring:scorer", 1),
];

/// The limits on content, and the charge for each.
fn by_content(elements: u64, bytes: u64) -> Vec<(String, u64)> {
    [
        ("cost:elements:7:scoring:scorer", elements),
        ("budget:elements:7:scoring:scorer", elements),
        ("cost:bytes:7:scoring:scorer", bytes),
        ("budget:bytes:7:scoring:scorer", bytes),
    ]
    .map(|(key, amount)| (key.into(), amount))
    .into()
}

fn charge(step: &Step) -> Vec<(String, u64)> {
    match step {
        Step::Charge(charge) => amounts(charge),
        step => panic!("{step:?}"),
    }
}

fn paid_head(policy: &Policy) -> Decision {
    let (mut decision, step) = Decision::begin(policy, &rest("digits"));
    let expected = BY_REQUEST.map(|(key, amount)| (key.to_owned(), amount));
    assert_eq!(charge(&step), expected);
    let step = decision.charged(policy, ChargeOutcome::CHARGED);
    assert!(matches!(step, Step::ReadBody(_)), "{step:?}");
    whole(policy, &mut decision);
    assert_eq!(decision.message(policy, &message(None, None)), Step::Check);
    decision
}

#[test]
fn content_is_charged_after_validation_and_before_forwarding() {
    let policy = priced();
    let mut decision = paid_head(&policy);
    let step = decision.check(&policy, &message(None, None));
    assert_eq!(charge(&step), by_content(64, 256));
    assert_eq!(
        decision.charged(&policy, ChargeOutcome::CHARGED),
        Step::Forward
    );

    // A request that violates the contract is not charged for its content.
    let mut decision = paid_head(&policy);
    let mut wrong = message(None, None);
    wrong.inputs[0].shape[0] = 33;
    let step = decision.check(&policy, &wrong);
    assert_eq!(reason(&step), Some(Reason::Shape));
}

#[test]
fn every_input_is_charged_in_full() {
    let policy = priced();
    let cost = |inputs: Vec<Tensor<'static>>| {
        let mut decision = paid_head(&policy);
        let request = InferRequest {
            inputs,
            ..message(None, None)
        };
        charge(&decision.check(&policy, &request))
    };
    let image = |n: i64| Tensor {
        shape: vec![n, 1, 8, 8],
        data: Ok(vec![0; usize::try_from(n).unwrap() * 256].into()),
        ..message(None, None).inputs.remove(0)
    };
    let text = |items: &[&str]| Tensor {
        name: "text".into(),
        datatype: "BYTES".into(),
        shape: vec![i64::try_from(items.len()).unwrap()],
        parameters: vec![],
        data: Ok(items
            .iter()
            .flat_map(|item| {
                let length = u32::try_from(item.len()).unwrap().to_le_bytes();
                [&length[..], item.as_bytes()].concat()
            })
            .collect::<Vec<u8>>()
            .into()),
    };
    assert_eq!(cost(vec![image(32)]), by_content(2048, 8192));
    assert_eq!(
        cost(vec![image(1), text(&["", "abcdefgh"])]),
        by_content(66, 256 + 4 + 12)
    );

    let mut empty = unpriced();
    empty["models"]["digits"]["inputs"][0]["shape"] = json!([{"name": "n", "min": 0, "max": 4}]);
    empty["grants"][0]["models"] = json!(["digits"]);
    empty["grants"][0]["cost"] = json!({"elements": 9, "bytes": 36, "window_s": 60});
    let policy = fixture::policy(empty);
    let mut decision = held(&policy, &rest("digits"));
    let nothing = InferRequest {
        inputs: vec![Tensor {
            shape: vec![0],
            data: Ok(vec![].into()),
            ..image(1)
        }],
        ..message(None, None)
    };
    assert_eq!(decision.message(&policy, &nothing), Step::Check);
    assert_eq!(
        charge(&decision.check(&policy, &nothing)),
        [
            ("cost:elements:7:scoring:scorer".to_owned(), 1),
            ("cost:bytes:7:scoring:scorer".to_owned(), 1)
        ],
        "a model runs for an empty tensor too"
    );
}

#[test]
fn a_raw_body_costs_its_bytes() {
    let mut document = unpriced();
    document["grants"][0]["cost"] = json!({"bytes": "64KiB", "window_s": 60});
    let policy = fixture::policy(document);
    let picture = Head {
        content_type: ContentType::Other("image/png".into()),
        ..rest("picture")
    };
    let mut decision = held(&policy, &picture);
    let nothing = InferRequest::default();
    assert_eq!(decision.message(&policy, &nothing), Step::Check);
    let step = decision.check(&policy, &nothing);
    assert_eq!(
        charge(&step),
        [("cost:bytes:7:scoring:scorer".to_owned(), 100)]
    );
}

#[test]
fn metadata_requests_cost_no_elements() {
    let policy = priced();
    let ready = as_client("reader", asked(Operation::Ready, "digits", Some("1")));
    let mut decision = held(&policy, &ready);
    let nothing = InferRequest::default();
    assert_eq!(decision.message(&policy, &nothing), Step::Check);
    assert_eq!(decision.check(&policy, &nothing), Step::Forward);
}

/// The charge for a streamed body after its head is checked.
fn of_head(text: Option<(usize, Elements)>, image: Elements) -> Vec<(String, u64)> {
    let policy = priced();
    let (mut decision, _) = Decision::begin(&policy, &grpc(Operation::Infer));
    let whom = Addressee {
        model: "digits".into(),
        version: None,
        streams: false,
    };
    let step = decision.head_of_body(&policy, 9_000, Some(whom));
    assert_eq!(charge(&step).len(), 2);
    assert_eq!(
        decision.charged(&policy, ChargeOutcome::CHARGED),
        Step::Decode
    );
    let mut request = message(Some("digits"), None);
    request.inputs[0].data = Ok(vec![].into());
    request.inputs[0].shape[0] = 16;
    let mut elements = vec![image];
    if let Some((items, permit)) = text {
        request.inputs.push(Tensor {
            name: "text".into(),
            datatype: "BYTES".into(),
            shape: vec![i64::try_from(items).unwrap()],
            parameters: vec![],
            data: Ok(vec![].into()),
        });
        elements.push(permit);
    }
    assert_eq!(decision.message(&policy, &request), Step::Check);
    let step = decision.check_head(&policy, &request, &elements);
    let charged = charge(&step);
    // Nothing is forwarded before it is charged.
    let mut unpaid = decision.clone();
    let part = Part::Begin { bytes: 4096 };
    assert_eq!(
        reason(&unpaid.pass(&policy, part)),
        Some(Reason::Overloaded)
    );
    assert_eq!(
        decision.charged(&policy, ChargeOutcome::CHARGED),
        Step::Forward
    );
    assert_eq!(decision.pass(&policy, part), Step::Forward);
    charged
}

#[test]
fn a_streamed_body_is_charged_at_its_head() {
    use Elements::Streamed;
    assert_eq!(of_head(None, Streamed(None)), by_content(1024, 4096));
    assert_eq!(of_head(None, Streamed(Some(4096))), by_content(1024, 4096));
    assert_eq!(
        of_head(Some((2, Streamed(Some(15)))), Streamed(Some(4096))),
        by_content(1026, 4096 + 15)
    );
    // The lengths of the items are not known yet. The charge assumes all 9,000 bytes of the body,
    // up to the maximum of the contract.
    assert_eq!(
        of_head(Some((2, Streamed(None))), Streamed(None)),
        by_content(1026, 8_240)
    );
}

#[test]
fn a_rejected_charge_reports_when_to_retry() {
    let policy = priced();
    let check = |waits: &[Wait], expected: Option<u64>| {
        let quotas: Vec<_> = waits.iter().map(|wait| quota(*wait)).collect();
        for content in [false, true] {
            let mut decision = if content {
                let mut decision = paid_head(&policy);
                decision.check(&policy, &message(None, None));
                decision
            } else {
                Decision::begin(&policy, &rest("digits")).0
            };
            let step = decision.charged(&policy, ChargeOutcome::Exceeded(quotas.clone()));
            let Step::Deny(denial) = step else {
                panic!("{step:?}")
            };
            let reason = if content {
                Reason::CostExceeded
            } else {
                Reason::RateLimited
            };
            assert_eq!(denial.reason, reason);
            assert_eq!(denial.retry_after_s, expected, "{waits:?}");
            assert_eq!(denial.rates.len(), waits.len());
        }
    };
    check(&[Wait::Ns(0)], Some(1));
    check(&[Wait::Ns(1)], Some(1));
    check(&[Wait::Ns(1_000_000_000)], Some(1));
    check(&[Wait::Ns(1_000_000_001)], Some(2));
    check(&[Wait::Ns(u64::MAX)], Some(18_446_744_074));
    // Every limit must have enough quota.
    check(&[Wait::Ns(1), Wait::Ns(5_000_000_000)], Some(5));
    check(&[Wait::None, Wait::Ns(2_000_000_000)], Some(2));
    // Waiting does not help.
    check(&[Wait::Forever], None);
    check(&[Wait::Ns(1), Wait::Forever], None);
    let (mut decision, _) = Decision::begin(&policy, &rest("digits"));
    assert_eq!(
        reason(&decision.charged(&policy, ChargeOutcome::Failed)),
        Some(Reason::Overloaded)
    );
}

#[test]
fn a_response_reports_every_charged_limit() {
    let policy = priced();
    let (mut decision, _) = Decision::begin(&policy, &rest("digits"));
    let had = |left, full_after_ns, wait| RemainingQuota {
        left,
        full_after_ns,
        wait,
    };
    let spent = vec![
        had(2, 500_000_000, Wait::None),
        had(49, 3_600_000_000_000, Wait::None),
    ];
    decision.charged(&policy, ChargeOutcome::Charged(spent));
    whole(&policy, &mut decision);
    decision.message(&policy, &message(None, None));
    decision.check(&policy, &message(None, None));
    let refused = vec![
        had(63, 59_000_000_000, Wait::Ns(1_000_000_000)),
        had(9, 3_600_000_000_000, Wait::None),
        had(16_384, 0, Wait::None),
        had(1, 3_600_000_000_000, Wait::Forever),
    ];
    let step = decision.charged(&policy, ChargeOutcome::Exceeded(refused));
    let Step::Deny(denial) = step else {
        panic!("{step:?}")
    };
    let told: Vec<_> = denial
        .rates
        .iter()
        .map(|note| {
            (
                note.policy.as_str(),
                note.quota,
                note.window_s,
                note.left,
                note.reset_s,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("scoring", 120, 60, 2, Some(1)),
            ("scoring:requests:day", 50, 86_400, 49, Some(3_600)),
            ("scoring:elements", 4096, 60, 63, Some(1)),
            ("scoring:elements:day", 8192, 86_400, 9, Some(3_600)),
            ("scoring:bytes", 16_384, 60, 16_384, Some(0)),
            ("scoring:bytes:day", 1 << 20, 86_400, 1, None),
        ]
    );
    assert_eq!(denial.rates, decision.rate_notes(&policy));
    assert_eq!(
        denial.cause,
        "grant \"scoring\" has 63 of 4096 elements in 60 s left, and 64 are asked for"
    );
}

#[test]
fn keys_of_different_pairs_and_limits_differ() {
    let policy = priced();
    let allowances: Vec<_> = policy
        .allowances()
        .map(|(_, _, allowance)| allowance)
        .take(6)
        .collect();
    let mut keys: Vec<String> = allowances
        .iter()
        .flat_map(|allowance| {
            [("a", "b:c"), ("a:b", "c"), ("1:a", "b"), ("1", "a:b")]
                .map(|(grant, client)| allowance.key(grant, client))
        })
        .collect();
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!((keys.len(), count), (24, 24));
}
