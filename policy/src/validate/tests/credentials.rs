//! Issuers and their keys, proofs of clients, sources, what is revoked, TLS.

use super::*;

/// 2048 bits: RFC 7515, A.2.1.
const N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
const ED: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

/// The fixture with an issuer, TLS with client certificates, and a client proven in each way.
fn proven() -> Value {
    let mut document = document();
    document["listen"]["tls"] = json!({"cert": "c.pem", "key": "k.pem", "client_ca": "ca.pem"});
    document["issuers"] = json!({"corp": {
        "issuer": "https://login.example.com", "audiences": ["gate"], "algorithms": ["RS256", "ES256", "EdDSA"],
        "max_lifetime_s": 3600, "jwks": {"keys": [
            {"kty": "RSA", "kid": "r", "alg": "RS256", "use": "sig", "n": N, "e": "AQAB"},
            {"kty": "EC", "kid": "e", "crv": "P-256", "key_ops": ["verify"], "x": X, "y": Y},
            {"kty": "OKP", "kid": "o", "crv": "Ed25519", "x": ED, "x5t": "passed over"}
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

/// One change to it leaves it valid; some warning has this path and this text.
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
fn an_issuer_is_whole_and_bounded() {
    let at = |field: &str| format!("/issuers/corp/{field}");
    let path = |field: &str| format!("issuers.corp.{field}");
    let field =
        |field: &str, value: Value, text: &str| check(&at(field), value, &path(field), text);
    field("issuer", Value::Null, "is missing");
    field("issuer", json!(""), "is empty");
    field("issuer", json!("a\nb"), "control characters");
    field("audiences", json!([]), "lists nothing");
    field("algorithms", json!([]), "lists nothing");
    field("max_lifetime_s", Value::Null, "is missing");
    field("max_lifetime_s", json!(0), "too little");
    field("max_lifetime_s", json!(u64::MAX), "too much");
    field("clock_skew_s", json!(301), "too much");
    field("jwks", Value::Null, "is missing");
    let listed = |field: &str, value: Value, path: &str, text: &str| {
        check(&at(field), value, &format!("issuers.corp.{path}"), text);
    };
    listed(
        "audiences",
        json!(["a", "a"]),
        "audiences[1]",
        "listed twice",
    );
    listed(
        "algorithms",
        json!(["ES256", "ES256"]),
        "algorithms[1]",
        "listed twice",
    );
    listed(
        "algorithms",
        json!(["ES256", "none"]),
        "algorithms[1]",
        "signs nothing",
    );
    listed(
        "algorithms",
        json!(["HS256", "ES256"]),
        "algorithms[0]",
        "shared secret",
    );
    listed(
        "algorithms",
        json!(["PS256", "ES256"]),
        "algorithms[0]",
        "not supported yet",
    );
    listed(
        "algorithms",
        json!(["es256", "ES256"]),
        "algorithms[0]",
        "not an algorithm",
    );
    listed(
        "jwks",
        json!({"file": "a.json"}),
        "jwks.file",
        "has not been read",
    );
    listed("jwks", json!({"keys": []}), "jwks.keys", "lists nothing");
    warn(
        &at("max_lifetime_s"),
        json!(86_401),
        &path("max_lifetime_s"),
        "more than a day",
    );
    warn(
        &at("algorithms"),
        json!(["ES256", "EdDSA"]),
        "issuers.corp.jwks.keys[0]",
        "may not use",
    );
    check(
        "/issuers/corp/jwks/keys/0/kid",
        json!("e"),
        "issuers.corp.jwks.keys[1].kid",
        "the same name stands at",
    );
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
fn two_issuers_have_two_names() {
    let mut document = proven();
    let twin = document["issuers"]["corp"].clone();
    document["issuers"]["twin"] = twin;
    let errors = errors(document);
    assert!(
        matches!(errors.as_slice(), [error] if error.starts_with("issuers.twin.issuer: the same issuer stands at issuers.corp")),
        "{errors:#?}"
    );
}

#[test]
fn a_key_says_one_thing_is_strong_and_is_public() {
    let key = |key: Value, path: &str, text: &str| {
        check(
            "/issuers/corp/jwks/keys/0",
            key,
            &format!("issuers.corp.jwks.keys[0]{path}"),
            text,
        );
    };
    key(json!({"kty": "oct"}), ".kty", "shared secret");
    key(json!({"kty": "oct", "k": "AA"}), ".k", "is a secret");
    key(
        json!({"kty": "RSA", "n": N, "e": "AQAB", "d": "AA"}),
        ".d",
        "hold this key for stolen",
    );
    key(
        json!({"kty": "OKP", "crv": "Ed25519", "x": ED, "d": {}}),
        ".d",
        "is a secret",
    );
    key(json!({"kid": "x"}), ".kty", "is missing");
    key(
        json!({"kty": "RSA", "kid": "", "n": N, "e": "AQAB"}),
        ".kid",
        "empty or too long",
    );
    key(
        json!({"kty": "RSA", "n": &N[..168], "e": "AQAB"}),
        ".n",
        "of 1008 bits is weak",
    );
    key(
        json!({"kty": "RSA", "n": N.repeat(3), "e": "AQAB"}),
        ".n",
        "not supported",
    );
    key(
        json!({"kty": "RSA", "n": format!("AA{}", &N[2..]), "e": "AQAB"}),
        ".n",
        "zero byte",
    );
    key(
        json!({"kty": "RSA", "n": format!("{}A", &N[..341]), "e": "AQAB"}),
        ".n",
        "even number",
    );
    key(
        json!({"kty": "RSA", "n": format!("{N}=="), "e": "AQAB"}),
        ".n",
        "not base64url",
    );
    key(json!({"kty": "RSA", "n": N, "e": "Aw"}), ".e", "not 65537");
    key(json!({"kty": "RSA", "n": N}), ".e", "is missing");
    key(
        json!({"kty": "RSA", "crv": "P-256", "n": N, "e": "AQAB"}),
        ".crv",
        "no curve",
    );
    key(
        json!({"kty": "EC", "crv": "P-256", "x": X}),
        ".y",
        "is missing",
    );
    key(
        json!({"kty": "EC", "crv": "P-256", "x": X, "y": "AA"}),
        ".y",
        "1 bytes are no coordinate",
    );
    key(
        json!({"kty": "OKP", "crv": "Ed25519", "x": ED, "y": ED}),
        ".y",
        "has no y",
    );
    key(
        json!({"kty": "RSA", "alg": "ES256", "n": N, "e": "AQAB"}),
        ".alg",
        "of another kind of key",
    );
    key(
        json!({"kty": "RSA", "alg": "RS256", "use": "enc", "n": N, "e": "AQAB"}),
        ".alg",
        "for something else",
    );
    key(
        json!({"kty": "RSA", "alg": "RS256", "key_ops": ["encrypt"], "n": N, "e": "AQAB"}),
        ".alg",
        "for something else",
    );
    key(
        json!({"kty": "RSA", "use": "sig", "key_ops": ["encrypt"], "n": N, "e": "AQAB"}),
        ".key_ops",
        "contradicts use",
    );
    key(
        json!({"kty": "RSA", "use": "enc", "key_ops": ["verify"], "n": N, "e": "AQAB"}),
        ".key_ops",
        "contradicts use",
    );
}

#[test]
fn a_key_for_something_else_is_passed_over_and_told_of() {
    let over = |key: Value, text: &str| {
        warn(
            "/issuers/corp/jwks/keys/0",
            key,
            "issuers.corp.jwks.keys[0]",
            text,
        );
    };
    over(
        json!({"kty": "RSA", "use": "enc", "alg": "RSA-OAEP", "n": N, "e": "AQAB"}),
        "RSA-OAEP",
    );
    over(
        json!({"kty": "RSA", "alg": "PS256", "n": N, "e": "AQAB"}),
        "PS256",
    );
    over(
        json!({"kty": "RSA", "use": "enc", "n": N, "e": "AQAB"}),
        "not for verifying",
    );
    over(
        json!({"kty": "EC", "crv": "P-521", "x": X, "y": Y}),
        "P-521",
    );
    over(json!({"kty": "AKP"}), "AKP");
    check(
        "/issuers/corp/jwks/keys",
        json!([{"kty": "AKP"}]),
        "issuers.corp.jwks.keys",
        "no key is left",
    );
}

#[test]
fn no_proof_proves_two_clients() {
    let rule = "/clients/reader/jwt";
    let path = "clients.scorer.jwt";
    let same = "one token would prove this client and the one at clients.reader.jwt";
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
        "holds the claims of both",
    );
    check(
        "/clients/scorer/mtls",
        json!({"spiffe": "spiffe://prod/ns/a/sa/b"}),
        "clients.scorer.mtls",
        "one certificate would prove this client and the one at clients.reader.mtls",
    );
    check(
        "/clients/stranger/mtls",
        json!({"spiffe": "spiffe://prod/ns/a/sa/b"}),
        "clients.stranger.mtls",
        "one certificate",
    );
    check(
        "/clients/scorer/metadata",
        json!({"filter": "envoy.filters.http.jwt_authn", "claim": "payload.sub", "value": "stranger"}),
        "clients.stranger.metadata",
        "proves this client and the one at clients.scorer.metadata",
    );
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
        "no issuer is named \"corq\" (corp)",
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
        "field of its own",
    );
    jwt(
        json!({"issuer": "corp", "claims": {"aud": "a"}}),
        ".claims.aud",
        "checked for every token",
    );
    jwt(
        json!({"issuer": "corp", "claims": {"groups": []}}),
        ".claims.groups",
        "lists nothing",
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
        mtls(json!({"spiffe": id}), ".spiffe", "is not a workload's id");
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
        "no way to a claim",
    );
    metadata(
        json!({"filter": "f", "claim": "a", "value": ""}),
        ".value",
        "is empty",
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
    bad("10.0.0.1/8", "has bits behind its prefix (10.0.0.0/8)");
    bad(
        "2001:db8::1/32",
        "has bits behind its prefix (2001:db8::/32)",
    );
    bad("::ffff:10.0.0.0/90", "reaches past the IPv4 addresses");
    check(
        "/clients/stranger/sources",
        json!([]),
        "clients.stranger.sources",
        "lists nothing",
    );
    warn(
        "/clients/stranger/sources",
        json!(["0.0.0.0/0"]),
        "clients.stranger.sources[0]",
        "is everywhere",
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
fn what_is_revoked_is_read_before_it_is_judged() {
    check(
        "/revoked",
        json!({"jti_file": "a"}),
        "revoked.jti_file",
        "has not been read",
    );
    check(
        "/revoked",
        json!({"keys_file": "a"}),
        "revoked.keys_file",
        "has not been read",
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
        "has not been read",
    );
}

#[test]
fn tls_names_its_files_and_asks_before_it_revokes() {
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
        "nobody asks for",
    );
    check(
        "/clients/reader/mtls",
        json!({"spiffe": "x"}),
        "clients.reader.mtls.spiffe",
        "workload's id",
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
            .all(|error| error.contains("nobody asks for a certificate")),
        "{errors:#?}"
    );
    check(
        "/listen/trusted_hops",
        json!(17),
        "listen.trusted_hops",
        "too much",
    );
}

#[test]
fn a_private_key_is_not_written_out_again() {
    let jwk: crate::raw::Jwk =
        serde_json::from_value(json!({"kty": "RSA", "d": "secret", "k": "secret"})).unwrap();
    let text = serde_json::to_string(&jwk).unwrap();
    assert_eq!(text, r#"{"kty":"RSA"}"#);
    assert!(!format!("{jwk:?}").contains("secret"));
}
