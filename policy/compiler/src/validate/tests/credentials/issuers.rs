//! Token issuers, and the keys that they publish.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

#[test]
fn an_issuer_is_whole_and_bounded() {
    let at = |field: &str| format!("/issuers/corp/{field}");
    let path = |field: &str| format!("issuers.corp.{field}");
    let field =
        |field: &str, value: Value, text: &str| check(&at(field), value, &path(field), text);
    field("issuer", Value::Null, "is missing");
    field("issuer", json!(""), "is empty");
    field("issuer", json!("a\nb"), "control characters");
    field("audiences", json!([]), "is empty");
    field("algorithms", json!([]), "is empty");
    field("max_lifetime_s", Value::Null, "is missing");
    field("max_lifetime_s", json!(0), "below the minimum");
    field("max_lifetime_s", json!(u64::MAX), "above the maximum");
    field("clock_skew_s", json!(301), "above the maximum");
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
        "such tokens have no signature",
    );
    listed(
        "algorithms",
        json!(["HS256", "ES256"]),
        "algorithms[0]",
        "shared secret",
    );
    listed(
        "algorithms",
        json!(["ES256K", "ES256"]),
        "algorithms[0]",
        "not supported",
    );
    listed(
        "algorithms",
        json!(["es256", "ES256"]),
        "algorithms[0]",
        "not a signature algorithm",
    );
    listed(
        "jwks",
        json!({"file": "a.json"}),
        "jwks.file",
        "the file was not read",
    );
    listed("jwks", json!({"keys": []}), "jwks.keys", "is empty");
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
        "not among the issuer's algorithms",
    );
    check(
        "/issuers/corp/jwks/keys/0/kid",
        json!("e"),
        "issuers.corp.jwks.keys[1].kid",
        "is also the name of",
    );
}

#[test]
fn two_issuers_have_two_names() {
    let mut document = proven();
    let twin = document["issuers"]["corp"].clone();
    document["issuers"]["twin"] = twin;
    fault_of(
        document,
        "issuers.twin.issuer: is the same issuer as issuers.corp",
    );
}

