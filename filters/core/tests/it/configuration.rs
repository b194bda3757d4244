//! Valid and invalid configurations, and the faults of the invalid ones.

use crate::support;

use support::{CONTEXT_KEY, bundle};
use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::root::{GateRoot, READ_CONFIGURATION_BYTES};
use tensorgate_policy::{Bundle, EncodedBundle};

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

/// The configuration with this text in base64.
fn encoded(bundle_json: &str) -> String {
    let encoded = EncodedBundle::from_json(bundle_json).unwrap();
    serde_json::to_string(&encoded).unwrap()
}

#[test]
fn an_encoded_bundle_configures_the_same_filter() {
    let configured = |configuration: &str| {
        let (root, warnings) = GateRoot::configure(configuration, Some(CONTEXT_KEY))
            .unwrap_or_else(|faults| panic!("{configuration}: {faults:?}"));
        let (filter, headers) = (root.filter(), root.headers());
        let (policy, generation) = (root.policy(), root.generation());
        format!("{filter:?} {headers:?} {policy:?} {generation} {warnings:?}")
    };
    let named = bundle().replacen('{', "{\"filter\": \"auth\", \"headers\": \"hold\", ", 1);
    for bundle_json in [bundle(), named] {
        let encoded = encoded(&bundle_json);
        // As a proxy may write it.
        let spaced = encoded.replacen('{', " {\n ", 1);
        let escaped = encoded.replace('/', "\\/").replace('=', "\\u003d");
        for form in [encoded, spaced, escaped] {
            assert_eq!(configured(&form), configured(&bundle_json));
        }
    }
}

#[test]
fn an_encoded_bundle_in_another_form_is_rejected() {
    let form = encoded(&bundle());
    let not_a_bundle = "configuration is not a policy bundle: ";
    let not_base64 = "bundle: is not base64";
    let too_long = "A".repeat(Bundle::MAX_ENCODED_BYTES + 4);
    let too_long = format!("{{\"bundle\":\"{too_long}\"}}");
    for (configuration, expected) in [
        (
            form.replace("\"}", "\",\"headers\":\"hold\"}"),
            not_a_bundle,
        ),
        (
            form.replacen('{', "{\"headers\":\"hold\",", 1),
            not_a_bundle,
        ),
        (form.replace("\"}", "\",\"bundle\":\"\"}"), not_a_bundle),
        (format!("{form}}}"), not_a_bundle),
        (format!("[{form}]"), not_a_bundle),
        ("{\"bundle\":1}".to_owned(), not_a_bundle),
        ("{\"bundle\":\"\"}".to_owned(), not_a_bundle),
        // A bundle within a bundle.
        (encoded(&form), not_a_bundle),
        (form.replace("\"}", "\\n\"}"), not_base64),
        (form.replace("\"}", "====\"}"), not_base64),
        (
            too_long,
            "bundle: is 524292 bytes of base64, more than 524288: ",
        ),
    ] {
        check(&configuration, Some(CONTEXT_KEY), &[expected]);
    }
    // Its faults are those of its bundle.
    let broken = bundle().replacen("\"version\"", "\"revision\"", 1);
    assert_ne!(broken, bundle());
    check(&encoded(&broken), Some(CONTEXT_KEY), &[not_a_bundle]);
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
        &format!("{CONTEXT_KEY}\nsecond"),
    ] {
        check(
            &bundle(),
            Some(key),
            &["TENSORGATE_CONTEXT_KEY: is not 64 hex digits"],
        );
    }
    for key in [
        "0".repeat(64),
        format!("{CONTEXT_KEY}\n{}", "5A".repeat(32)),
    ] {
        let expected = "TENSORGATE_CONTEXT_KEY: repeats one byte: make a random key with `openssl";
        check(&bundle(), Some(&key), &[expected]);
    }
}

#[test]
fn a_bundle_can_say_that_no_host_is_behind_the_filter() {
    let with = |members: &str| bundle().replacen('{', &format!("{{{members}, "), 1);
    let has_host = |bundle: &str, key: Option<&str>| {
        let (root, _) = GateRoot::configure(bundle.as_bytes(), key)
            .unwrap_or_else(|faults| panic!("{bundle}: {faults:?}"));
        assert_eq!(root.without_state().has_host(), root.has_host());
        root.has_host()
    };
    let (hostless, key) = (with("\"host\": false"), Some(CONTEXT_KEY));
    assert!(has_host(&bundle(), key));
    assert!(has_host(&with("\"host\": true"), key));
    assert!(!has_host(&hostless, key));
    assert!(!has_host(&hostless, None));
    let guard = with("\"filter\": \"tensor-guard\"");
    assert!(has_host(&guard, key));
    assert!(!has_host(&guard, None), "no host reads what is not signed");
    let no_key = "TENSORGATE_CONTEXT_KEY: is not set";
    check(&with("\"host\": true"), None, &[no_key]);
    check(&hostless, Some("00"), &["is not 64 hex digits"]);
    for value in ["null", "0", "\"false\"", "false, \"host\": true"] {
        let other = with(&format!("\"host\": {value}"));
        check(&other, key, &["configuration is not a policy bundle"]);
    }
    // Without a key no failure would be counted, and so no source locked.
    let lockout = hostless.replacen("\"version\": 1,", "\"version\": 1, \"lockout\": {},", 1);
    assert_ne!(lockout, hostless);
    let needed = format!("{no_key}, and the policy's lockout needs it");
    check(&lockout, None, &[needed.as_str()]);
    assert!(!has_host(&lockout, key));
}

#[test]
fn of_two_context_keys_the_first_signs() {
    let second = "bc".repeat(31) + "de";
    let mac = |variable: &str| {
        let (root, _) = GateRoot::configure(bundle().as_bytes(), Some(variable))
            .unwrap_or_else(|faults| panic!("{faults:?}"));
        root.context_key().map(|key| key.name(&[b"x"]))
    };
    assert_eq!(mac(&format!("{CONTEXT_KEY}\n{second}\n")), mac(CONTEXT_KEY));
    assert_eq!(mac(&format!("\n{second}\n{CONTEXT_KEY}")), mac(&second));
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
