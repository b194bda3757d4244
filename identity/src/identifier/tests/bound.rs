//! Tokens that are bound to a client certificate, or to a key by a method that is not checked here.

use alloc::string::ToString as _;

use serde_json::Value;
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_vectors::sign::{Signer, jwks, token};

use super::*;
use crate::verifier::VerifyFault;

const NOW: u64 = 1_780_000_000;
const PROXY: &str = "spiffe://prod/edge";
const METHOD: ConfirmationFault = ConfirmationFault::Method;
const CERTIFICATE: ConfirmationFault = ConfirmationFault::Certificate;

/// Counts what a token is refused for after its signature was verified.
#[derive(Default)]
struct Counting {
    verified: usize,
    unconfirmed: Vec<ConfirmationFault>,
}

impl Attempts for Counting {
    fn record_unconfirmed(&mut self, fault: ConfirmationFault) {
        self.unconfirmed.push(fault);
    }
}

impl KeySource for Counting {}

impl Verifier for Counting {
    fn verify(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        self.verified = self.verified.saturating_add(1);
        PureVerifier.verify(key, signed, signature)
    }
}

/// An identifier of one client with tokens, for this listener.
fn of_tokens(listen: Value) -> Identifier {
    let document = json!({
        "version": 1,
        "listen": listen,
        "issuers": {"corp": {
            "issuer": "https://login.example.com", "audiences": ["gate"], "algorithms": ["EdDSA"],
            "jwks": {"keys": [jwks()["keys"][2]]}, "max_lifetime_s": 3600
        }},
        "clients": {"web": {"jwt": {"issuer": "corp", "subject": "svc"}}},
        "revoked": {"certificates": ["2".repeat(64)]}
    });
    let raw: raw::Policy = serde_json::from_value(document).unwrap();
    let (policy, _) = validate(&raw).unwrap_or_else(|faults| panic!("{faults:#?}"));
    Identifier::new(&policy)
}

fn mtls() -> Value {
    json!({"tls": {"cert": "c", "key": "k", "client_ca": "ca"}})
}

/// A token with this `cnf`.
fn with_cnf(cnf: &Value) -> String {
    let claims = json!({
        "iss": "https://login.example.com", "sub": "svc", "aud": "gate", "exp": NOW + 600,
        "cnf": cnf
    });
    token(r#"{"alg":"EdDSA"}"#, &claims.to_string(), Signer::Ed).unwrap()
}

/// A token that is bound to the certificate whose digest has this digit only.
fn bound_to(digit: u8) -> String {
    use base64::Engine as _;
    let digest = [digit << 4 | digit; 32];
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest);
    with_cnf(&json!({"x5t#S256": text}))
}

/// What the proxy reports of a certificate with such a digest.
fn certificate(digit: u8) -> Shown {
    let mut certificate = shown(&[], &[]);
    certificate.header = format!("Hash={};URI=", format!("{digit}").repeat(64));
    certificate
}

/// The identity of a token over a connection, and the fault that is counted.
fn ask(
    identifier: &Identifier,
    token: &str,
    shown: Option<&Shown>,
) -> (Identity, Vec<ConfirmationFault>) {
    let mut port = Counting::default();
    let mut cache = TokenCache::default();
    let evidence = Evidence {
        certificate: shown.map(|shown| Certificate {
            header: &shown.header,
            names: shown.names.clone(),
        }),
        ..Evidence::of(Credential::Token(token))
    };
    let mut once = || identifier.identify(&evidence, NOW, "g", &mut port, &mut cache);
    let (first, again) = (once(), once());
    assert_eq!(first.identity, again.identity, "from the cache too");
    assert_eq!(
        port.verified, 1,
        "what is bound is judged after the signature"
    );
    let half = port.unconfirmed.len() / 2;
    port.unconfirmed.truncate(half);
    (first.identity, port.unconfirmed)
}

fn refused(fault: ConfirmationFault) -> (Identity, Vec<ConfirmationFault>) {
    (Identity::Refused(fault.cause()), [fault].into())
}

fn web() -> (Identity, Vec<ConfirmationFault>) {
    (Identity::Client("web".into()), Vec::new())
}

#[test]
fn a_token_that_is_bound_to_a_certificate_needs_that_certificate() {
    let identifier = of_tokens(mtls());
    let (own, other, revoked) = (certificate(1), certificate(3), certificate(2));
    assert_eq!(ask(&identifier, &bound_to(1), Some(&own)), web());
    for shown in [Some(&other), Some(&revoked), None] {
        assert_eq!(ask(&identifier, &bound_to(1), shown), refused(CERTIFICATE));
    }
    let stolen = ask(&identifier, &bound_to(2), Some(&revoked));
    assert_eq!(stolen, refused(CERTIFICATE));
    // A second element, and a header that is not the connection's.
    let mut odd = certificate(1);
    odd.header = format!("{},{}", other.header, own.header);
    assert_eq!(
        ask(&identifier, &bound_to(1), Some(&odd)),
        refused(CERTIFICATE)
    );
    odd.header = format!("{}spiffe://prod/a", own.header);
    assert_eq!(
        ask(&identifier, &bound_to(1), Some(&odd)),
        refused(CERTIFICATE)
    );
    // Without client certificates the header is the client's own.
    let plain = of_tokens(json!({"tls": {"cert": "c", "key": "k"}}));
    assert_eq!(ask(&plain, &bound_to(1), Some(&own)), refused(CERTIFICATE));
}

#[test]
fn a_proxy_in_front_reports_the_certificate_that_binds() {
    let mut listen = mtls();
    listen["trusted_hops"] = json!(1);
    listen["tls"]["forwarded_by"] = json!([{"spiffe": PROXY}]);
    let identifier = of_tokens(listen);
    // The client's certificate, and the proxy's own.
    let through = |client: &str| {
        let mut shown = shown(&[PROXY], &[]);
        shown.names.sha256 = "4".repeat(64);
        let comma = if client.is_empty() { "" } else { "," };
        shown.header = format!("{client}{comma}Hash={};URI={PROXY}", "4".repeat(64));
        shown
    };
    let of = |digit: &str| format!("Hash={}", digit.repeat(64));
    let ask = |token: &str, shown: &Shown| ask(&identifier, token, Some(shown));
    assert_eq!(ask(&bound_to(1), &through(&of("1"))), web());
    assert_eq!(ask(&bound_to(1), &through(&of("3"))), refused(CERTIFICATE));
    // What the client itself has sent to the proxy stands before its own certificate.
    let forged = format!("{},{}", of("1"), of("3"));
    assert_eq!(ask(&bound_to(1), &through(&forged)), refused(CERTIFICATE));
    // The proxy's certificate is not its client's.
    assert_eq!(ask(&bound_to(4), &through("")), refused(CERTIFICATE));
}

#[test]
fn a_token_that_is_bound_in_another_way_is_refused_whatever_is_shown() {
    let identifier = of_tokens(mtls());
    let own = certificate(0);
    let digest = "A".repeat(43);
    for cnf in [
        json!(null),
        json!({}),
        json!({"jkt": digest}),
        json!({"jwk": {"kty": "OKP", "crv": "Ed25519"}}),
        json!({"kid": "ed"}),
        json!({"x5t#S256": digest, "jkt": digest}),
        json!({"x5t": "AAAA"}),
    ] {
        for shown in [Some(&own), None] {
            let found = ask(&identifier, &with_cnf(&cnf), shown);
            assert_eq!(found, refused(METHOD), "{cnf}");
        }
    }
    let bound = json!({"x5t#S256": digest});
    assert_eq!(ask(&identifier, &with_cnf(&bound), Some(&own)), web());
}