#[test]
fn issuer_keys_are_unambiguous_strong_and_public() {
    let key = |key: Value, path: &str, text: &str| {
        check(
            "/issuers/corp/jwks/keys/0",
            key,
            &format!("issuers.corp.jwks.keys[0]{path}"),
            text,
        );
    };
    key(json!({"kty": "oct"}), ".kty", "shared secret");
    key(
        json!({"kty": "oct", "k": "AA"}),
        ".k",
        "is private key material",
    );
    key(
        json!({"kty": "RSA", "n": N, "e": "AQAB", "d": "AA"}),
        ".d",
        "treat this key as stolen",
    );
    key(
        json!({"kty": "OKP", "crv": "Ed25519", "x": ED, "d": {}}),
        ".d",
        "is private key material",
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
        json!({"kty": "RSA", "n": format!("AAAA{}", &N[4..]), "e": "AQAB"}),
        ".n",
        "zero byte",
    );
    key(
        json!({"kty": "RSA", "n": format!("{}A", &N[..341]), "e": "AQAB"}),
        ".n",
        "is even",
    );
    key(
        json!({"kty": "RSA", "n": format!("{N}*"), "e": "AQAB"}),
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
        "has 1 bytes, which is not a coordinate",
    );
    key(
        json!({"kty": "OKP", "crv": "Ed25519", "x": ED, "y": ED}),
        ".y",
        "has no y",
    );
    key(
        json!({"kty": "RSA", "alg": "ES256", "n": N, "e": "AQAB"}),
        ".alg",
        "does not fit this type of key",
    );
    key(
        json!({"kty": "RSA", "alg": "RS256", "use": "enc", "n": N, "e": "AQAB"}),
        ".alg",
        "name another purpose",
    );
    key(
        json!({"kty": "RSA", "alg": "RS256", "key_ops": ["encrypt"], "n": N, "e": "AQAB"}),
        ".alg",
        "name another purpose",
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
fn one_leading_zero_byte_of_a_number_is_left_out() {
    let modulus = |n: String, e: &str| {
        let mut document = proven();
        let key = json!({"kty": "RSA", "kid": "r", "alg": "RS256", "n": n, "e": e});
        put(&mut document, "/issuers/corp/jwks/keys/0", key);
        let policy = policy(document);
        policy.issuers()[0].keys()[0].material().clone()
    };
    let shift = |text: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
        URL_SAFE_NO_PAD.encode([[0].as_slice(), &bytes].concat())
    };
    let plain = modulus(N.into(), "AQAB");
    assert_eq!(modulus(shift(N), "AQAB"), plain);
    assert_eq!(modulus(shift(N), &shift("AQAB")), plain);
    // An Ed25519 key is no number (RFC 8037, 2).
    check(
        "/issuers/corp/jwks/keys/2/x",
        json!(shift(ED)),
        "issuers.corp.jwks.keys[2].x",
        "has 33 bytes",
    );
}

#[test]
fn the_leading_zeros_of_a_coordinate_may_be_more_or_fewer() {
    let material = |x: &[u8]| {
        let mut document = proven();
        let x = json!(URL_SAFE_NO_PAD.encode(x));
        put(&mut document, "/issuers/corp/jwks/keys/1/x", x);
        let policy = policy(document);
        policy.issuers()[0].keys()[1].material().clone()
    };
    let x = URL_SAFE_NO_PAD.decode(X).unwrap();
    let behind = |first: &[u8], rest: &[u8]| [first, rest].concat();
    assert_eq!(material(&behind(&[0], &x)), material(&x));
    for count in [1, 2] {
        let padded = behind(&[0, 0][..count], &x[count..]);
        assert_eq!(material(&x[count..]), material(&padded));
    }
    for (wrong, bytes) in [
        (x[3..].to_vec(), 29),
        (behind(&[0, 0], &x), 34),
        (behind(&[1], &x), 33),
    ] {
        check(
            "/issuers/corp/jwks/keys/1/x",
            json!(URL_SAFE_NO_PAD.encode(wrong)),
            "issuers.corp.jwks.keys[1].x",
            &format!("has {bytes} bytes"),
        );
    }
}

#[test]
fn padding_and_other_spellings_change_no_key() {
    let material = |key: Value| {
        let mut document = proven();
        put(&mut document, "/issuers/corp/jwks/keys/0", key);
        let policy = policy(document);
        policy.issuers()[0].keys()[0].material().clone()
    };
    let plain = json!({"kty": "RSA", "kid": "r", "alg": "RS256", "n": N, "e": "AQAB"});
    for (member, value) in [
        ("n", json!(format!("{N}=="))),
        ("key_ops", json!([])),
        ("use", json!("jwt-svid")),
        ("oth", json!([])),
        ("d", json!(null)),
    ] {
        let mut key = plain.clone();
        key[member] = value;
        assert_eq!(material(key), material(plain.clone()), "{member}");
    }
}

/// The fixture whose issuer is a SPIFFE trust domain.
fn spiffe() -> Value {
    let mut document = proven();
    let key = json!({"kty": "EC", "kid": "e", "crv": "P-256", "use": "jwt-svid", "x": X, "y": Y});
    for (at, value) in [
        ("/issuers/corp/issuer", Value::Null),
        ("/issuers/corp/trust_domain", json!("prod.example")),
        ("/issuers/corp/algorithms", json!(["ES256"])),
        ("/issuers/corp/jwks/keys", json!([key])),
        (
            "/clients/scorer/jwt/subject",
            json!("spiffe://prod.example/ns/a"),
        ),
    ] {
        put(&mut document, at, value);
    }
    document
}

#[test]
fn a_trust_domain_is_an_issuer_with_or_without_a_name() {
    assert_eq!(warnings(spiffe()), Vec::<String>::new());
    let named = |name: Value| {
        let mut document = spiffe();
        put(&mut document, "/issuers/corp/issuer", name);
        let policy = policy(document);
        let issuer = &policy.issuers()[0];
        assert_eq!(issuer.trust_domain(), Some("prod.example"));
        issuer.issuer().map(String::from)
    };
    assert_eq!(named(Value::Null), None);
    let name = "https://a.example";
    assert_eq!(named(json!(name)).as_deref(), Some(name));
    let fault = |at: &str, value: Value, path: &str, text: &str| {
        let mut document = spiffe();
        put(&mut document, at, value);
        let errors = errors(document);
        let [error] = errors.as_slice() else {
            panic!("{path}: {errors:#?}")
        };
        assert!(error.starts_with(&format!("{path}: ")), "{error}");
        assert!(error.contains(text), "{error}");
    };
    let subject = "clients.scorer.jwt.subject";
    for other in [
        "svc",
        "spiffe://prod.example",
        "spiffe://other.example/ns/a",
        "spiffe://prod.example/ns/../a",
    ] {
        fault(
            "/clients/scorer/jwt/subject",
            json!(other),
            subject,
            "is not a SPIFFE ID of the issuer's trust domain",
        );
    }
    fault(
        "/issuers/corp/audiences_claim",
        json!("azp"),
        "issuers.corp.audiences_claim",
        "has its audience in `aud`",
    );
    // EdDSA is no algorithm of JWT-SVIDs.
    fault(
        "/issuers/corp/algorithms",
        json!(["ES256", "EdDSA"]),
        "issuers.corp.algorithms[1]",
        "never signed with EdDSA",
    );
    for domain in ["", "Prod.example", "spiffe://prod.example", "a/b", "a:1"] {
        let mut document = spiffe();
        put(&mut document, "/issuers/corp/trust_domain", json!(domain));
        let path = "issuers.corp.trust_domain: ";
        let errors = errors(document);
        assert!(
            errors.iter().any(|error| error.starts_with(path)),
            "{domain}: {errors:#?}"
        );
    }
    let mut twins = spiffe();
    twins["issuers"]["twin"] = twins["issuers"]["corp"].clone();
    fault_of(
        twins,
        "issuers.twin.trust_domain: is the same trust domain as issuers.corp",
    );
}

/// A document with this fault alone.
fn fault_of(document: Value, text: &str) {
    let errors = errors(document);
    assert!(
        matches!(errors.as_slice(), [error] if error.starts_with(text)),
        "{errors:#?}"
    );
}

#[test]
fn the_claim_of_an_audience_is_the_issuers_own() {
    let at = "/issuers/corp/audiences_claim";
    let path = "issuers.corp.audiences_claim";
    for name in ["client_id", "azp", "https://example.com/audience"] {
        accept(at, json!(name));
    }
    check(at, json!(""), path, "is empty");
    check(at, json!("aud"), path, "always judged");
    for name in ["iss", "sub", "exp", "scope"] {
        check(at, json!(name), path, "does not name an audience");
    }
}

#[test]
fn a_key_for_another_purpose_is_skipped_with_a_warning() {
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
        "do not allow verifying",
    );
    over(
        json!({"kty": "RSA", "use": "x509-svid", "n": N, "e": "AQAB"}),
        "do not allow verifying",
    );
    over(
        json!({"kty": "EC", "crv": "secp256k1", "x": X, "y": Y}),
        "secp256k1",
    );
    over(
        json!({"kty": "EC", "crv": "P-521", "x": X, "y": Y}),
        "ES512, which is not among the issuer's algorithms",
    );
    over(json!({"kty": "AKP"}), "AKP");
    check(
        "/issuers/corp/jwks/keys",
        json!([{"kty": "AKP"}]),
        "issuers.corp.jwks.keys",
        "no key of the set can verify",
    );
}

