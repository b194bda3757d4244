//! Tokens that gates share. They are reserved before a request goes on and refunded to all gates
//! when its answer has used fewer. They stay charged when the usage is unknown.

use serde_json::json;
use tensorgate_client::http1::{self, Framing};
use tensorgate_client::redis::Redis;
use tensorgate_policy::values::Scope;
use tensorgate_policy_compiler::raw::Policy;
use tensorgate_tests::ask::{self, PATIENCE};
use tensorgate_tests::{Lease, Stack, policy};

use super::{CHAINS, Counter, PATIENT_MS};

/// The quota of a window.
const HELD: u64 = 210;
/// The most tokens that a request can use.
const RESERVED: u64 = 98;
/// The tokens that a complete answer of the stand-in reports as used.
const USED: u64 = 6;

/// The vectors' policy, with 210 tokens a month for a client over all gates together.
fn tokens(counter: &Counter, timeout_ms: u64) -> Policy {
    let mut policy = policy::vectors_policy("openai.json");
    policy.rate_limit_service = Some(counter.service(timeout_ms));
    let mut grants = policy.grants.iter_mut();
    let grant = grants.find(|grant| grant.name.as_deref() == Some("tokens"));
    grant.unwrap().cost.as_mut().unwrap().scope = Scope::Global;
    policy
}

async fn chat(gate: &Stack, client: &str) -> u16 {
    let body =
        json!({"model": "plain", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let fields = ask::fields(&policy::key(client));
    let path = "/v1/chat/completions";
    let reply = http1::send(
        gate.gate,
        "POST",
        path,
        &fields,
        body.as_bytes(),
        Framing::Length,
    );
    reply.await.unwrap().status
}

/// Waits until every unused reservation is refunded: the refund follows the answer.
async fn settled(redis: &Redis) {
    let none = async {
        loop {
            let keys = redis.keys().await.unwrap();
            if !keys.iter().any(|key| key.contains(":reserved:")) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, none).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unused_tokens_are_refunded_to_every_gate() {
    for chain in CHAINS {
        let counter = Counter::start("tokens").await;
        let policy = tokens(&counter, PATIENT_MS);
        let gates = Lease::two(policy, chain).await;
        let mut passed = 0;
        while chat(&gates[usize::from(passed % 2 == 1)], "cost-9").await == 200 {
            passed += 1;
            settled(&counter.redis).await;
        }
        assert_eq!(passed, 1 + (HELD - RESERVED) / USED, "{chain}");
    }
}
