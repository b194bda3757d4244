//! What a grant's shadow mode allows, and what is still enforced.

use serde_json::json;

use super::*;
use crate::contract::{Elements, Part};

/// The fixture under a mode, with every limit.
fn under(mode: serde_json::Value) -> Policy {
    let mut document = unpriced();
    let grant = &mut document["grants"][0];
    grant["models"] = json!(["digits", "twice"]);
    grant["cost"] = json!({"elements": 4096, "window_s": 60});
    grant["budget"] = json!({"requests": 50, "bytes": "1MiB", "per": "day"});
    grant["concurrency"] = json!(1);
    grant["mode"] = mode;
    for unused in ["/models/picture", "/handlers"] {
        let (parent, key) = unused.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap();
        parent.as_object_mut().unwrap().remove(key);
    }
    fixture::policy(document)
}

fn full() -> ChargeOutcome {
    ChargeOutcome::Exceeded(vec![quota(Wait::Ns(1)), quota(Wait::Forever)])
}

/// A message with one value that is not a number and one out of range.
fn bad_values() -> InferRequest<'static> {
    let mut request = message(None, None);
    let mut data = vec![0; 256];
    data[0..4].copy_from_slice(&99.0_f32.to_le_bytes());
    data[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    request.inputs[0].data = Ok(data.into());
    request
}

/// Every limit is exceeded and every value is wrong: the resulting step, and what is recorded.
fn worst(mode: serde_json::Value) -> (Step, Vec<Reason>) {
    let policy = &under(mode);
    let (mut decision, mut step) = Decision::begin(policy, &rest("digits"));
    for _ in 0..16 {
        step = match step {
            Step::Charge(_) => decision.charged(policy, full()),
            Step::Acquire(_) => decision.acquired(policy, &AcquireOutcome::Acquired),
            Step::ReadBody(_) => decision.body(policy, 100, None),
            Step::Decode => decision.message(policy, &bad_values()),
            Step::Check => decision.check(policy, &bad_values()),
            Step::Deny(_) | Step::Answer(..) | Step::Forward | Step::ReadMessages(_) => break,
        };
    }
    let noted = decision.shadowed().iter().map(|it| it.reason).collect();
    (step, noted)
}

#[test]
fn a_shadow_mode_allows_only_the_reasons_it_names() {
    use Reason::{CostExceeded, NotFinite, OutOfRange, RateLimited};
    for (mode, refused, noted) in [
        (json!("enforce"), Some(RateLimited), &[][..]),
        (json!({}), Some(RateLimited), &[]),
        (json!({"rate": "shadow"}), Some(NotFinite), &[RateLimited]),
        (
            json!({"rate": "shadow", "values": "shadow"}),
            Some(CostExceeded),
            &[RateLimited, NotFinite, OutOfRange],
        ),
        (json!({"cost": "shadow"}), Some(RateLimited), &[]),
        (
            json!({"default": "shadow", "cost": "enforce"}),
            Some(CostExceeded),
            &[RateLimited, NotFinite, OutOfRange],
        ),
        (
            json!("shadow"),
            None,
            &[RateLimited, NotFinite, OutOfRange, CostExceeded],
        ),
    ] {
        let (step, told) = worst(mode.clone());
        assert_eq!(reason(&step), refused, "{mode}");
        assert_eq!(step == Step::Forward, refused.is_none(), "{mode}");
        assert_eq!(told, noted, "{mode}");
    }
}

