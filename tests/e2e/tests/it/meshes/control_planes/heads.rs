//! What the connection managers of control planes change in a request's head before the gate gets
//! it.

use tensorgate_client::http1::{self, Framing};
use tensorgate_tests::ask::{self, PATH, VALID};
use tensorgate_tests::{Stack, policy};

use super::bodies::outcome;

/// Paths, and the outcome of a valid request to each. The first outcome is for a proxy that
/// resolves dot segments (Istio). The second is for one that also merges doubled slashes and
/// redirects escaped ones (Envoy Gateway); its reply has our wording. The gate judges the path that
/// its proxy forwards.
const PATHS: [(&str, &str, &str); 6] = [
    (PATH, "ok", "ok"),
    ("/v2/./models/vec/infer", "ok", "ok"),
    ("/v2/repository/../models/vec/infer", "ok", "ok"),
    ("//v2/models//vec/infer", "not-an-inference-route", "ok"),
    (
        "/v2%2fmodels/vec/infer",
        "not-an-inference-route",
        "ambiguous-request",
    ),
    (
        "/v2/models/vec/infer/../../../repository/index",
        "not-an-inference-route",
        "not-an-inference-route",
    ),
];

pub async fn check(stack: &Stack, control_plane: &str) {
    let key = policy::key("scorer");
    for (path, istio, envoy_gateway) in PATHS {
        let expected = match control_plane {
            "envoy-gateway" => envoy_gateway,
            _ => istio,
        };
        let fields = ask::fields(&key);
        let body = VALID.as_bytes();
        let sent = http1::send(stack.gate, "POST", path, &fields, body, Framing::Length);
        let reply = sent.await.unwrap();
        assert_eq!(outcome(&reply), expected, "{path}: {reply:?}");
    }
    // A field that a proxy lets through reaches no backend, and the gate trusts none with a name of
    // ours.
    let underscores = match control_plane {
        "envoy-gateway" => "ambiguous-request",
        _ => "ok",
    };
    for (name, value, expected) in [
        ("x_api_key", key.as_str(), underscores),
        ("x-tensorgate-context", "v1.a.b", "ambiguous-request"),
    ] {
        let reply = ask::good(stack.gate, &[(name.as_bytes(), value.as_bytes())]).await;
        let reply = reply.unwrap();
        assert_eq!(outcome(&reply), expected, "{name}: {reply:?}");
    }
    for seen in stack.backend.seen() {
        let names = seen.fields.iter().map(|(name, _)| name.as_str());
        let unknown: Vec<_> = names.filter(|name| name.contains('_')).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
    // An id that the client chose becomes no request's id.
    let own = "8f1a2b3c-0000-4000-8000-000000000001";
    let reply = ask::good(stack.gate, &[(b"x-request-id", own.as_bytes())]).await;
    let id = reply.unwrap().header("x-request-id").unwrap();
    assert_ne!(id, own);
    stack.backend.forget();
}
