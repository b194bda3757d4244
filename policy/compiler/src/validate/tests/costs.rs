//! Costs and budgets: their allowed values, and the requests that they must allow.

use tensorgate_policy::limits::gcra::Bucket;

use super::*;

/// `digits` takes at most 32 × 64 elements of 4 bytes.
const MOST_ELEMENTS: u64 = 2048;
const MOST_BYTES: u64 = 8192;

/// A change to the grant for `digits` only.
fn digits_alone(section: &str, value: &Value) -> Value {
    let mut document = with("/grants/0/models", json!(["digits"]));
    put(&mut document, "/grants/0/cost", Value::Null);
    put(&mut document, "/models/twice", Value::Null);
    put(&mut document, "/models/picture", Value::Null);
    put(&mut document, "/handlers", Value::Null);
    put(
        &mut document,
        &format!("/grants/0/{section}"),
        value.clone(),
    );
    document
}

fn refuse(section: &str, value: Value, path: &str, text: &str) {
    let errors = errors(digits_alone(section, &value));
    let [error] = errors.as_slice() else {
        panic!("{value}: {errors:#?}")
    };
    assert!(
        error.starts_with(&format!("grants[0].{section}{path}: ")),
        "{value}: {error}"
    );
    assert!(error.contains(text), "{value}: {error}");
}

#[test]
fn a_cost_bucket_has_the_quota_of_its_whole_window() {
    let cost = json!({"elements": 1_000_000, "bytes": "4MiB", "window_s": 60});
    let policy = policy(digits_alone("cost", &cost));
    let cost = policy.grants()[0].cost();
    let bucket = |units| Bucket {
        interval_ns: 60_000_000_000,
        per: units,
        burst: units,
    };
    assert_eq!(cost.elements.unwrap().bucket(), bucket(1_000_000));
    assert_eq!(cost.bytes.unwrap().bucket(), bucket(4 << 20));
    let public: Vec<_> = policy
        .allowances()
        .map(|(grant, client, allowance)| {
            (
                allowance.public_name(grant.name()),
                allowance.key(grant.name(), client.name()),
            )
        })
        .collect();
    let expected = [
        ("scoring", "rate:7:scoring:scorer"),
        ("scoring:elements", "cost:elements:7:scoring:scorer"),
        ("scoring:bytes", "cost:bytes:7:scoring:scorer"),
    ];
    assert_eq!(
        public,
        expected.map(|(name, key)| (name.into(), key.into()))
    );
}

#[test]
fn a_budget_has_a_name_of_its_own_for_each_unit() {
    let budget = json!({"requests": 9, "elements": 2048, "bytes": 8192, "per": "day"});
    let policy = policy(digits_alone("budget", &budget));
    let names: Vec<_> = policy
        .allowances()
        .map(|(grant, client, allowance)| {
            (
                allowance.public_name(grant.name()),
                allowance.key(grant.name(), client.name()),
                allowance.most(),
            )
        })
        .collect();
    let expected = [
        ("scoring", "rate:7:scoring:scorer", 3),
        (
            "scoring:requests:day",
            "budget:requests:7:scoring:scorer",
            9,
        ),
        (
            "scoring:elements:day",
            "budget:elements:7:scoring:scorer",
            2048,
        ),
        ("scoring:bytes:day", "budget:bytes:7:scoring:scorer", 8192),
    ];
    assert_eq!(
        names,
        expected.map(|(name, key, most)| (name.into(), key.into(), most))
    );
}

#[test]
fn a_cost_and_a_budget_say_what_they_limit_and_for_how_long() {
    refuse(
        "cost",
        json!({"window_s": 60}),
        "",
        "sets no limit (elements, bytes or tokens)",
    );
    refuse("cost", json!({"elements": 9000}), ".window_s", "is missing");
    refuse(
        "cost",
        json!({"elements": 9000, "window_s": 0}),
        ".window_s",
        "below the minimum",
    );
    refuse(
        "cost",
        json!({"elements": u64::MAX, "window_s": 1}),
        ".elements",
        "above the maximum",
    );
    refuse(
        "cost",
        json!({"bytes": u64::MAX, "window_s": 1}),
        ".bytes",
        "above the maximum",
    );
    refuse("budget", json!({"per": "day"}), "", "sets no limit");
    refuse("budget", json!({"requests": 1}), ".per", "is missing (day)");
    refuse(
        "budget",
        json!({"requests": 0, "per": "day"}),
        ".requests",
        "below the minimum",
    );
    for (section, value) in [
        (
            "cost",
            json!({"elements": 9000, "window_s": 60, "burst": 1}),
        ),
        ("budget", json!({"requests": 1, "per": "week"})),
        ("budget", json!({"words": 1, "per": "day"})),
    ] {
        let document = digits_alone(section, &value);
        let read: Result<crate::raw::Policy, _> = serde_json::from_value(document);
        assert!(read.is_err(), "{value}");
    }
}

