//! Valid and invalid configurations, and the faults of the invalid ones.

use crate::support;

use support::{CONTEXT_KEY, bundle};
use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::root::{GateRoot, READ_CONFIGURATION_BYTES};
use tensorgate_in_memory_proxy::configuration;
use tensorgate_policy::{Compiled, Fault, FilterConfiguration, HostTarget, Target};

/// A filter with a compiled bundle.
fn configure(bundle: &str, key: Option<&str>) -> Result<(GateRoot, Vec<Fault>), Vec<Fault>> {
    GateRoot::configure(configuration(bundle)?, key)
}

/// The faults of a bundle, one line each.
fn check(bundle: &str, key: Option<&str>, expected: &[&str]) {
    check_faults(configure(bundle, key).map(|_| bundle), key, expected);
}

/// The faults of a configuration that is not compiled here.
fn check_configuration(configuration: &str, expected: &[&str]) {
    let key = Some(CONTEXT_KEY);
    let configured = GateRoot::configure(configuration.as_bytes(), key);
    check_faults(configured.map(|_| configuration), key, expected);
}

fn check_faults(configured: Result<&str, Vec<Fault>>, key: Option<&str>, expected: &[&str]) {
    let faults = match configured {
        Ok(text) => panic!("refused: {text}"),
        Err(faults) => faults,
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
    let (root, _) =
        configure(&bundle(), Some(CONTEXT_KEY)).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(root.generation(), "0123456789abcdef");
    assert!(configure(&bundle(), Some(&format!("{CONTEXT_KEY}\n"))).is_ok());
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
        let (root, _) = configure(&named(name), Some(CONTEXT_KEY))
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
}

#[test]
fn a_configuration_that_is_too_large_is_told_so_and_not_where_it_was_cut_off() {
    let padded = |bytes: usize| {
        let mut configuration = configuration(bundle()).unwrap();
        configuration.extend(std::iter::repeat_n(' ', bytes - configuration.len()));
        configuration
    };
    let largest = padded(FilterConfiguration::MAX_BYTES);
    assert!(GateRoot::configure(largest, Some(CONTEXT_KEY)).is_ok());
    // The maximum that is read of a larger configuration.
    let mut larger = padded(READ_CONFIGURATION_BYTES);
    larger.replace_range(..1, "[");
    check_configuration(&larger, &["configuration is larger than 16777216 bytes"]);
}

#[test]
fn a_proxy_may_write_the_configuration_in_another_way() {
    let written = configuration(bundle()).unwrap();
    let spaced = written.replacen('{', " {\n ", 1);
    let escaped = written.replace('/', "\\/").replace('=', "\\u003d");
    let configured = |configuration: &str| {
        let (root, warnings) = GateRoot::configure(configuration, Some(CONTEXT_KEY))
            .unwrap_or_else(|faults| panic!("{configuration}: {faults:?}"));
        format!("{:?} {} {warnings:?}", root.policy(), root.generation())
    };
    for form in [spaced, escaped] {
        assert_eq!(configured(&form), configured(&written));
    }
}

#[test]
fn another_form_of_configuration_is_rejected_with_what_to_do() {
    let form = configuration(bundle()).unwrap();
    let no_policy = "configuration has no compiled policy; render it with this release: ";
    let not_base64 = "bundle: is not base64";
    let encoded = |bytes: &[u8]| {
        let encoded = FilterConfiguration::new(bytes, FilterConfiguration::MAX_PLAIN_BYTES);
        serde_json::to_string(&encoded.unwrap()).unwrap()
    };
    let compiled = serde_json::from_str::<FilterConfiguration<'_>>(&form).unwrap();
    let compiled = compiled.decode().unwrap();
    let for_host = Compiled {
        target: Target::Host(HostTarget::default()),
        ..Compiled::load(&compiled).unwrap()
    };
    let for_host = for_host.to_bytes();
    let mut of_another_release = compiled.clone();
    of_another_release[15] ^= 1;
    for (configuration, expected) in [
        (String::new(), no_policy),
        ("{}".to_owned(), no_policy),
        ("\0".to_owned(), no_policy),
        // The JSON of a bundle, which earlier releases read.
        (bundle(), no_policy),
        (form.replace("\"}", "\",\"headers\":\"hold\"}"), no_policy),
        (form.replace("\"}", "\",\"bundle\":\"\"}"), no_policy),
        (format!("{form}}}"), no_policy),
        (format!("[{form}]"), no_policy),
        ("{\"bundle\":1}".to_owned(), no_policy),
        (
            "{\"bundle\":\"\"}".to_owned(),
            "bundle: is not a compiled policy",
        ),
        (
            encoded(bundle().as_bytes()),
            "bundle: is not a compiled policy",
        ),
        (encoded(form.as_bytes()), "bundle: is not a compiled policy"),
        (
            encoded(&of_another_release),
            "bundle: was compiled by another release",
        ),
        (
            encoded(&compiled[..compiled.len() - 1]),
            "bundle: is damaged (bytes are missing or changed)",
        ),
        (
            encoded(&for_host),
            "bundle: was compiled for a sandbox host, not for a filter",
        ),
        (form.replace("\"}", "\\n\"}"), not_base64),
        (form.replace("\"}", "====\"}"), not_base64),
    ] {
        check_configuration(&configuration, &[expected]);
    }
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
        let (root, _) =
            configure(bundle, key).unwrap_or_else(|faults| panic!("{bundle}: {faults:?}"));
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
        let (root, _) =
            configure(&bundle(), Some(variable)).unwrap_or_else(|faults| panic!("{faults:?}"));
        root.context_key().map(|key| key.name(&[b"x"]))
    };
    assert_eq!(mac(&format!("{CONTEXT_KEY}\n{second}\n")), mac(CONTEXT_KEY));
    assert_eq!(mac(&format!("\n{second}\n{CONTEXT_KEY}")), mac(&second));
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
    let broken = bundle().replace("0123456789abcdef", "a b");
    check(&broken, None, &["TENSORGATE_CONTEXT_KEY", "generation"]);
}

#[test]
fn no_cut_of_a_configuration_panics() {
    let written = configuration(bundle()).unwrap();
    for cut in 0..written.len() {
        assert!(
            GateRoot::configure(&written.as_bytes()[..cut], Some(CONTEXT_KEY)).is_err(),
            "cut at {cut}"
        );
    }
}
