//! Required proofs of a model, in the combined filter and in its three parts; revoked certificates;
//! and tokens that are bound to a certificate.

use crate::support;

use serde_json::{Value, json};
use support::{CONTEXT_KEY, NOW, chain, field, json_body};
use tensorgate_filter_core::filter::Filter;
use tensorgate_identity::ConfirmationFault;
use tensorgate_identity::api_key::{digest, format_key};
use tensorgate_in_memory_proxy::{InMemoryProxy, Peer, PeerCertificate, Request, RequestOutcome};
use tensorgate_policy::request::{Proof, Proofs};
use tensorgate_policy::{Reason, hex};
use tensorgate_vectors::sign::{Signer, jwks, token};
use tensorgate_wire::context::{Context, HEADER, Key};

const ENGINE: &str = "spiffe://prod/engine";

fn key(seed: u8) -> String {
    format_key(&[seed; 20])
}

/// Models `any`, `all` and `free`, each for `engine` (a key and a certificate) and `batch` (a key).
fn policy() -> Value {
    let model = json!({
        "backend": "cpu", "versions": ["1"], "protocols": ["oip-rest"],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [{"max": 64}, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [{"max": 64}, 2]}]
    });
    let asking = |requires: Value| {
        let mut model = model.clone();
        model["requires"] = requires;
        model
    };
    json!({
        "version": 1,
        "listen": {"tls": {"cert": "c", "key": "k", "client_ca": "ca"}},
        "clients": {
            "engine": {"api_keys": [{"sha256": hex(&digest(&key(1)))}], "mtls": {"spiffe": ENGINE}},
            "batch": {"api_keys": [{"sha256": hex(&digest(&key(2)))}]}
        },
        "backends": {"cpu": {"kind": "embedded", "models": "models/", "max_in_flight": 8, "queue": 8, "timeout_ms": 1000}},
        "models": {
            "any": asking(json!({"any_of": ["mtls", "jwt"]})),
            "all": asking(json!({"all_of": ["mtls", "api_key"]})),
            "free": model
        },
        "grants": [{"name": "g", "clients": ["engine", "batch"], "models": ["any", "all", "free"], "operations": ["infer"]}]
    })
}

fn proxy(filters: &[Filter], policy: &Value) -> InMemoryProxy {
    let bundle = json!({"generation": "0123456789abcdef", "policy": policy}).to_string();
    chain(filters, bundle)
}

fn shows(proxy: &mut InMemoryProxy, uri: Option<&str>) {
    proxy.set_peer(Peer {
        certificate: uri.map(|uri| PeerCertificate {
            uris: vec![uri.into()],
            ..PeerCertificate::default()
        }),
        ..Peer::default()
    });
}

/// An inference: its forwarded context, or the reason of the rejection.
fn infer(proxy: &mut InMemoryProxy, model: &str, key: Option<&str>) -> Result<Context, Reason> {
    let path = format!("/v2/models/{model}/infer");
    let mut headers = vec![
        field(":method", "POST"),
        field(":path", &path),
        field(":authority", "gate.example"),
        field(":scheme", "https"),
        field("content-type", "application/json"),
    ];
    headers.extend(key.map(|key| field("x-api-key", key)));
    let request = Request {
        headers,
        body: vec![json_body()],
        trailers: None,
    };
    let (outcome, record) = proxy.send(&request, NOW);
    match outcome {
        RequestOutcome::Denied(_) => Err(record.reason.unwrap()),
        RequestOutcome::Forwarded { headers, .. } => {
            let signed = headers
                .into_iter()
                .find(|(name, _)| name == HEADER.as_bytes())
                .map(|(_, value)| String::from_utf8(value).unwrap())
                .unwrap();
            let context_key = Key::from_hex(CONTEXT_KEY).unwrap();
            Ok(Context::verify(&signed, &context_key, "POST", &path, NOW.unix_s, 5).unwrap())
        }
    }
}

#[test]
fn a_model_is_served_to_clients_with_the_required_proofs() {
    for filters in [&[Filter::Gate][..], &Filter::THREE] {
        let mut proxy = proxy(filters, &policy());
        let (engine, batch) = (key(1), key(2));
        let (key_only, both) = (
            Proofs::NONE.with(Proof::ApiKey),
            Proofs::NONE.with(Proof::ApiKey).with(Proof::Mtls),
        );
        let certificate = Proofs::NONE.with(Proof::Mtls);
        let no = Err(Reason::NotGranted);
        for (model, uri, key, expected) in [
            ("free", None, Some(&engine), Ok(key_only)),
            ("free", Some(ENGINE), None, Ok(certificate)),
            ("free", Some(ENGINE), Some(&engine), Ok(both)),
            // An unknown certificate beside a key is ignored and proves nothing.
            ("free", Some("spiffe://x/y"), Some(&engine), Ok(key_only)),
            ("any", None, Some(&engine), no),
            ("any", Some(ENGINE), None, Ok(certificate)),
            ("any", Some(ENGINE), Some(&engine), Ok(both)),
            ("any", Some("spiffe://x/y"), Some(&engine), no),
            ("any", None, Some(&batch), no),
            ("all", None, Some(&engine), no),
            ("all", Some(ENGINE), None, no),
            ("all", Some(ENGINE), Some(&engine), Ok(both)),
            // Two proofs of two clients are not two proofs of one.
            (
                "all",
                Some(ENGINE),
                Some(&batch),
                Err(Reason::AmbiguousRequest),
            ),
            ("all", Some("spiffe://x/y"), Some(&engine), no),
        ] {
            shows(&mut proxy, uri);
            let outcome = infer(&mut proxy, model, key.map(String::as_str));
            assert_eq!(
                outcome.map(|context| context.proofs),
                expected,
                "{filters:?} {model} {uri:?} {key:?}"
            );
        }
    }
}