#[test]
fn a_private_key_is_not_repeated_in_errors() {
    let jwk: tensorgate_policy::values::Jwk =
        serde_json::from_value(json!({"kty": "RSA", "d": "secret", "k": "secret"})).unwrap();
    let text = serde_json::to_string(&jwk).unwrap();
    assert_eq!(text, r#"{"kty":"RSA"}"#);
    assert!(!format!("{jwk:?}").contains("secret"));
}

#[test]
fn an_rsa_key_signs_in_one_way() {
    let document = |algorithms: Value, key: Value| {
        let mut document = proven();
        put(&mut document, "/issuers/corp/algorithms", algorithms);
        put(&mut document, "/issuers/corp/jwks/keys", json!([key]));
        document
    };
    let rsa = |alg: Option<&str>| {
        let mut key = json!({"kty": "RSA", "n": N, "e": "AQAB"});
        if let Some(alg) = alg {
            put(&mut key, "/alg", json!(alg));
        }
        key
    };
    for (algorithms, alg, expected) in [
        (json!(["RS256"]), None, "RS256"),
        (json!(["PS384", "ES256"]), None, "PS384"),
        (json!(["PS384", "RS256"]), Some("RS256"), "RS256"),
        (json!(["RS512", "PS512"]), Some("PS512"), "PS512"),
    ] {
        let policy = policy(document(algorithms, rsa(alg)));
        let key = &policy.issuers()[0].keys()[0];
        assert_eq!(key.material().algorithm().name(), expected);
    }
    let told = errors(document(json!(["RS256", "PS256"]), rsa(None)));
    assert!(
        told.iter()
            .any(|fault| fault.contains("keys[0].alg: is missing")),
        "{told:?}"
    );
}

#[test]
fn required_claims_and_token_sizes_are_bounded() {
    let at = "/issuers/corp/required_claims";
    let claims = "issuers.corp.required_claims";
    accept(at, json!({"tier": "gold", "groups": ["a", "b"]}));
    check(at, json!({"sub": "a"}), &format!("{claims}.sub"), "subject");
    check(
        at,
        json!({"exp": "1"}),
        &format!("{claims}.exp"),
        "check it for every",
    );
    check(
        at,
        json!({"tier": []}),
        &format!("{claims}.tier"),
        "is empty",
    );
    let many: serde_json::Map<_, _> = (0..33).map(|at| (at.to_string(), json!("a"))).collect();
    check(at, json!(many), claims, "too many");
    let at = "/issuers/corp/scopes";
    accept(at, json!({"infer": "ml.infer", "ready": "a:b/c#d"}));
    check(at, json!({}), "issuers.corp.scopes", "is empty");
    for odd in ["", "a b", "a\tb", "a\"b", "a\\b", "é"] {
        check(
            at,
            json!({"infer": odd}),
            "issuers.corp.scopes.infer",
            "is not a single scope",
        );
    }
    let at = "/clients/scorer/jwt";
    accept(at, json!({"issuer": "corp", "scopes": ["ml.infer"]}));
    check(
        at,
        json!({"issuer": "corp", "scopes": []}),
        "clients.scorer.jwt",
        "every token of the issuer",
    );
    check(
        at,
        json!({"issuer": "corp", "scopes": ["a", "a"]}),
        "clients.scorer.jwt.scopes[1]",
        "listed twice",
    );
    check(
        at,
        json!({"issuer": "corp", "scopes": ["a b"]}),
        "clients.scorer.jwt.scopes[0]",
        "is not a single scope",
    );
    // A stricter rule matches only where the other one does.
    let mut document = proven();
    let rule = |scopes: Value| json!({"issuer": "corp", "subject": "svc", "scopes": scopes});
    put(&mut document, "/clients/scorer/jwt", rule(json!(["a"])));
    put(
        &mut document,
        "/clients/reader/jwt",
        rule(json!(["a", "b"])),
    );
    let told = errors(document);
    assert!(
        told.iter()
            .any(|fault| fault.contains("a token could match both this client")),
        "{told:?}"
    );
}

#[test]
fn a_required_credential_must_be_available_to_some_client() {
    let path = "models.digits.requires";
    let at = format!("/{}", path.replace('.', "/"));
    let at = at.as_str();
    check(at, json!({}), path, "exactly one of any_of and all_of");
    check(
        at,
        json!({"any_of": ["jwt"], "all_of": ["mtls"]}),
        path,
        "exactly one",
    );
    let any = format!("{path}.any_of");
    check(
        at,
        json!({"any_of": ["jwt", "jwt"]}),
        &format!("{any}[1]"),
        "listed twice",
    );
    check(
        at,
        json!({"any_of": ["password"]}),
        &format!("{any}[0]"),
        "not a kind of credential",
    );
    check(
        at,
        json!({"all_of": ["jwt", "api_key"]}),
        &format!("{path}.all_of"),
        "an API key or a token, not both",
    );
    accept(at, json!({"all_of": ["jwt", "mtls"]}));
    warn(
        at,
        json!({"any_of": ["metadata"]}),
        path,
        "lack the required credentials",
    );
}

#[test]
fn unlimited_checks_of_forged_tokens_give_a_warning() {
    let told = |algorithms: Value, lockout: Value| {
        let mut document = proven();
        put(&mut document, "/issuers/corp/algorithms", algorithms);
        put(&mut document, "/lockout", lockout);
        warnings(document)
            .iter()
            .any(|warning| warning.contains("checking a forged token takes milliseconds"))
    };
    for (algorithms, expected) in [
        (json!(["ES256", "EdDSA"]), true),
        (json!(["PS256", "ES256"]), true),
        (json!(["ES256", "ES512"]), true),
        (json!(["RS256", "ES256"]), false),
    ] {
        // A key that names another algorithm than the required one is skipped.
        assert_eq!(
            told(algorithms.clone(), Value::Null),
            expected,
            "{algorithms}"
        );
        assert!(!told(algorithms, json!({})));
    }
    let one_source = |document: Value| {
        warnings(document)
            .iter()
            .any(|warning| warning.contains("all callers have one source address"))
    };
    assert!(!one_source(proven()), "TLS ends here");
    assert!(one_source(with("/lockout", json!({}))));
    let mut behind = with("/lockout", json!({}));
    put(&mut behind, "/listen/trusted_hops", json!(1));
    assert!(!one_source(behind));
}

#[test]
fn a_scope_without_stream_gives_a_warning_if_streams_are_granted() {
    let told = |scopes: Value, operations: Value| {
        let mut document = proven();
        put(&mut document, "/issuers/corp/scopes", scopes);
        put(&mut document, "/grants/0/operations", operations);
        warnings(document)
            .iter()
            .any(|warning| warning.starts_with("issuers.corp.scopes: infer requires a scope"))
    };
    let (infer, both) = (
        json!({"infer": "ml.infer"}),
        json!({"infer": "ml.infer", "stream": "ml.infer"}),
    );
    assert!(told(infer.clone(), json!(["infer", "stream"])));
    assert!(told(infer.clone(), json!(["stream"])));
    assert!(!told(infer, json!(["infer"])));
    assert!(!told(both, json!(["infer", "stream"])));
    assert!(!told(
        json!({"metadata": "ml.read"}),
        json!(["infer", "stream"])
    ));
}

/// The product of two primes of the form that the flawed library generated, made here.
const MARKED: &str = "tiC8HyBc4b5d70F_j2ObULAD6_FxgPb7hulG3hA_I9dWh1IW8zNzLsOZsLifDLryb0P0VNUIZm6KnQQmC2WeAlEYy0NzXKTeQCjB253SwvrLgVd9emBjND-vlhe0tcvqs0uoZSJm_qwlLkogZLRiDX01shLA5WBcBRjEdcOCFsQzWsXkpC3VUVSfNeltSy3BTwV8xDAAb8bbvmgu2e6v7hi8YbqP9_SJjtCfZxH75VYuXO-iMAkKnCQeULWY4O4mjW9Q3MdkXQoHMpDoh9IzZwZy5c7Qz4IZ5w4TdO1ikiewHI48FZtpmBZTKKBhhIvrlO5RIBQkTD9Ty9Qc71_faw";

#[test]
fn a_modulus_that_can_be_factored_is_no_key() {
    let with = |modulus: &str| {
        let mut document = proven();
        let key = json!({"kty": "RSA", "alg": "RS256", "n": modulus, "e": "AQAB"});
        put(&mut document, "/issuers/corp/algorithms", json!(["RS256"]));
        put(&mut document, "/issuers/corp/jwks/keys", json!([key]));
        document
    };
    let told = errors(with(MARKED));
    assert!(
        matches!(told.as_slice(), [one] if one.starts_with("issuers.corp.jwks.keys[0].n") && one.contains("CVE-2017-15361")),
        "{told:?}"
    );
    // A nearby number is not of that form.
    policy(with(&MARKED.replace("_faw", "_fbw")));
}
