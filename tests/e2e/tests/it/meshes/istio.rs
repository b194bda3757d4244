//! The gate behind `jwt_authn` as Istio's control plane writes it for `RequestAuthentication`s.
//! Each rule has one provider, `origins-N`, and all payloads are stored under the one key
//! `payload`. A request without a token passes that filter, and so does a preflight: the gate
//! rejects requests without a verified identity.

use serde_json::{Value, json};
use tensorgate_client::http1::{self, Framing};
use tensorgate_policy_compiler::raw::{MetadataRule, Policy};
use tensorgate_tests::ask::{PATH, VALID};
use tensorgate_tests::policy;
use tensorgate_vectors::sign::{Signer, jwks, token};

use super::mesh::{Mesh, before, log_access, manager, upstream};
use super::{CONTEXT_KEY, JWKS, KNOWN, UNKNOWN};

/// Istio's key for a payload.
const PLACE: &str = "payload.sub";
/// The issuers of two rules, in the order of their names.
const MESH: &str = "https://mesh.example";
const OTHER: &str = "https://other.example";

/// What Istio writes for two rules, the second with `fromHeaders` and `forwardOriginalToken`.
fn authn() -> Value {
    let provider = |issuer: &str, keys: String, forward: bool| {
        json!({
            "issuer": issuer,
            "audiences": ["tensorgate"],
            "local_jwks": {"inline_string": keys},
            "forward": forward,
            "payload_in_metadata": "payload",
            "normalize_payload_in_metadata": {"space_delimited_claims": ["permission", "scope"]},
        })
    };
    let first = provider(MESH, JWKS.to_owned(), false);
    let mut second = provider(OTHER, jwks().to_string(), true);
    second["from_headers"] = json!([{"name": "x-jwt-assertion", "value_prefix": "JWT "}, {"name": "authorization", "value_prefix": "Bearer "}]);
    let by = |name: &str| json!({"provider_name": name});
    let lenient =
        |name: &str| json!({"requires_any": {"requirements": [by(name), {"allow_missing": {}}]}});
    let (one, other) = ("origins-0", "origins-1");
    json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {one: first, other: second},
            "rules": [{"match": {"prefix": "/"}, "requires": {"requires_any": {"requirements": [
                by(one), by(other), {"requires_all": {"requirements": [lenient(one), lenient(other)]}}
            ]}}}],
            "bypass_cors_preflight": true,
        },
    })
}

/// Two clients of one name at two issuers.
fn policy_of_both() -> Policy {
    let mut policy = policy::vectors_policy("rates.json");
    for (client, issuer) in [("rate-1", MESH), ("rate-2", OTHER)] {
        policy.clients.get_mut(client).unwrap().metadata = Some(Box::new(MetadataRule {
            filter: Some("envoy.filters.http.jwt_authn".into()),
            claim: Some(PLACE.into()),
            value: Some("svc-web".into()),
            issuer: Some(issuer.into()),
        }));
    }
    policy
}

/// A token of the other issuer.
fn other(issuer: &str, subject: &str) -> String {
    let claims = json!({
        "iss": issuer, "sub": subject, "aud": ["tensorgate"], "exp": 4_102_444_800_u64, "scope": "infer ready", "payload": {"sub": "svc-web"}
    });
    token(
        r#"{"alg":"ES256","kid":"ec"}"#,
        &claims.to_string(),
        Signer::Ec,
    )
    .unwrap()
}

