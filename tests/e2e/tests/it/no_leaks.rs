//! No answer reveals what is behind the gate: neither our rejections, nor Envoy's own, nor those of
//! a host or a backend that fails.

use std::collections::BTreeMap;

use tensorgate_client::Reply;
use tensorgate_policy::Protocol;
use tensorgate_tests::backend::{Mode, SECRET};
use tensorgate_tests::stack::threads::freeze_host;
use tensorgate_tests::{Lease, Stack, ask, policy};
use tensorgate_vectors::{Driver, Expect, load};

/// What no caller may read.
const SECRETS: [&str; 15] = [
    "envoy",
    "upstream",
    "wasm",
    "tonic",
    "hyper",
    "tokio",
    "h2 ",
    "panick",
    ".rs",
    "127.0.0.1",
    "localhost",
    "host.sock",
    "triton",
    "generation",
    "backend\"",
];

/// Header fields that no answer has.
const HEADERS: [&str; 5] = [
    "server",
    "via",
    "x-powered-by",
    "x-tensorgate-context",
    "date-upstream",
];

/// Checks everything that a rejection must and must not contain.
fn check(name: &str, is_grpc: bool, reply: &Reply) -> Result<(), String> {
    let fail = |what: String| Err(format!("{name}: {what}: {reply:?}"));
    let fields = reply.headers.iter().chain(&reply.trailers);
    let mut told = String::from_utf8_lossy(&reply.body).to_lowercase();
    for (field, value) in fields {
        let (field, value) = (
            String::from_utf8_lossy(field).to_lowercase(),
            String::from_utf8_lossy(value).to_lowercase(),
        );
        if HEADERS.contains(&field.as_str()) || field.starts_with("x-envoy") {
            return fail(format!("it has a header field {field}"));
        }
        told.push_str(&format!("\n{value}"));
    }
    if let Some(secret) = SECRETS.iter().find(|secret| told.contains(**secret)) {
        return fail(format!("it says {secret:?}"));
    }
    if told.contains(&SECRET.to_lowercase()) {
        return fail("it repeats what the backend said".into());
    }
    let id = reply.header("x-request-id").unwrap_or_default();
    if !is_uuid(&id) {
        return fail(format!("its request id is {id:?}"));
    }
    let typed = match reply.grpc_status() {
        // Envoy gives an answer without a body a content type only if the request has that of gRPC.
        Some(_) => {
            reply.body.is_empty()
                && (!is_grpc
                    || reply
                        .header("content-type")
                        .is_some_and(|kind| kind.starts_with("application/grpc")))
        }
        None => {
            reply.header("content-type").as_deref() == Some("application/problem+json")
                && reply.json().is_some_and(|problem| {
                    problem
                        .get("instance")
                        .and_then(|instance| instance.as_str())
                        == Some(&id)
                })
        }
    };
    if typed {
        Ok(())
    } else {
        fail("it is not in the caller's protocol".into())
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| {
            if matches!(at, 8 | 13 | 18 | 23) {
                byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
        })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_rejection_reveals_the_upstream() {
    let stack = Lease::of(policy::vectors_policy("main.json")).await;
    let vectors = load().unwrap_or_else(|fault| panic!("{fault}"));
    let mut by_reason = BTreeMap::new();
    for vector in vectors.iter().filter(|vector| {
        vector.runs_on(Driver::Envoy) && &*vector.policy_file == "policies/main.json"
    }) {
        if let Expect::Deny { reason, .. } = vector.expect {
            by_reason
                .entry((reason, vector.request.protocol))
                .or_insert(vector);
        }
    }
    assert!(by_reason.len() > 40, "{}", by_reason.len());
    let mut wrong = Vec::new();
    for vector in by_reason.values() {
        let reply = ask::send(stack.gate, &vector.request)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", vector.id));
        let is_grpc =
            vector.request.headers.iter().any(|(name, value)| {
                name == b"content-type" && value.starts_with(b"application/grpc")
            });
        wrong.extend(check(&vector.id, is_grpc, &reply).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn both(stack: &Stack, reason: &str) {
    for protocol in [Protocol::OipRest, Protocol::OipGrpc] {
        let reply = if protocol.is_grpc() {
            ask::good_grpc(stack.gate, usize::MAX, None).await
        } else {
            ask::good(stack.gate, &[]).await
        };
        let reply = reply.unwrap_or_else(|error| panic!("{reason} {protocol:?}: {error}"));
        assert_eq!(
            reply.reason().as_deref(),
            Some(reason),
            "{protocol:?} {reply:?}"
        );
        check(reason, protocol == Protocol::OipGrpc, &reply)
            .unwrap_or_else(|fault| panic!("{fault}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_backends_messages_are_not_revealed() {
    let mut slow = policy::vectors_policy("main.json");
    for backend in slow.backends.values_mut() {
        backend.timeout_ms = 3_000.into();
    }
    let stack = Lease::of(slow).await;
    for (mode, reason) in [
        (Mode::Fails, "backend-fault"),
        (Mode::BreaksTheContract, "backend-fault"),
        (Mode::Hangs, "backend-timeout"),
    ] {
        stack.backend.set(mode);
        both(&stack, reason).await;
    }
    stack.backend.set(Mode::Zeros);
    assert_eq!(ask::good(stack.gate, &[]).await.unwrap().status, 200);
    let told = || stack.log("host.log").contains("0x51f1");
    ask::met("the log has the cause", told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_host_is_not_revealed() {
    let stack = Stack::start("no-leaks-host-down", policy::vectors_policy("main.json")).await;
    assert_eq!(ask::good(stack.gate, &[]).await.unwrap().status, 200);
    stack.kill_host().await;
    both(&stack, "backend-unavailable").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_host_is_not_revealed() {
    let mut hasty = policy::vectors_policy("main.json");
    hasty.listen.limits.timeout_ms = 500.into();
    for backend in hasty.backends.values_mut() {
        backend.timeout_ms = 300.into();
    }
    let stack = Stack::start("no-leaks-host-frozen", hasty).await;
    freeze_host(&stack).await;
    both(&stack, "backend-timeout").await;
}
