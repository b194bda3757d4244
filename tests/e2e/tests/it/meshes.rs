//! Our filters in a mesh with its own authentication. Envoy's `jwt_authn` in front identifies the
//! caller. Behind it are `rate-limit` and `tensor-guard` without `auth`, or one filter alone, and
//! then any server. And the gate behind the configuration that Istio makes of a
//! `RequestAuthentication`, and before a server without a sandbox host.

mod alone;
pub mod control_planes;
mod istio;
mod mesh;
mod policies;
mod streamed;

use std::net::SocketAddr;

use mesh::{Mesh, before, log_access, manager, meshed, upstream};
use serde_json::{Value, json};
use tensorgate_client::http1::{self, Framing};
use tensorgate_policy_compiler::raw::{MetadataRule, Policy, Rate};
use tensorgate_tests::ask::{PATH, PATIENCE, VALID};
use tensorgate_tests::policy;

/// Keys of an issuer that signed only these two tokens, and whose private key no longer exists.
const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"mesh","alg":"ES256","use":"sig","x":"Ev2LknyG2L3ddjG-bxKmbNm51ebogotCWh1D3wMUHZM","y":"K0k9lIMTBjNNH41e8lk8kEABchjDNPTTIc-oDGyI6sw"}]}"#;
/// For `svc-web`, which the policy knows.
const KNOWN: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6Im1lc2giLCJ0eXAiOiJKV1QifQ.eyJpc3MiOiJodHRwczovL21lc2guZXhhbXBsZSIsInN1YiI6InN2Yy13ZWIiLCJhdWQiOlsidGVuc29yZ2F0ZSJdLCJleHAiOjQxMDI0NDQ4MDB9.WPbVtBxBkY4Kzyg_iD1f47bAFodljfimn0GvjZBwAQUVEF3AMrSxvHeFS-RFAR-IJBcKpn4XJPkU-Pqs8CU1Qg";
/// For `svc-other`, which the policy does not know.
const UNKNOWN: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6Im1lc2giLCJ0eXAiOiJKV1QifQ.eyJpc3MiOiJodHRwczovL21lc2guZXhhbXBsZSIsInN1YiI6InN2Yy1vdGhlciIsImF1ZCI6WyJ0ZW5zb3JnYXRlIl0sImV4cCI6NDEwMjQ0NDgwMH0.Kx19lJVAcYC5ofxEx2R7k1GDC_oM_loYP86ldVMjt8IOeRPFF9MJcMGaWAEfe-1sAcSanfhF_yxKD8HlQ4N6qg";

/// A policy that trusts `jwt_authn`, with so many requests a month for the known client.
fn of_the_mesh(quota: u64) -> Policy {
    let mut policy = policy::vectors_policy("rates.json");
    policy.clients.get_mut("rate-1").unwrap().metadata = Some(Box::new(MetadataRule {
        filter: Some("envoy.filters.http.jwt_authn".into()),
        claim: Some("jwt.sub".into()),
        value: Some("svc-web".into()),
        issuer: None,
    }));
    policy.grants[0].rate = Some(Rate {
        quota: Some(quota.into()),
        window_s: Some(2_678_400.into()),
        burst: Some(quota.into()),
        ..Rate::default()
    });
    policy
}