#[test]
fn tensors_have_no_tokens() {
    for (section, value) in [
        ("cost", json!({"tokens": 1_000, "window_s": 60})),
        ("budget", json!({"tokens": 1_000, "per": "day"})),
    ] {
        refuse(section, value, ".tokens", "takes no texts");
    }
}

#[test]
fn a_request_within_the_contract_can_always_pass_once() {
    for (unit, most) in [("elements", MOST_ELEMENTS), ("bytes", MOST_BYTES)] {
        let cost = |amount: u64| json!({unit: amount, "window_s": 60});
        let budget = |amount: u64| json!({unit: amount, "per": "day"});
        assert_eq!(errors(digits_alone("cost", &cost(most))), [""; 0]);
        assert_eq!(errors(digits_alone("budget", &budget(most))), [""; 0]);
        let path = format!(".{unit}");
        let text = format!(
            "a request that model \"digits\" accepts can have {most} {unit}, which would always be rejected (at least {most}, or lower the max of the model's dims)"
        );
        refuse("cost", cost(most - 1), &path, &text);
        refuse("budget", budget(most - 1), &path, &text);
    }
}

#[test]
fn a_raw_body_is_charged_by_its_bytes_alone() {
    check(
        "/grants/0/cost",
        json!({"elements": 1_000_000, "window_s": 60}),
        "grants[0].cost.elements",
        "model \"picture\" takes a raw body, which has no elements (bytes: 64MiB)",
    );
    check(
        "/grants/0/cost",
        json!({"bytes": 65_535, "window_s": 60}),
        "grants[0].cost.bytes",
        "model \"picture\" accepts can have 65536 bytes, which would always be rejected (at least 65536, or lower",
    );
    accept("/grants/0/cost", json!({"bytes": 65_536, "window_s": 60}));
}

#[test]
fn a_suggested_cost_is_in_a_unit_that_all_models_have() {
    let rate = json!({"quota": 120, "window_s": 60});
    for (document, expected) in [
        // Tensors and a raw body.
        (with("/grants/0/cost", Value::Null), "bytes: 64MiB"),
        (digits_alone("rate", &rate), "elements: 1000000"),
    ] {
        let fix = format!("cost: {{{expected}, window_s: 60}}");
        let found = faults(document);
        let fixes = found.iter().filter_map(|fault| fault.fix.as_deref());
        assert!(
            fixes.collect::<Vec<_>>().contains(&fix.as_str()),
            "{found:#?}"
        );
    }
}

#[test]
fn items_count_with_the_length_that_raw_form_gives_them() {
    let mut document = digits_alone("cost", &json!({"bytes": 8192 + 3 * 68, "window_s": 60}));
    let text = json!({"name": "text", "datatype": "BYTES", "shape": [3], "max_item_bytes": 64});
    put(&mut document, "/models/digits/inputs/1", text);
    assert_eq!(errors(document.clone()), [""; 0]);
    put(
        &mut document,
        "/grants/0/cost/bytes",
        json!(8192 + 3 * 68 - 1),
    );
    assert_eq!(errors(document).len(), 1);
}

#[test]
fn a_limit_on_tensors_without_tensors_is_reported() {
    for (section, value) in [
        ("cost", json!({"elements": 1, "window_s": 60})),
        ("budget", json!({"bytes": 1, "per": "day"})),
    ] {
        warn(
            &format!("/grants/1/{section}"),
            value,
            &format!("grants[1].{section}"),
            "has no effect: the grant does not allow inference",
        );
    }
    let quiet = with("/grants/1/budget", json!({"requests": 1, "per": "day"}));
    assert!(
        !warnings(quiet)
            .iter()
            .any(|warning| warning.contains("has no effect: the grant does not allow inference"))
    );
}
