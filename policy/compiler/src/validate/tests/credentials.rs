//! Issuers and their keys, credentials of clients, sources, revocation, TLS.

use super::*;

mod callers;
mod issuers;
mod key_sets;
mod places;

/// 2048 bits: RFC 7515, A.2.1.
const N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
const ED: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

/// The fixture with an issuer, TLS with client certificates, and a client with each kind of
/// credential.
fn proven() -> Value {
    let mut document = document();
    document["listen"]["tls"] = json!({"cert": "c.pem", "key": "k.pem", "client_ca": "ca.pem"});
    document["lockout"] = json!({});
    document["issuers"] = json!({"corp": {
        "issuer": "https://login.example.com", "audiences": ["gate"], "algorithms": ["RS256", "ES256", "EdDSA"],
        "max_lifetime_s": 3600, "jwks": {"keys": [
            {"kty": "RSA", "kid": "r", "alg": "RS256", "use": "sig", "n": N, "e": "AQAB"},
            {"kty": "EC", "kid": "e", "crv": "P-256", "key_ops": ["verify"], "x": X, "y": Y},
            {"kty": "OKP", "kid": "o", "crv": "Ed25519", "x": ED, "x5t": "the key is not used"}
        ]}
    }});
    document["clients"]["scorer"]["jwt"] =
        json!({"issuer": "corp", "subject": "svc", "claims": {"groups": ["ds"]}});
    document["clients"]["reader"]["mtls"] = json!({"spiffe": "spiffe://prod/ns/a/sa/b"});
    document["clients"]["stranger"]["mtls"] = json!({"dns": "stranger.example.com"});
    document["clients"]["stranger"]["metadata"] =
        json!({"filter": "envoy.filters.http.jwt_authn", "claim": "payload.sub"});
    document["clients"]["stranger"]["sources"] =
        json!(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]);
    document
}

/// One change to that document gives exactly one error.
fn check(at: &str, value: Value, path: &str, text: &str) {
    let mut document = proven();
    put(&mut document, at, value.clone());
    let errors = errors(document);
    let [error] = errors.as_slice() else {
        panic!("{at} = {value}: {errors:#?}")
    };
    assert!(
        error.starts_with(&format!("{path}: ")),
        "{at} = {value}: {error}"
    );
    assert!(error.contains(text), "{at} = {value}: {error}");
}

/// One change to that document leaves it valid; a warning has this path and this text.
fn warn(at: &str, value: Value, path: &str, text: &str) {
    let mut document = proven();
    put(&mut document, at, value.clone());
    let warnings = warnings(document);
    let found = warnings
        .iter()
        .any(|warning| warning.starts_with(&format!("{path}: ")) && warning.contains(text));
    assert!(found, "{at} = {value}: {warnings:#?}");
}

fn accept(at: &str, value: Value) {
    let mut document = proven();
    put(&mut document, at, value.clone());
    assert_eq!(errors(document), Vec::<String>::new(), "{at} = {value}");
}

#[test]
fn a_client_may_be_proven_in_every_way() {
    assert_eq!(warnings(proven()), Vec::<String>::new());
    let policy = policy(proven());
    let issuer = &policy.issuers()[0];
    assert_eq!((issuer.keys().len(), issuer.clock_skew_s()), (3, 30));
    assert!(policy.listen().asks_for_certificates());
}

#[test]
fn tokens_without_tls_are_warned_of() {
    let mut document = proven();
    put(&mut document, "/listen/tls", Value::Null);
    put(&mut document, "/clients/reader/mtls", Value::Null);
    put(&mut document, "/clients/stranger/mtls", Value::Null);
    assert!(
        warnings(document)
            .iter()
            .any(|warning| warning.starts_with("listen.tls: "))
    );
}

