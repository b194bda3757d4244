//! The gate as control planes load it: headers go on before the body is judged, and Envoy's buffers
//! are smaller than the bodies. One gate for each control plane runs every check: first its filter
//! judges small bodies only, as by default, then all that it may copy.

pub mod bodies;
mod clients;
mod heads;
mod memory;

use serde_json::json;
use tensorgate_policy_compiler::raw::{ByteSize, Judge, Policy};
use tensorgate_tests::{Setup, Stack, policy};

/// The most elements of a tensor: 12 MiB of FP32.
const MOST_ELEMENTS: u64 = 3 << 20;
/// The most bytes that the filters of one proxy may buffer for all bodies.
const BUFFERED_BYTES: u64 = 128 << 20;
/// The longest body that a filter may copy to judge it.
const HOLD_BYTES: u64 = 4 << 20;
/// The longest time that a request may take: 80 bodies are begun within it, also on a busy machine.
const STREAM_MS: u64 = 25_000;
/// The client with a limit on requests in flight.
const LIMITED: &str = "nobody";
const IN_FLIGHT: usize = 8;

/// The vectors' policy with a model for large tensors, and a client with few requests in flight.
fn loaded_policy() -> Policy {
    let mut policy = policy::vectors_policy("main.json");
    let limits = &mut policy.listen.limits;
    limits.body_bytes = (16 << 20).into();
    limits.hold_bytes = Some(ByteSize(HOLD_BYTES));
    limits.buffered_bytes = BUFFERED_BYTES.into();
    limits.max_expansion = 200.into();
    limits.timeout_ms = (STREAM_MS - 5_000).into();
    limits.stream_ms = STREAM_MS.into();
    policy::add_big_model(&mut policy, MOST_ELEMENTS);
    let big = policy.models.get_mut("big").unwrap();
    big.protocols = vec!["oip-rest".into(), "oip-grpc".into()];
    big.encodings = vec!["gzip".into()];
    let limited = json!({
        "name": "limited", "clients": [LIMITED], "models": ["vec", "big"],
        "operations": ["infer"], "concurrency": IN_FLIGHT,
    });
    policy.grants.push(serde_json::from_value(limited).unwrap());
    for backend in policy.backends.values_mut() {
        backend.timeout_ms = 10_000.into();
    }
    policy
}

/// Starts a gate as a control plane loads it, and runs every check on it.
async fn check(control_plane: &str) {
    let setup = Setup {
        control_plane: Some(control_plane),
        ..Setup::default()
    };
    let name = format!("loaded-{control_plane}");
    let mut stack = Stack::start_as(&name, loaded_policy(), setup).await;
    let slow = clients::begin_slow_bodies(&stack).await;
    bodies::check(&stack).await;
    bodies::full_reads_after_a_small_one(&stack).await;
    heads::check(&stack, control_plane).await;
    clients::stream_messages(&stack).await;
    let judged = clients::flood(&stack).await;
    clients::small_frames(&stack).await;
    clients::early_answers(&stack).await;
    clients::end_slow_bodies(slow).await;
    clients::leave(&stack).await;
    clients::one_line_each(&stack, judged).await;
    let mut judged_in_envoy = loaded_policy();
    judged_in_envoy.listen.judge = Some(Judge::Envoy);
    stack.reload(judged_in_envoy).await;
    bodies::check(&stack).await;
    bodies::full_reads_after_a_small_one(&stack).await;
    memory::check(&stack).await;
    clients::lose_the_host(stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_judged_correctly_when_istio_loads_the_gate() {
    check("istio").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_judged_correctly_when_envoy_gateway_loads_the_gate() {
    check("envoy-gateway").await;
}
