//! A guardrail on a real Envoy, called as Agent Router's HTTP provider calls it.

use serde_json::{Value, json};
use tensorgate_client::Reply;
use tensorgate_client::http1::{self, Framing};
use tensorgate_tests::{Lease, Stack, policy};

/// One request of the router, with its API key as a bearer token.
async fn analyze(stack: &Stack, text: &str, stage: &str) -> Reply {
    let bearer = format!("Bearer {}", policy::key("scorer"));
    let fields = [
        ("content-type", "application/json"),
        ("authorization", bearer.as_str()),
    ];
    let fields = fields.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    let body = json!({"text": text, "context": {"stage": stage}}).to_string();
    let (body, framing) = (body.as_bytes(), Framing::Length);
    http1::send(stack.gate, "POST", "/analyze", &fields, body, framing)
        .await
        .unwrap()
}

/// The text after the router's action `Mask`, from findings alone.
fn masked(text: &str, answer: &Value, mask: &str) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for finding in answer["findings"].as_array().unwrap().iter().rev() {
        let offset = |name: &str| usize::try_from(finding[name].as_u64().unwrap()).unwrap();
        characters.splice(offset("start")..offset("end"), mask.chars());
    }
    characters.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_gets_what_to_do_with_a_text_or_an_error() {
    let stack = Lease::of(policy::vectors_policy("guardrail.json")).await;
    let reply = analyze(&stack, "What is the weather?", "input").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let content_type = reply.header("content-type");
    assert_eq!(content_type.as_deref(), Some("application/json"));
    assert_eq!(reply.json(), Some(json!({"action": "allow"})));

    let text = "Gr\u{fc}\u{df}e \u{1f44b} an jane@example.com, 4111 1111 1111 1111";
    let expected = "Gr\u{fc}\u{df}e \u{1f44b} an [REDACTED], [REDACTED]";
    for stage in ["input", "output"] {
        let reply = analyze(&stack, text, stage).await;
        let answer = reply.json().unwrap();
        assert_eq!(answer["action"], "modify", "{reply:?}");
        assert_eq!(answer["replacement"], expected);
        assert_eq!(masked(text, &answer, "[REDACTED]"), expected);
        let types = answer["findings"].as_array().unwrap().iter();
        let types: Vec<_> = types.map(|finding| finding["type"].clone()).collect();
        assert_eq!(types, ["EMAIL_ADDRESS", "CREDIT_CARD"]);
    }

    // A mask is longer than some addresses: no replacement beyond the bound is passed on.
    let reply = analyze(&stack, &"a@b.cc ".repeat(146), "input").await;
    let outcome = (reply.status, reply.reason());
    assert!(reply.status >= 400, "{outcome:?}");
    let reply = analyze(&stack, &"a".repeat(1_025), "input").await;
    let outcome = (reply.status, reply.reason());
    assert_eq!(outcome, (400, Some("item-too-long".to_owned())));
    assert!(
        stack.backend.seen().is_empty(),
        "nothing is behind a guardrail"
    );
}
