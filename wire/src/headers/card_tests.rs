//! Heads of requests for the card of a model, under a policy.

#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use tensorgate_policy::request::{Identity, Operations, Proofs};

use super::*;

fn policy() -> Policy {
    let chat = json!({
        "backend": "llm", "versions": ["1"], "protocols": ["openai"],
        "openai": {"embeddings": {"max_items": 4, "max_item_bytes": 64}},
    });
    let rate = json!({"quota": 1, "window_s": 1, "burst": 1});
    let policy = json!({
        "version": 1,
        "listen": {"address": "127.0.0.1:8080"},
        "clients": {
            "reader": {"api_keys": [{"sha256": "0".repeat(64)}]},
            "scorer": {"api_keys": [{"sha256": "1".repeat(64)}]},
        },
        "backends": {
            "llm": {"kind": "openai", "endpoints": ["http://127.0.0.1:8000"]},
            "tf": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"]},
        },
        "models": {
            "assistant": chat, "org/assistant-8b": chat, "org/metadata": chat,
            "org": {
                "backend": "tf", "versions": ["1"], "protocols": ["tf-serving-rest"],
                "inputs": [{"name": "x", "datatype": "INT64", "shape": [1]}],
                "outputs": [{"name": "y", "datatype": "INT64", "shape": [1]}],
            },
        },
        "grants": [
            {
                "name": "reading", "clients": ["reader"], "operations": ["metadata", "ready"],
                "models": ["assistant", "org/assistant-8b", "org/metadata", "org"],
                "rate": rate,
            },
            {
                "name": "scoring", "clients": ["scorer"], "operations": ["infer"],
                "models": ["assistant"], "rate": rate,
            },
        ],
    });
    let raw: tensorgate_policy_compiler::raw::Policy = serde_json::from_value(policy).unwrap();
    tensorgate_policy_compiler::validate::validate(&raw)
        .unwrap()
        .0
}

/// The model whose card a client gets.
fn card(client: &str, method: &str, path: &str) -> Option<String> {
    card_for(
        Identity::Client(client.into()),
        Operations::default(),
        method,
        path,
    )
}

fn card_for(identity: Identity, withheld: Operations, method: &str, path: &str) -> Option<String> {
    let fields = [(":method", method), (":path", path), (":authority", "gate")];
    let head = ReadHead::read(&fields, true);
    match head
        .into_head_under(identity, Proofs::NONE, withheld, &policy())
        .route
    {
        Route::Model {
            protocol: Protocol::OpenAi,
            operation: Operation::Metadata,
            model,
            ..
        } => model.map(Cow::into_owned),
        _ => None,
    }
}

#[test]
fn a_granted_name_in_any_spelling_is_a_card() {
    for (path, expected) in [
        ("/v1/models/assistant", Some("assistant")),
        ("/v1/models/org/assistant-8b", Some("org/assistant-8b")),
        ("/v1/models/org%2Fassistant-8b", Some("org/assistant-8b")),
        ("/v1/models/org%2fassistant-8b", Some("org/assistant-8b")),
        ("/v1/models/assistant?x=1", Some("assistant")),
        ("/v1/models/org%252Fassistant-8b", None),
        ("/v1/models/org/../assistant", None),
        ("/v1/models/assistant/", None),
        ("/v1/models/assistant/versions/1", None),
        ("/v1/models/%ff", None),
        ("/v1/models/", None),
        ("/v1/models", None),
        // TF Serving's metadata of the model `org`.
        ("/v1/models/org/metadata", None),
        ("/v1/models/org", None),
    ] {
        assert_eq!(card("reader", "GET", path).as_deref(), expected, "{path}");
    }
}

#[test]
fn without_a_grant_for_metadata_nothing_changes() {
    let path = "/v1/models/assistant";
    assert_eq!(card("scorer", "GET", path), None);
    assert_eq!(card("stranger", "GET", path), None);
    assert_eq!(card("reader", "DELETE", path), None);
    let all = Operations::default;
    assert_eq!(card_for(Identity::Missing, all(), "GET", path), None);
    let reader = || Identity::Client("reader".into());
    assert!(card_for(reader(), all(), "GET", path).is_some());
    // The token lacks the scope.
    let withheld = [Operation::Metadata].into_iter().collect();
    assert_eq!(card_for(reader(), withheld, "GET", path), None);
}
