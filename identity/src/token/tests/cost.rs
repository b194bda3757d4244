//! The cost of a token: one signature check, whatever the result, and none when it is seen again.

use super::*;
use crate::verifier::VerifyFault;

/// Counts signature checks, and can fail.
#[derive(Default)]
struct Counting {
    checks: usize,
    /// Those whose results may come from earlier ones.
    remembered: usize,
    fails: bool,
}

impl Attempts for Counting {}

impl KeySource for Counting {}

impl Verifier for Counting {
    fn verify(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        self.remembered += 1;
        self.verify_anew(key, signed, signature)
    }

    fn verify_anew(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        self.checks += 1;
        if self.fails {
            return Err(VerifyFault("the library is gone"));
        }
        PureVerifier.verify(key, signed, signature)
    }
}

/// Otherwise a token that another worker has accepted would be rejected faster than a wrong one.
#[test]
fn a_decoy_check_never_uses_an_earlier_result() {
    let tokens = Tokens::new(&policy(&document()));
    let mut verifier = Counting::default();
    let expired = ed(json!({"exp": NOW - 100}));
    let mut cache = TokenCache::default();
    tokens.identify(&expired, NOW, "g", &mut verifier, &mut cache);
    assert_eq!((verifier.checks, verifier.remembered), (1, 0));
    tokens.identify(&ed(json!({})), NOW, "g", &mut verifier, &mut cache);
    assert_eq!((verifier.checks, verifier.remembered), (2, 1));
}

#[test]
fn a_signature_is_checked_once_whatever_the_tokens_verdict() {
    let tokens = Tokens::new(&policy(&document()));
    let mut verifier = Counting::default();
    let mut cache = TokenCache::default();
    let mut ask = |text: &str, now: u64, policy_version: &str, checks: usize| {
        let identity = tokens
            .identify(text, now, policy_version, &mut verifier, &mut cache)
            .0
            .identity;
        assert_eq!(verifier.checks, checks, "{text}");
        identity
    };
    let web = Identity::Client("web".into());
    let valid = ed(json!({"nbf": NOW}));
    assert_eq!(ask(&valid, NOW, "g", 1), web);
    assert_eq!(ask(&valid, NOW + 1, "g", 1), web);
    // Cached, but the times are still checked, also when the clock goes back. The first rejection
    // costs the same as an unknown token.
    assert_eq!(ask(&valid, NOW - 31, "g", 2), Identity::Refused(NOT_YET));
    assert_eq!(ask(&valid, NOW + 630, "g", 2), Identity::Refused(EXPIRED));
    assert_eq!(ask(&valid, NOW + 631, "g", 2), Identity::Refused(EXPIRED));
    // A new policy starts without cached results.
    assert_eq!(ask(&valid, NOW, "h", 3), web);
    // A wrong signature is cached, and so is a revoked token.
    let forged = token(ED, &claims(json!({})), Signer::Ec).unwrap();
    for _ in 0..2 {
        assert_eq!(
            ask(&forged, NOW, "g", 4),
            Identity::Refused(WRONG_SIGNATURE)
        );
    }
    let stolen = ed(json!({"jti": "stolen"}));
    for _ in 0..2 {
        assert_eq!(
            ask(&stolen, NOW, "g", 5),
            Identity::Refused("token is revoked")
        );
    }
    // A token that is not valid yet becomes valid later.
    let early = ed(json!({"nbf": NOW + 100}));
    for _ in 0..2 {
        assert_eq!(ask(&early, NOW, "g", 6), Identity::Refused(NOT_YET));
    }
    assert_eq!(ask(&early, NOW + 100, "g", 7), web);
}

#[test]
fn a_failing_verifier_gives_no_verdict_and_is_retried() {
    let tokens = Tokens::new(&policy(&document()));
    let mut verifier = Counting {
        fails: true,
        ..Counting::default()
    };
    let mut cache = TokenCache::default();
    let valid = ed(json!({}));
    let refused = tokens
        .identify(&valid, NOW, "g", &mut verifier, &mut cache)
        .0;
    assert_eq!(
        refused.identity,
        Identity::Unverifiable("the library is gone")
    );
    assert_eq!(refused.credential, None);
    verifier.fails = false;
    let identified = tokens
        .identify(&valid, NOW, "g", &mut verifier, &mut cache)
        .0;
    assert_eq!(identified.identity, Identity::Client("web".into()));
}

#[test]
fn a_cached_rejection_keeps_its_credential_name() {
    let tokens = Tokens::new(&policy(&document()));
    let forged = token(ED, &claims(json!({})), Signer::Ec).unwrap();
    for (text, cause, name) in [
        (
            ed(json!({"jti": "stolen"})),
            "token is revoked",
            Some("jwt:corp:svc-web"),
        ),
        (
            ed(json!({"sub": "stranger"})),
            "token matches no client",
            Some("jwt:corp:stranger"),
        ),
        // The signature is forged, so the claims are not trusted.
        (forged, WRONG_SIGNATURE, None),
    ] {
        let mut cache = TokenCache::default();
        for _ in 0..2 {
            let refused = tokens
                .identify(&text, NOW, "g", &mut PureVerifier, &mut cache)
                .0;
            assert_eq!(refused.identity, Identity::Refused(cause));
            assert_eq!(refused.credential.as_deref(), name, "{cause}");
        }
    }
}
