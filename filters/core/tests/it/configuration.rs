//! Valid and invalid configurations, and the faults of the invalid ones.

use crate::support;

use support::{CONTEXT_KEY, bundle};
use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::root::{GateRoot, READ_CONFIGURATION_BYTES};
use tensorgate_policy::Bundle;

/// The faults of a configuration, one line each.
fn check(bundle: &str, key: Option<&str>, expected: &[&str]) {
    let Err(faults) = GateRoot::configure(bundle.as_bytes(), key) else {
        panic!("refused: {bundle}")
    };
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    for expected in expected {
        assert!(
            faults.iter().any(|fault| fault.contains(expected)),
            "{expected}: {faults:?}"
        );
    }
    if let Some(key) = key {
        // A text of a few characters may occur by chance.
        assert!(
            key.len() < 16 || !faults.iter().any(|fault| fault.contains(key)),
            "{faults:?}"
        );
    }
}

#[test]
fn a_valid_configuration_is_taken() {
    let (root, _) = GateRoot::configure(bundle().as_bytes(), Some(CONTEXT_KEY))
        .unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(root.generation(), "0123456789abcdef");
    assert!(GateRoot::configure(bundle().as_bytes(), Some(&format!("{CONTEXT_KEY}\n"))).is_ok());
}

#[test]
fn the_configuration_names_the_filter() {
    let named = |name: &str| bundle().replacen('{', &format!("{{\"filter\": {name}, "), 1);
    for (name, filter) in [
        ("null", Filter::Gate),
        ("\"gate\"", Filter::Gate),
        ("\"auth\"", Filter::Auth),
        ("\"rate-limit\"", Filter::RateLimit),
        ("\"tensor-guard\"", Filter::TensorGuard),
    ] {
        let (root, _) = GateRoot::configure(named(name), Some(CONTEXT_KEY))
            .unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        assert_eq!(root.filter(), filter, "{name}");
    }
    for name in ["\"\"", "\"Gate\"", "\"auth \"", "\"gate.wasm\""] {
        check(
            &named(name),
            Some(CONTEXT_KEY),
            &["filter: must be gate, auth, "],
        );
    }
    for name in ["1", "[\"auth\"]", "\"auth\", \"filter\": \"gate\""] {
        check(
            &named(name),
            Some(CONTEXT_KEY),
            &["configuration is not a policy bundle"],
        );
    }
}

#[test]
fn a_configuration_that_is_too_large_is_told_so_and_not_where_it_was_cut_off() {
    let padded = |bytes: usize| {
        let mut bundle = bundle();
        bundle.extend(std::iter::repeat_n(' ', bytes - bundle.len()));
        bundle
    };
    let largest = padded(Bundle::MAX_BYTES);
    assert!(GateRoot::configure(largest, Some(CONTEXT_KEY)).is_ok());
    // The maximum that is read of a larger configuration.
    let mut larger = padded(READ_CONFIGURATION_BYTES);
    larger.replace_range(..1, "[");
    check(
        &larger,
        Some(CONTEXT_KEY),
        &["configuration is larger than 16777216 bytes"],
    );
}

#[test]
fn the_context_key_is_64_hex_digits_from_the_environment() {
    check(&bundle(), None, &["TENSORGATE_CONTEXT_KEY: is not set"]);
    for key in [
        "",
        "00",
        &CONTEXT_KEY[1..],
        &format!("{CONTEXT_KEY}0"),
        &CONTEXT_KEY.replace('0', "g"),
    ] {
        check(
            &bundle(),
            Some(key),
            &["TENSORGATE_CONTEXT_KEY: is not 64 hex digits"],
        );
    }
}

#[test]
fn what_is_not_a_bundle_is_refused() {
    let json = bundle();
    for text in [
        "",
        "{}",
        "null",
        "[]",
        "\0",
        &json[1..],
        &format!("{json}x"),
        &json.replace("\"version\"", "\"vresion\""),
    ] {
        check(text, Some(CONTEXT_KEY), &["not a policy bundle"]);
    }
}

#[test]
fn a_generation_is_a_short_word() {
    let long = "a".repeat(65);
    for generation in ["", "a b", "é", "a\\nb", &long] {
        check(
            &bundle().replace("0123456789abcdef", generation),
            Some(CONTEXT_KEY),
            &["generation: must be"],
        );
    }
}

#[test]
fn every_fault_is_reported_at_once() {
    let broken = bundle()
        .replace("\"version\": 1", "\"version\": 2")
        .replace("\"max\": 64}, 2], \"range\"", "\"min\": 1}, 2], \"range\"");
    check(
        &broken,
        None,
        &["TENSORGATE_CONTEXT_KEY", "version", "shape[0]"],
    );
}

#[test]
fn no_cut_of_a_configuration_panics() {
    let json = bundle();
    for cut in (0..json.len()).filter(|cut| json.is_char_boundary(*cut)) {
        assert!(
            GateRoot::configure(&json.as_bytes()[..cut], Some(CONTEXT_KEY)).is_err(),
            "cut at {cut}"
        );
    }
}
