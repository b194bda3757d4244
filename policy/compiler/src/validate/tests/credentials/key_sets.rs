//! Settings of an issuer's keys: the source of the keys, the refresh times, and the trust in the
//! URL.

use super::*;

const URL: &str = "https://login.example.com/keys";

/// One change to the issuer's `jwks` gives exactly one error.
fn fault(jwks: Value, path: &str, text: &str) {
    check(
        "/issuers/corp/jwks",
        jwks,
        &format!("issuers.corp.jwks{path}"),
        text,
    );
}

/// The same gives a warning.
fn doubt(jwks: Value, path: &str, text: &str) {
    warn(
        "/issuers/corp/jwks",
        jwks,
        &format!("issuers.corp.jwks{path}"),
        text,
    );
}

#[test]
fn keys_are_a_file_or_a_url_or_themselves() {
    let key = json!({"kty": "OKP", "kid": "o", "crv": "Ed25519", "x": ED});
    fault(
        json!({"url": URL, "file": "a.json"}),
        ".url",
        "cannot stand beside file or keys",
    );
    fault(
        json!({"url": URL, "keys": [key]}),
        ".url",
        "cannot stand beside file or keys",
    );
    fault(json!({}), ".keys", "is empty");
    let many: Vec<Value> = (0..65)
        .map(|at| {
            let mut key = key.clone();
            put(&mut key, "/kid", json!(format!("k{at}")));
            key
        })
        .collect();
    fault(json!({"keys": many}), ".keys", "65 keys are too many");
    // Settings of a URL are rejected for other sources.
    for (name, value) in [
        ("ca", json!("ca.pem")),
        ("refresh_s", json!(300)),
        ("stale_s", json!(3600)),
    ] {
        let jwks = json!({"keys": [key], name: value});
        let mut document = proven();
        put(&mut document, "/issuers/corp/jwks", jwks);
        let told = errors(document);
        let expected = format!("issuers.corp.jwks.{name}: has no effect without a url");
        assert!(
            matches!(told.as_slice(), [one] if one.starts_with(&expected)),
            "{told:#?}"
        );
    }
}

#[test]
fn a_fetched_set_is_fetched_often_enough_and_counts_no_longer_than_it_should() {
    let set = |name: &str, value: Value| json!({"url": URL, name: value});
    fault(
        set("refresh_s", json!(0)),
        ".refresh_s",
        "below the minimum",
    );
    fault(
        set("refresh_s", json!(86_401)),
        ".refresh_s",
        "above the maximum",
    );
    fault(
        set("stale_s", json!(0)),
        ".stale_s",
        "not more than refresh_s",
    );
    fault(
        set("stale_s", json!(604_801)),
        ".stale_s",
        "above the maximum",
    );
    for (refresh_s, stale_s) in [(300, 300), (300, 299), (7200, 3600)] {
        fault(
            json!({"url": URL, "refresh_s": refresh_s, "stale_s": stale_s}),
            ".stale_s",
            &format!("before they are fetched again (at least {})", refresh_s + 1),
        );
    }
    doubt(set("stale_s", json!(86_401)), ".stale_s", "more than a day");
    // A slow refresh raises its own maximum age.
    let mut document = proven();
    put(
        &mut document,
        "/issuers/corp/jwks",
        set("refresh_s", json!(40_000)),
    );
    assert!(errors(document).is_empty());
}

#[test]
fn the_server_of_a_fetched_key_set_must_be_verifiable() {
    let loopback = "http://127.0.0.1:9/keys";
    doubt(json!({"url": loopback}), ".url", "on this machine");
    fault(
        json!({"url": loopback, "ca": "ca.pem"}),
        ".ca",
        "no certificate to verify",
    );
    fault(json!({"url": URL, "ca": ""}), ".ca", "is empty");
    fault(
        json!({"url": URL, "ca": "a\u{0}b"}),
        ".ca",
        "is not a file name",
    );
    let mut document = proven();
    put(
        &mut document,
        "/issuers/corp/algorithms",
        json!(["RS256", "PS256"]),
    );
    put(&mut document, "/issuers/corp/jwks", json!({"url": URL}));
    let told = warnings(document);
    assert!(
        told.iter()
            .any(|it| it
                .starts_with("issuers.corp.jwks.url: RSA keys without `alg` will not be used")),
        "{told:#?}"
    );
}

#[test]
fn the_number_of_fetched_key_sets_is_bounded() {
    let with = |count: usize| {
        let mut document = proven();
        let issuer = document["issuers"]["corp"].clone();
        // In the order of their names; the first is already there.
        put(&mut document, "/issuers/corp/jwks", json!({"url": URL}));
        for number in 1..count {
            let mut next = issuer.clone();
            put(
                &mut next,
                "/issuer",
                json!(format!("https://{number}.example")),
            );
            put(&mut next, "/jwks", json!({"url": URL}));
            document["issuers"][format!("d{number:02}")] = next;
        }
        errors(document)
    };
    assert!(with(16).is_empty());
    let told = with(17);
    assert!(
        matches!(told.as_slice(), [one] if one.starts_with("issuers.d16.jwks.url: too many issuers have a key set by URL")),
        "{told:#?}"
    );
}