#[test]
fn store_failures_and_concurrency_limits_are_enforced_in_shadow_mode() {
    let policy = &under(json!("shadow"));
    let (mut decision, _) = Decision::begin(policy, &rest("digits"));
    let step = decision.charged(policy, ChargeOutcome::Failed);
    assert_eq!(reason(&step), Some(Reason::Overloaded));

    let (mut decision, _) = Decision::begin(policy, &rest("digits"));
    let Step::Acquire(acquire) = decision.charged(policy, full()) else {
        panic!("a rate in shadow goes on to the permits")
    };
    let permit = acquire.permits[0].clone();
    let step = decision.acquired(
        policy,
        &AcquireOutcome::Refused {
            scope: permit.scope,
            unit: permit.unit,
        },
    );
    assert_eq!(reason(&step), Some(Reason::Concurrency));
    assert_eq!(decision.shadowed().len(), 1, "what was noted stays");
}

#[test]
fn responses_report_no_shadow_limit() {
    let policy = &under(json!({"rate": "shadow"}));
    let (mut decision, _) = Decision::begin(policy, &rest("digits"));
    decision.charged(policy, full());
    assert_eq!(decision.rate_notes(policy), []);
    assert_eq!(
        decision.request_quotas().count(),
        2,
        "the host gets the note"
    );
    decision.acquired(policy, &AcquireOutcome::Acquired);
    whole(policy, &mut decision);
    decision.message(policy, &message(None, None));
    decision.check(policy, &message(None, None));
    let Step::Deny(denial) = decision.charged(policy, full()) else {
        panic!("the cost is enforced")
    };
    let names: Vec<_> = denial.rates.iter().map(|it| it.policy.as_str()).collect();
    assert_eq!(names, ["scoring:elements", "scoring:bytes:day"]);
    assert_eq!(
        denial.cause,
        "grant \"scoring\" has 0 of 4096 elements in 60 s left, and 64 are asked for"
    );
}

#[test]
fn a_driver_with_known_charges_reaches_the_same_decision() {
    let quotas = vec![quota(Wait::None), quota(Wait::None)];
    assert_eq!(
        ChargeOutcome::from_quotas(quotas.clone()),
        ChargeOutcome::Charged(quotas)
    );
    assert_eq!(
        ChargeOutcome::from_quotas(Vec::new()),
        ChargeOutcome::CHARGED
    );
    let quotas = vec![quota(Wait::None), quota(Wait::Forever)];
    assert_eq!(
        ChargeOutcome::from_quotas(quotas.clone()),
        ChargeOutcome::Exceeded(quotas)
    );
}

#[test]
fn shadow_denials_of_streamed_elements_are_noted_once_per_kind() {
    let policy = &under(json!({"values": "shadow"}));
    let mut request = bad_values();
    let data = request.inputs[0].data.clone().unwrap();
    request.inputs[0].data = Ok(Vec::new().into());
    for cut in [1, 3, 4, 7, 100, 256] {
        let (mut decision, step) = decide_head(policy, &rest("digits"), spent);
        assert!(matches!(step, Step::ReadBody(_)));
        let mut step = decision.head_of_body(policy, 1 << 10, None);
        for _ in 0..8 {
            step = match step {
                Step::Acquire(_) => decision.acquired(policy, &AcquireOutcome::Acquired),
                Step::Charge(_) => decision.charged(policy, ChargeOutcome::CHARGED),
                Step::Decode => decision.message(policy, &request),
                Step::Check => decision.check_head(policy, &request, &[Elements::Streamed(None)]),
                _ => break,
            };
        }
        assert_eq!(step, Step::Forward);
        let mut pass = |part| assert_eq!(decision.pass(policy, part), Step::Forward, "{cut}");
        pass(Part::Begin { bytes: 256 });
        data.chunks(cut).for_each(|piece| pass(Part::Chunk(piece)));
        pass(Part::End);
        assert_eq!(decision.passed(), Step::Forward);
        let mut noted: Vec<_> = decision
            .shadowed()
            .iter()
            .map(|it| it.cause.as_str())
            .collect();
        noted.sort_unstable();
        assert_eq!(
            noted,
            [
                "input \"image\": element 0 is out of range; expected values from 0 to 16",
                "input \"image\": element 1 is not finite"
            ],
            "{cut}"
        );
    }
}