async fn send(gate: SocketAddr, fields: &[(&str, String)], body: &str) -> (u16, Option<String>) {
    let mut all = vec![("content-type", "application/json".to_owned())];
    all.extend_from_slice(fields);
    let body = body.as_bytes();
    let reply = http1::send(gate, "POST", PATH, &all, body, Framing::Length)
        .await
        .unwrap();
    (reply.status, reply.reason())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rate_limit_and_tensor_guard_work_behind_jwt_authn_and_before_any_server() {
    let policy = serde_json::to_value(of_the_mesh(5)).unwrap();
    let (behind, seen) = upstream().await;
    // Without a context key: the server behind reads no context.
    let mesh = Mesh::start(
        "mesh",
        &policy,
        "rate-limit,tensor-guard",
        None,
        |bootstrap, _| {
            meshed(
                bootstrap,
                &["tensorgate.rate-limit", "tensorgate.tensor-guard"],
            );
            before(bootstrap, behind);
        },
    )
    .await;
    let gate = mesh.gate;

    let bearer = |token: &str| ("authorization", format!("Bearer {token}"));
    let key = ("x-api-key", policy::key("rate-1"));
    let wrong = VALID.replace("[1, 2]", "[1, 2, 3]");
    let said = ("tg_identity", r#"{"client": "rate-1"}"#.to_owned());
    let context = ("x-tensorgate-context", "v1.a.b".to_owned());
    let ok = (200, None);
    let no = |status: u16, reason: &str| (status, Some(reason.to_owned()));
    for (what, fields, body, expected) in [
        ("a known caller", vec![bearer(KNOWN)], VALID, ok.clone()),
        (
            "a caller whom the policy does not know",
            vec![bearer(UNKNOWN)],
            VALID,
            no(401, "unauthenticated"),
        ),
        ("no token", vec![], VALID, no(401, "unauthenticated")),
        (
            "a key, which is not theirs to read",
            vec![key],
            VALID,
            no(401, "unauthenticated"),
        ),
        (
            "a token that was changed",
            vec![bearer(&KNOWN.replace('.', ".A"))],
            VALID,
            no(401, "unauthenticated"),
        ),
        (
            "a caller who says it is another",
            vec![bearer(UNKNOWN), said],
            VALID,
            no(400, "ambiguous-request"),
        ),
        (
            "a context of a client's own",
            vec![bearer(KNOWN), context],
            VALID,
            no(400, "ambiguous-request"),
        ),
        (
            "wrong tensors",
            vec![bearer(KNOWN)],
            &wrong,
            no(400, "size-mismatch"),
        ),
        ("the second", vec![bearer(KNOWN)], VALID, ok.clone()),
        ("the third", vec![bearer(KNOWN)], VALID, ok.clone()),
        ("the last of its rate", vec![bearer(KNOWN)], VALID, ok),
        (
            "one more than its rate",
            vec![bearer(KNOWN)],
            VALID,
            no(429, "rate-limited"),
        ),
    ] {
        assert_eq!(send(gate, &fields, body).await, expected, "{what}");
    }
    let heads = seen.lock().unwrap().clone();
    assert_eq!(heads.len(), 4, "{heads:?}");
    for head in heads {
        assert!(!head.contains("x-tensorgate-"), "{head}");
        assert!(head.starts_with(&format!("POST {PATH} ")), "{head}");
    }
}

/// Any key: the server behind reads no context.
const CONTEXT_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_alone_forwards_claims_to_any_server_and_keys_to_none() {
    let mut policy = serde_json::to_value(policy::vectors_policy("claims.json")).unwrap();
    policy["listen"]["api_key"] = json!({"cookie": "tg-key", "query": "api_key"});
    policy["issuers"]["mesh"] = json!({
        "issuer": "https://mesh.example", "audiences": ["tensorgate"], "algorithms": ["ES256"], "max_lifetime_s": 3_155_760_000_u64,
        "jwks": serde_json::from_str::<Value>(JWKS).unwrap(),
        "claim_to_headers": [{"claim": "sub", "header": "x-user"}, {"claim": "iss", "header": "x-user-issuer"}, {"claim": "groups", "header": "x-user-groups"}]
    });
    policy["clients"]["mesh"] = json!({"jwt": {"issuer": "mesh", "subject": "svc-web"}});
    policy["grants"][0]["clients"] = json!(["scorer", "web", "plain", "mesh"]);
    let (behind, seen) = upstream().await;
    let mesh = Mesh::start("auth-alone", &policy, "auth", Some(CONTEXT_KEY), |bootstrap, folder| {
        before(bootstrap, behind);
        let format = "%REQ(:PATH)%|%REQ(X-ENVOY-ORIGINAL-PATH)%|%REQ(COOKIE)%|%REQ(X-USER)%|%RESPONSE_CODE%\n";
        log_access(bootstrap, folder, format);
    })
    .await;
    let (right, wrong) = (policy::key("scorer"), policy::key("unknown"));
    let query = |query: &str| format!("{PATH}?{query}");
    let forged = ("x-user", "root".to_owned());
    let token = ("authorization", format!("Bearer {KNOWN}"));
    let cookie = |key: &str| ("cookie", format!("a=1; tg-key={key}"));
    for (path, fields, expected) in [
        (
            PATH.to_owned(),
            vec![token, forged.clone(), ("x-user-groups", "admin".to_owned())],
            200,
        ),
        (
            query(&format!("api_key={right}")),
            vec![forged.clone()],
            200,
        ),
        (PATH.to_owned(), vec![cookie(&right), forged.clone()], 200),
        (query(&format!("api_key={wrong}")), vec![], 401),
        (PATH.to_owned(), vec![cookie(&wrong)], 401),
        (query(&format!("a=1&api_key={right}")), vec![], 404),
        (
            query(&format!("api_key={right}&API_KEY={wrong}")),
            vec![],
            400,
        ),
    ] {
        let mut all = vec![("content-type", "application/json".to_owned())];
        all.extend(fields);
        let reply = http1::send(
            mesh.gate,
            "POST",
            &path,
            &all,
            VALID.as_bytes(),
            Framing::Length,
        )
        .await
        .unwrap();
        assert_eq!(reply.status, expected, "{path}: {reply:?}");
    }
    let heads = seen.lock().unwrap().clone();
    let [by_token, by_query, by_cookie] = heads.as_slice() else {
        panic!("{heads:#?}")
    };
    for (head, user) in [(by_token, true), (by_query, false), (by_cookie, false)] {
        assert!(head.starts_with(&format!("POST {PATH} ")), "{head}");
        assert_eq!(head.contains("x-user: svc-web"), user, "{head}");
        assert_eq!(
            head.contains("x-user-issuer: https://mesh.example"),
            user,
            "{head}"
        );
        for gone in [
            right.as_str(),
            "root",
            "x-user-groups",
            "cookie",
            "authorization",
        ] {
            assert!(!head.contains(gone), "{gone}: {head}");
        }
    }
    let log = mesh.folder.join("access.log");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    tensorgate_tests::ask::met("every request is in Envoy's log", || {
        lines().lines().count() >= 7
    })
    .await;
    assert!(!lines().contains("tg_"), "{}", lines());
    assert!(
        lines().contains(&format!("{PATH}|-|-|svc-web|200")),
        "{}",
        lines()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_cannot_hold_headers_is_detected_and_serves_no_request() {
    let policy = serde_json::to_value(policy::vectors_policy("main.json")).unwrap();
    let (behind, seen) = upstream().await;
    let key = Some(CONTEXT_KEY);
    let mesh = Mesh::start("hold-unset", &policy, "gate", key, |bootstrap, _| {
        before(bootstrap, behind);
        let filters = manager(bootstrap)["http_filters"].as_array_mut().unwrap();
        let config = filters[0]["typed_config"]["config"]
            .as_object_mut()
            .unwrap();
        config.remove("allow_on_headers_stop_iteration").unwrap();
    })
    .await;
    let fields = [("x-api-key", policy::key("scorer"))];
    // The first request of each worker, and those after it.
    for _ in 0..8 {
        let answer = tokio::time::timeout(PATIENCE, send(mesh.gate, &fields, VALID)).await;
        let answer = answer.expect("no request hangs");
        assert_eq!(answer, (503, Some("overloaded".to_owned())));
    }
    let log = mesh.log();
    let named = "configuration: headers: hold needs allow_on_headers_stop_iteration";
    let about: Vec<_> = log.lines().filter(|line| line.contains(named)).collect();
    assert!(
        (1..=2).contains(&about.len()),
        "one line for each worker: {log}"
    );
    assert!(seen.lock().unwrap().is_empty());
}
