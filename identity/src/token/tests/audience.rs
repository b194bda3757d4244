//! For whom a token is: `aud`, and a claim of the issuer's own in its place.

use super::*;

#[test]
fn the_issuers_own_claim_counts_without_aud_and_never_against_it() {
    const OTHER: Result<&str, &str> = Err("token is for another audience");
    let mut document = document();
    document["issuers"]["corp"]["audiences_claim"] = json!("client_id");
    let tokens = Tokens::new(&policy(&document));
    let cases = [
        (json!({"aud": null, "client_id": "tensorgate"}), Ok("web")),
        (json!({"aud": null, "client_id": "gate-2"}), Ok("web")),
        (
            json!({"aud": null, "client_id": ["x", "gate-2"]}),
            Ok("web"),
        ),
        (json!({}), Ok("web")),
        (json!({"client_id": "gate-2"}), Ok("web")),
        (json!({"aud": null}), OTHER),
        (json!({"aud": null, "client_id": "other"}), OTHER),
        (json!({"aud": null, "client_id": ""}), OTHER),
        (json!({"aud": null, "client_id": []}), OTHER),
        (json!({"aud": null, "client_id": [["tensorgate"]]}), OTHER),
        (json!({"aud": null, "client_id": {"tensorgate": 1}}), OTHER),
        (json!({"aud": null, "client_id": 7}), OTHER),
        (json!({"aud": null, "azp": "tensorgate"}), OTHER),
        // Both are there: both must hold.
        (json!({"aud": "other", "client_id": "tensorgate"}), OTHER),
        (json!({"aud": [], "client_id": "tensorgate"}), OTHER),
        (json!({"aud": "", "client_id": "tensorgate"}), OTHER),
        (json!({"aud": 7, "client_id": "tensorgate"}), OTHER),
        (json!({"client_id": "other"}), OTHER),
        (json!({"client_id": false}), OTHER),
    ];
    let ask = |text: &str| {
        let cache = &mut TokenCache::default();
        let (identified, _) = tokens.identify(text, NOW, "g", &mut PureVerifier, cache);
        identified.identity
    };
    for (changes, expected) in cases {
        let expected = client_or_refused(expected);
        assert_eq!(ask(&ed(changes.clone())), expected, "{changes}");
    }
    // `null` is present, and no accepted audience. The helper above would remove the claim.
    let null = claims(json!({"client_id": "tensorgate"}))
        .replace("\"aud\":\"tensorgate\"", "\"aud\":null");
    assert!(null.contains("\"aud\":null"), "{null}");
    let text = token(ED, &null, Signer::Ed).unwrap();
    assert_eq!(
        ask(&text),
        Identity::Refused("token is for another audience")
    );
    // Another issuer has no such claim.
    let narrow = json!({
        "iss": "https://narrow.example.com", "kind": "robot", "aud": null, "client_id": "tensorgate"
    });
    assert_eq!(
        ask(&ed(narrow)),
        Identity::Refused("token is for another audience")
    );
}