#[test]
fn no_proof_proves_two_clients() {
    let rule = "/clients/reader/jwt";
    let path = "clients.scorer.jwt";
    let same = "a token could match both this client and clients.reader.jwt";
    check(
        rule,
        json!({"issuer": "corp", "subject": "svc"}),
        path,
        same,
    );
    check(
        rule,
        json!({"issuer": "corp", "claims": {"groups": "ds"}}),
        path,
        same,
    );
    check(
        rule,
        json!({"issuer": "corp", "subject": "svc", "claims": {"groups": ["x", "ds"]}}),
        path,
        same,
    );
    accept(
        rule,
        json!({"issuer": "corp", "subject": "other", "claims": {"groups": ["ds"]}}),
    );
    warn(
        rule,
        json!({"issuer": "corp", "claims": {"groups": "x"}}),
        path,
        "with the claims of both",
    );
    check(
        "/clients/scorer/mtls",
        json!({"spiffe": "spiffe://prod/ns/a/sa/b"}),
        "clients.scorer.mtls",
        "a certificate could match both this client and clients.reader.mtls",
    );
    check(
        "/clients/stranger/mtls",
        json!({"spiffe": "spiffe://prod/ns/a/sa/b"}),
        "clients.stranger.mtls",
        "a certificate could match",
    );
    check(
        "/clients/scorer/metadata",
        json!({"filter": "envoy.filters.http.jwt_authn", "claim": "payload.sub", "value": "stranger"}),
        "clients.stranger.metadata",
        "matches both this client and clients.scorer.metadata",
    );
    // A subject that any issuer may assert can be asserted by one issuer.
    check(
        "/clients/scorer/metadata",
        json!({"filter": "envoy.filters.http.jwt_authn", "claim": "payload.sub", "value": "stranger", "issuer": "https://a.example"}),
        "clients.stranger.metadata",
        "matches both this client and clients.scorer.metadata",
    );
    check(
        "/clients/stranger/metadata/issuer",
        json!(""),
        "clients.stranger.metadata.issuer",
        "",
    );
    let mut two_issuers = proven();
    let rule = |issuer: &str| json!({"filter": "f", "claim": "payload.sub", "value": "v", "issuer": issuer});
    two_issuers["clients"]["scorer"]["metadata"] = rule("https://a.example");
    two_issuers["clients"]["reader"]["metadata"] = rule("https://b.example");
    assert_eq!(errors(two_issuers), [""; 0]);
    accept(
        "/clients/scorer/metadata",
        json!({"filter": "envoy.filters.http.jwt_authn", "claim": "payload.sub"}),
    );
}

#[test]
fn a_proof_names_what_is_there() {
    let jwt = |value: Value, path: &str, text: &str| {
        check(
            "/clients/scorer/jwt",
            value,
            &format!("clients.scorer.jwt{path}"),
            text,
        );
    };
    jwt(
        json!({"issuer": "corq", "subject": "a"}),
        ".issuer",
        "there is no issuer \"corq\" (corp)",
    );
    jwt(json!({"subject": "a"}), ".issuer", "is missing");
    jwt(json!({"issuer": "corp"}), "", "every token of the issuer");
    jwt(
        json!({"issuer": "corp", "subject": ""}),
        ".subject",
        "is empty",
    );
    jwt(
        json!({"issuer": "corp", "claims": {"sub": "a"}}),
        ".claims.sub",
        "has its own key, subject",
    );
    jwt(
        json!({"issuer": "corp", "claims": {"aud": "a"}}),
        ".claims.aud",
        "check it for every token",
    );
    jwt(
        json!({"issuer": "corp", "claims": {"groups": []}}),
        ".claims.groups",
        "is empty",
    );
    jwt(
        json!({"issuer": "corp", "claims": {"groups": ["a", "a"]}}),
        ".claims.groups[1]",
        "listed twice",
    );
    let mtls = |value: Value, path: &str, text: &str| {
        check(
            "/clients/reader/mtls",
            value,
            &format!("clients.reader.mtls{path}"),
            text,
        );
    };
    mtls(json!({}), "", "exactly one");
    mtls(
        json!({"spiffe": "spiffe://a/b", "dns": "a"}),
        "",
        "exactly one",
    );
    for id in [
        "https://a/b",
        "spiffe://a",
        "spiffe://a/",
        "spiffe:///a",
        "spiffe://A/b",
        "spiffe://a/b/",
        "spiffe://a/../b",
        "spiffe://a/b;c",
        "spiffe://a/b?c",
        "spiffe://a:1/b",
    ] {
        mtls(json!({"spiffe": id}), ".spiffe", "is not a SPIFFE ID");
    }
    for name in [
        "",
        "*.example.com",
        "A.example.com",
        "a..b",
        "-a.b",
        "a b",
        "a,b",
        "a.example.com.",
    ] {
        mtls(json!({"dns": name}), ".dns", "is not a host name");
    }
    let metadata = |value: Value, path: &str, text: &str| {
        check(
            "/clients/stranger/metadata",
            value,
            &format!("clients.stranger.metadata{path}"),
            text,
        );
    };
    metadata(json!({"claim": "sub"}), ".filter", "is missing");
    metadata(json!({"filter": "f"}), ".claim", "is missing");
    metadata(
        json!({"filter": "f", "claim": "a..b"}),
        ".claim",
        "not the path of a claim",
    );
    metadata(
        json!({"filter": "f", "claim": "a", "value": ""}),
        ".value",
        "is empty",
    );
}