#[test]
fn a_client_that_can_never_prove_what_is_asked_for_is_told_of() {
    let proxy = proxy(&[Filter::Gate], &policy());
    let told: Vec<_> = proxy
        .warnings()
        .iter()
        .filter(|fault| fault.path.ends_with("requires"))
        .map(|fault| format!("{}: {}", fault.path, fault.message))
        .collect();
    let shut = "clients of a grant lack the required credentials: \"batch\"";
    assert_eq!(
        told,
        [
            format!("models.all.requires: {shut}"),
            format!("models.any.requires: {shut}")
        ]
    );
}

#[test]
fn a_revoked_certificate_identifies_no_client_whatever_its_name() {
    let mut policy = policy();
    // The in-memory proxy's certificates all have this fingerprint.
    policy["revoked"] = json!({"certificates": ["0".repeat(64)]});
    let mut proxy = proxy(&[Filter::Gate], &policy);
    shows(&mut proxy, Some(ENGINE));
    assert_eq!(
        infer(&mut proxy, "free", None),
        Err(Reason::Unauthenticated)
    );
    // A key stands alone; the certificate adds nothing to it.
    let engine = key(1);
    assert_eq!(
        infer(&mut proxy, "free", Some(&engine)).map(|context| context.proofs),
        Ok(Proofs::NONE.with(Proof::ApiKey))
    );
    assert_eq!(
        infer(&mut proxy, "all", Some(&engine)),
        Err(Reason::NotGranted)
    );
    policy["revoked"] = json!({"certificates": ["1".repeat(64)]});
    let mut proxy = self::proxy(&[Filter::Gate], &policy);
    shows(&mut proxy, Some(ENGINE));
    assert!(infer(&mut proxy, "free", None).is_ok(), "another's");
}

#[test]
fn a_bound_token_needs_the_certificate_of_its_connection_and_is_counted_without() {
    let mut policy = policy();
    policy["issuers"] = json!({"corp": {
        "issuer": "https://login.example.com", "audiences": ["gate"], "algorithms": ["ES256"],
        "jwks": {"keys": [jwks()["keys"][1]]}, "max_lifetime_s": 3600
    }});
    policy["clients"]["engine"]["jwt"] = json!({"issuer": "corp", "subject": "svc"});
    let bound = |cnf: Value| {
        let claims = json!({
            "iss": "https://login.example.com", "sub": "svc", "aud": "gate",
            "exp": NOW.unix_s + 600, "cnf": cnf
        });
        token(r#"{"alg":"ES256"}"#, &claims.to_string(), Signer::Ec).unwrap()
    };
    // The in-memory proxy's certificates have a digest of zeros.
    let own = bound(json!({"x5t#S256": "A".repeat(43)}));
    let another = bound(json!({"x5t#S256": "A".repeat(42) + "E"}));
    let by_proof = bound(json!({"jkt": "A".repeat(43)}));
    let certificate = vec![ConfirmationFault::Certificate];
    for filters in [&[Filter::Gate][..], &Filter::THREE] {
        let mut proxy = proxy(filters, &policy);
        for (uri, token, expected) in [
            (Some(ENGINE), &own, vec![]),
            (None, &own, certificate.clone()),
            (Some(ENGINE), &another, certificate.clone()),
            (Some(ENGINE), &by_proof, vec![ConfirmationFault::Method]),
            // A name beside the certificate's digest is what counts for `mtls`, not here.
            (Some("spiffe://prod/other"), &own, vec![]),
        ] {
            shows(&mut proxy, uri);
            let mut stream = proxy.open(NOW);
            let headers = [
                field(":method", "POST"),
                field(":path", "/v2/models/free/infer"),
                field(":authority", "gate.example"),
                field(":scheme", "https"),
                field("content-type", "application/json"),
                field("authorization", format!("Bearer {token}")),
                // What a client writes itself is replaced or removed.
                field("x-forwarded-client-cert", "Hash=00"),
            ];
            stream.send_headers(&headers, false);
            stream.send_body(&json_body(), true);
            let (outcome, _, logged) = stream.close();
            let passed = matches!(outcome, Some(RequestOutcome::Forwarded { .. }));
            assert_eq!(passed, expected.is_empty(), "{uri:?} {outcome:?}");
            assert_eq!(logged.unconfirmed, expected, "{uri:?}");
        }
    }
}