type Fields = Vec<(&'static str, String)>;

fn bearer(token: &str) -> Fields {
    vec![("authorization", format!("Bearer {token}"))]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_accepts_only_identities_that_istio_has_authenticated() {
    let policy = serde_json::to_value(policy_of_both()).unwrap();
    let (behind, seen) = upstream().await;
    let mesh = Mesh::start(
        "istio",
        &policy,
        "gate",
        Some(CONTEXT_KEY),
        |bootstrap, folder| {
            let filters = manager(bootstrap)["http_filters"].as_array_mut().unwrap();
            filters.insert(0, authn());
            before(bootstrap, behind);
            let format = "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn)%|%RESPONSE_CODE%\n";
            log_access(bootstrap, folder, format);
        },
    )
    .await;
    let by_header = |value: String| vec![("x-jwt-assertion", value)];
    let claims = r#"{"iss":"https://mesh.example","sub":"svc-web"}"#;
    let forged = |name: &'static str| vec![(name, claims.to_owned())];
    let preflight = vec![
        ("origin", "https://app.example".to_owned()),
        ("access-control-request-method", "POST".to_owned()),
    ];
    let with_key = |fields: Fields| {
        let key = ("x-api-key", policy::key("rate-3"));
        [fields, vec![key]].concat()
    };
    for (what, method, fields, status, reason) in [
        ("its caller", "POST", bearer(KNOWN), 200, None),
        (
            "the other issuer's caller of that name",
            "POST",
            by_header(format!("JWT {}", other(OTHER, "svc-web"))),
            200,
            None,
        ),
        (
            "no token at all",
            "POST",
            vec![],
            401,
            Some("unauthenticated"),
        ),
        (
            "a preflight",
            "OPTIONS",
            preflight,
            401,
            Some("unauthenticated"),
        ),
        (
            "an unknown subject",
            "POST",
            bearer(UNKNOWN),
            401,
            Some("unauthenticated"),
        ),
        (
            "an unknown subject there",
            "POST",
            by_header(format!("JWT {}", other(OTHER, "rate-1"))),
            401,
            Some("unauthenticated"),
        ),
        (
            "one issuer's keys for the other's word",
            "POST",
            bearer(&other(MESH, "svc-web")),
            401,
            None,
        ),
        (
            "an issuer that the mesh does not know",
            "POST",
            bearer(&other("https://evil.example", "svc-web")),
            401,
            None,
        ),
        (
            "a token that was changed",
            "POST",
            bearer(&KNOWN.replace('.', ".A")),
            401,
            None,
        ),
        // The mesh forwards it and the gate reads it, but it is no token that the gate issued or
        // verifies.
        (
            "a token that the mesh leaves in place",
            "POST",
            bearer(&other(OTHER, "svc-web")),
            401,
            Some("unauthenticated"),
        ),
        (
            "a payload of a client's own",
            "POST",
            forged("x-jwt-payload"),
            401,
            Some("unauthenticated"),
        ),
        // A server behind may read an underscore as a hyphen.
        (
            "metadata of a client's own",
            "POST",
            forged("envoy.filters.http.jwt_authn"),
            400,
            Some("ambiguous-request"),
        ),
        (
            "an identity of a client's own",
            "POST",
            forged("wasm.tg_identity"),
            400,
            Some("ambiguous-request"),
        ),
        (
            "a key of another client's beside it",
            "POST",
            with_key(bearer(KNOWN)),
            400,
            Some("ambiguous-request"),
        ),
    ] {
        let mut all = vec![("content-type", "application/json".to_owned())];
        all.extend(fields);
        let reply = http1::send(
            mesh.gate,
            method,
            PATH,
            &all,
            VALID.as_bytes(),
            Framing::Length,
        )
        .await
        .unwrap();
        assert_eq!(reply.status, status, "{what}: {reply:?}");
        if reason.is_some() {
            assert_eq!(reply.reason().as_deref(), reason, "{what}");
        }
    }
    let heads = seen.lock().unwrap().clone();
    assert_eq!(heads.len(), 2, "{heads:?}");
    for head in heads {
        assert!(
            !head.contains("x-jwt-assertion") && !head.contains("authorization"),
            "{head}"
        );
    }
    // Istio's place for it, as Envoy logs it.
    let log = mesh.folder.join("access.log");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    tensorgate_tests::ask::met("Envoy has logged the first", || lines().contains("|200")).await;
    let first = lines()
        .lines()
        .find(|line| line.ends_with("|200"))
        .unwrap()
        .to_owned();
    let metadata: Value = serde_json::from_str(first.split('|').next().unwrap()).unwrap();
    assert_eq!(metadata["payload"]["sub"], "svc-web", "{metadata}");
}