#[test]
fn places_in_metadata_are_few_and_may_be_shared() {
    // The document has one; these are for others. Two clients share each.
    let with_places = |places: usize| {
        let mut document = proven();
        for place in 0..places {
            for client in ["a", "b"] {
                document["clients"][format!("{client}{place:02}")] =
                    json!({"metadata": {"filter": "f", "claim": format!("c{place}")}});
            }
        }
        errors(document)
    };
    assert_eq!(with_places(15), Vec::<String>::new());
    let errors = with_places(16);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(
        errors[0].contains("17 pairs of filter and claim are too many"),
        "{errors:#?}"
    );
}

#[test]
fn sources_are_networks_as_they_are_written() {
    let bad = |source: &str, text: &str| {
        check(
            "/clients/stranger/sources",
            json!([source]),
            "clients.stranger.sources[0]",
            text,
        );
    };
    for source in [
        "",
        "localhost",
        "10.0.0.0/33",
        "10.0.0/8",
        "10.0.0.0/",
        "10.0.0.0/08",
        "10.0.0.0/+8",
        "::/129",
        "10.0.0.0-10.0.0.9",
        "10.0.0.0/8/8",
    ] {
        bad(source, "is not a network");
    }
    bad(
        "10.0.0.1/8",
        "has address bits beyond its prefix (10.0.0.0/8)",
    );
    bad(
        "2001:db8::1/32",
        "has address bits beyond its prefix (2001:db8::/32)",
    );
    bad("::ffff:10.0.0.0/90", "wider than the IPv4-mapped addresses");
    check(
        "/clients/stranger/sources",
        json!([]),
        "clients.stranger.sources",
        "is empty",
    );
    warn(
        "/clients/stranger/sources",
        json!(["0.0.0.0/0"]),
        "clients.stranger.sources[0]",
        "allows any source",
    );
    let mut document = proven();
    document["clients"]["stranger"]["sources"] = json!(["::ffff:10.0.0.0/104", "::1"]);
    let policy = policy(document);
    let sources = policy
        .client(policy.client_id("stranger").unwrap())
        .unwrap()
        .sources();
    let holds = |address: &str| {
        sources
            .iter()
            .any(|network| network.contains(address.parse().unwrap()))
    };
    for (address, expected) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("11.0.0.0", false),
        ("::1", true),
        ("::2", false),
    ] {
        assert_eq!(holds(address), expected, "{address}");
    }
}

#[test]
fn revocation_lists_must_be_loaded_and_valid() {
    check(
        "/revoked",
        json!({"jti_file": "a"}),
        "revoked.jti_file",
        "the file was not read",
    );
    check(
        "/revoked",
        json!({"keys_file": "a"}),
        "revoked.keys_file",
        "the file was not read",
    );
    check(
        "/revoked",
        json!({"keys": ["tg_abc"]}),
        "revoked.keys[0]",
        "is not a sha256 digest",
    );
    check(
        "/revoked",
        json!({"jti": [""]}),
        "revoked.jti[0]",
        "is empty",
    );
    accept("/revoked", json!({"jti": ["a", "a"], "keys": [digest(1)]}));
    check(
        "/clients/reader/api_keys_file",
        json!("a"),
        "clients.reader.api_keys_file",
        "the file was not read",
    );
}

#[test]
fn tls_needs_its_files_and_revocation_needs_client_certificates() {
    let tls = |value: Value, path: &str, text: &str| {
        let mut document = document();
        put(&mut document, "/listen/tls", value);
        let errors = errors(document);
        assert!(
            errors
                .iter()
                .any(|error| error.starts_with(&format!("listen.tls.{path}: "))
                    && error.contains(text)),
            "{errors:#?}"
        );
    };
    tls(json!({"key": "k"}), "cert", "is missing");
    tls(json!({"cert": "c"}), "key", "is missing");
    tls(json!({"cert": "", "key": "k"}), "cert", "is empty");
    tls(
        json!({"cert": "c", "key": "k", "client_crl": "r"}),
        "client_crl",
        "are not requested",
    );
    check(
        "/clients/reader/mtls",
        json!({"spiffe": "x"}),
        "clients.reader.mtls.spiffe",
        "is not a SPIFFE ID",
    );
    let mut document = proven();
    put(
        &mut document,
        "/listen/tls",
        json!({"cert": "c", "key": "k"}),
    );
    let errors = errors(document);
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(
        errors
            .iter()
            .all(|error| error.contains("has no effect: client certificates are not requested")),
        "{errors:#?}"
    );
    check(
        "/listen/trusted_hops",
        json!(17),
        "listen.trusted_hops",
        "above the maximum",
    );
}
