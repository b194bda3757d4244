//! Chains of which each differs from a valid one in one thing.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use super::*;

macro_rules! chain {
    ($name:literal) => {
        Certificate::from_pem(include_str!(concat!(
            "../../../tests/data/oms/chains/",
            $name,
            ".pem"
        )))
        .unwrap()
    };
}

/// 2026-11-25.
const NOW_S: u64 = 1_795_564_800;

fn signer(
    roots: Vec<Certificate>,
    chain: &[Certificate],
    now_s: u64,
) -> Result<String, ChainFault> {
    let roots = Roots::new(roots)?;
    roots.signer(chain, now_s).map(Certificate::name)
}

#[test]
fn a_valid_chain_leads_to_its_root() {
    for (roots, chain) in [
        (chain!("root"), chain!("valid")),
        (chain!("root"), chain!("valid-direct")),
        (chain!("rsa-root"), chain!("valid-rsa")),
        (chain!("ed25519-root"), chain!("valid-ed25519")),
        // Roots may stand in the bundle, too, and mean nothing there.
        (
            chain!("root"),
            [chain!("valid"), chain!("root"), chain!("rsa-root")].concat(),
        ),
        (
            [chain!("rsa-root"), chain!("root")].concat(),
            chain!("valid"),
        ),
    ] {
        assert_eq!(signer(roots, &chain, NOW_S), Ok("signer".to_owned()));
    }
}

#[test]
fn the_verifier_may_bring_an_authority() {
    let [leaf, authority] = <[_; 2]>::try_from(chain!("valid")).unwrap();
    let untrusted = Err(ChainFault::Untrusted("signer".to_owned()));
    assert_eq!(
        signer(chain!("root"), std::slice::from_ref(&leaf), NOW_S),
        untrusted
    );
    let trusted = [chain!("root"), vec![authority.clone()]].concat();
    assert!(signer(trusted, std::slice::from_ref(&leaf), NOW_S).is_ok());
    // It completes a chain, and is not a root.
    let alone = signer(vec![authority], &[leaf], NOW_S);
    assert_eq!(alone, Err(ChainFault::NoRoot));
}

#[test]
fn a_missing_or_other_root_is_rejected() {
    assert_eq!(
        signer(vec![], &chain!("valid"), NOW_S),
        Err(ChainFault::NoRoot)
    );
    assert_eq!(signer(chain!("root"), &[], NOW_S), Err(ChainFault::Empty));
    let untrusted = Err(ChainFault::Untrusted("signer".to_owned()));
    assert_eq!(
        signer(chain!("rsa-root"), &chain!("valid"), NOW_S),
        untrusted
    );
    assert_eq!(
        signer(chain!("root"), &chain!("without-issuer"), NOW_S),
        untrusted
    );
    // The issuer has the root's name and another key.
    assert_eq!(
        signer(chain!("root"), &chain!("other-root"), NOW_S),
        untrusted
    );
}

#[test]
fn each_certificate_is_valid_at_the_time() {
    let expired = |name: &str, chain: &[Certificate], roots| {
        let fault = signer(roots, chain, NOW_S).unwrap_err();
        assert!(
            matches!(&fault, ChainFault::Time { name: found, .. } if found == name),
            "{fault}"
        );
    };
    expired("signer", &chain!("expired"), chain!("root"));
    expired("issuing", &chain!("expired-authority"), chain!("root"));
    expired("old root", &chain!("under-old-root"), chain!("old-root"));
    let (from, to) = (1_767_225_600, 2_082_758_400);
    for (now_s, is_valid) in [
        (0, false),
        (from - 1, false),
        (from, true),
        (to, true),
        (to + 1, false),
    ] {
        let found = signer(chain!("root"), &chain!("valid"), now_s);
        assert_eq!(found.is_ok(), is_valid, "{now_s}");
    }
    let fault = signer(chain!("root"), &chain!("valid"), u64::MAX).unwrap_err();
    assert!(
        fault.to_string().contains("2036-01-01T00:00:00Z"),
        "{fault}"
    );
}

#[test]
fn a_signer_has_both_usages() {
    for chain in [
        chain!("no-extended-usage"),
        chain!("any-extended-usage"),
        chain!("server-usage"),
        chain!("no-usage"),
        chain!("authority-usage"),
    ] {
        let fault = signer(chain!("root"), &chain, NOW_S).unwrap_err();
        assert_eq!(fault, ChainFault::Usage("signer".to_owned()));
    }
    let fault = signer(chain!("root"), &chain!("rsa-signer"), NOW_S).unwrap_err();
    assert_eq!(fault, ChainFault::Key("signer".to_owned()));
}

#[test]
fn an_issuer_is_an_authority() {
    for chain in [
        chain!("authority-is-leaf"),
        chain!("authority-without-sign"),
        chain!("authority-for-servers"),
        chain!("path-length"),
    ] {
        let fault = signer(chain!("root"), &chain, NOW_S).unwrap_err();
        assert_eq!(fault, ChainFault::Authority("issuing".to_owned()));
    }
}
