//! JWT-SVIDs: whose tokens without `iss` are, and that the keys of a trust domain are its own. And
//! users whose `sub` is a number.

use super::*;

const ID: &str = "spiffe://prod.example/ns/ml/sa/trainer";

/// Two trust domains with one key name, of which the second also has an `iss`, and a plain issuer.
fn tokens() -> Tokens {
    let key = |index: usize, kid: &str| {
        let mut key = jwks()["keys"][index].clone();
        key["kid"] = json!(kid);
        key["use"] = json!("jwt-svid");
        key
    };
    let rules = |algorithms: Value, keys: Value| {
        json!({
            "audiences": ["tensorgate"], "algorithms": algorithms, "jwks": {"keys": keys},
            "max_lifetime_s": 3600
        })
    };
    let mut prod = rules(json!(["ES256"]), json!([key(1, "k")]));
    prod["trust_domain"] = json!("prod.example");
    let mut partner = rules(json!(["RS256"]), json!([key(0, "k")]));
    partner["trust_domain"] = json!("partner.example");
    partner["issuer"] = json!("https://spire.partner.example");
    let mut corp = rules(json!(["ES256"]), json!([key(1, "k")]));
    corp["issuer"] = json!(ISSUER);
    corp["user_claim"] = json!("sub");
    Tokens::new(&policy(&json!({
        "version": 1,
        "issuers": {"prod": prod, "partner": partner, "corp": corp},
        "clients": {
            "trainer": {"jwt": {"issuer": "prod", "subject": ID}},
            "gold": {"jwt": {"issuer": "partner", "claims": {"tier": "gold"}}},
            "seven": {"jwt": {"issuer": "corp", "subject": "7"}},
            "people": {"jwt": {"issuer": "corp", "claims": {"kind": "user"}}}
        },
        "backends": {}, "models": {}, "grants": []
    })))
}

fn ask(tokens: &Tokens, header: &str, claims: &Value, signer: Signer) -> Identified {
    let text = token(header, &claims.to_string(), signer).unwrap();
    let cache = &mut TokenCache::default();
    tokens.identify(&text, NOW, "g", &mut PureVerifier, cache).0
}

#[test]
fn a_token_without_iss_is_of_the_trust_domain_of_its_subject() {
    const FOREIGN: &str = "token has no iss, and no issuer of the policy has its trust_domain";
    const UNKNOWN: &str = "token's issuer is not in the policy";
    const OUTSIDE: &str = "token's subject is not in its issuer's trust domain";
    const AUDIENCE: &str = "token is for another audience";
    let tokens = tokens();
    let (ec, rsa) = (
        (r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#, Signer::Ec),
        (r#"{"alg":"RS256","kid":"k"}"#, Signer::Rsa),
    );
    let spire = "https://spire.partner.example";
    let job = "spiffe://partner.example/job";
    for (changes, (header, signer), expected) in [
        (json!({}), ec, Ok("trainer")),
        (json!({"sub": job, "tier": "gold"}), rsa, Ok("gold")),
        (
            json!({"sub": job, "tier": "gold", "iss": spire}),
            rsa,
            Ok("gold"),
        ),
        // The same key name, and another trust domain's key.
        (
            json!({}),
            rsa,
            Err("token's algorithm is not one of its issuer's"),
        ),
        (
            json!({"sub": job, "tier": "gold"}),
            (r#"{"alg":"RS256","kid":"k"}"#, Signer::Ec),
            Err(WRONG_SIGNATURE),
        ),
        (json!({"iss": spire, "tier": "gold"}), rsa, Err(OUTSIDE)),
        (
            json!({"iss": spire, "sub": "job", "tier": "gold"}),
            rsa,
            Err(OUTSIDE),
        ),
        (
            json!({"iss": spire, "sub": 7, "tier": "gold"}),
            rsa,
            Err(OUTSIDE),
        ),
        (json!({"iss": null}), ec, Err(UNKNOWN)),
        (json!({"iss": ""}), ec, Err(UNKNOWN)),
        (json!({"iss": "prod.example"}), ec, Err(UNKNOWN)),
        // A plain issuer has the same key, and none of the trust domain's clients.
        (json!({"iss": ISSUER}), ec, Err("token matches no client")),
        (json!({"sub": "seven"}), ec, Err(UNKNOWN)),
        (json!({"sub": null}), ec, Err(UNKNOWN)),
        (json!({"sub": "spiffe://prod.example"}), ec, Err(UNKNOWN)),
        (json!({"sub": "spiffe://prod.example/"}), ec, Err(UNKNOWN)),
        (
            json!({"sub": "spiffe://prod.example/ns/../a"}),
            ec,
            Err(UNKNOWN),
        ),
        (json!({"sub": "spiffe://Prod.example/a"}), ec, Err(UNKNOWN)),
        (json!({"sub": "spiffe://other.example/a"}), ec, Err(FOREIGN)),
        (
            json!({"sub": "spiffe://prod.example/b"}),
            ec,
            Err("token matches no client"),
        ),
        (json!({"aud": []}), ec, Err(AUDIENCE)),
        (json!({"aud": null}), ec, Err(AUDIENCE)),
        (json!({"exp": null}), ec, Err("token never expires")),
    ] {
        let mut claims = json!({"sub": ID, "aud": ["tensorgate"], "exp": NOW + 600});
        let members = claims.as_object_mut().unwrap();
        members.extend(changes.as_object().unwrap().clone());
        let found = ask(&tokens, header, &claims, signer).identity;
        assert_eq!(found, client_or_refused(expected), "{changes}");
    }
    // Without an audience at all.
    let none = json!({"sub": ID, "exp": NOW + 600});
    let found = ask(&tokens, ec.0, &none, ec.1).identity;
    assert_eq!(found, Identity::Refused(AUDIENCE));
}

#[test]
fn a_number_names_a_user_and_no_client() {
    let tokens = tokens();
    let of = |subject: Value, kind: &str| {
        let claims = json!({
            "iss": ISSUER, "sub": subject, "kind": kind, "aud": "tensorgate", "exp": NOW + 600
        });
        ask(&tokens, r#"{"alg":"ES256","kid":"k"}"#, &claims, Signer::Ec)
    };
    let user = |subject: Value| {
        let identified = of(subject, "user");
        assert_eq!(identified.identity, Identity::Client("people".into()));
        identified.user.map(|user| user.name)
    };
    assert_eq!(user(json!(12_345)).as_deref(), Some("12345"));
    assert_eq!(user(json!("12345")).as_deref(), Some("12345"));
    assert_eq!(user(json!(7)).as_deref(), Some("7"));
    // The client's subject is the text.
    let text = of(json!("7"), "job").identity;
    assert_eq!(text, Identity::Client("seven".into()));
    let number = of(json!(7), "job").identity;
    assert_eq!(number, Identity::Refused("token matches no client"));
    let both = Identity::Refused("token matches two clients");
    assert_eq!(of(json!("7"), "user").identity, both);
}
