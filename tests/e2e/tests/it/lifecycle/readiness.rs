//! One of two backends is down: its model is unready, while the gate and the other model stay
//! ready.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tensorgate_client::http1::{self, Framing};
use tensorgate_client::stand_in::http_json::{Act, Server};
use tensorgate_policy_compiler::raw::Policy;
use tensorgate_tests::{Stack, ask, policy};

/// Longer than the gate takes to notice that a backend came or went.
const PATIENCE: Duration = Duration::from_secs(30);
/// The readiness gauge of the model whose backend goes and comes.
const GAUGE: &str = "tensorgate_host_model_ready{model=\"own\",version=\"1\"}";

/// The vectors' policy, and a model `own` whose backend is at this address.
fn with_another_backend(address: SocketAddr, most: u32) -> Policy {
    let mut policy = serde_json::to_value(policy::vectors_policy("main.json")).unwrap();
    policy["backends"]["own"] = json!({
        "kind": "http-json", "endpoints": [format!("http://{address}")], "max_in_flight": 4,
        "queue": 4, "timeout_ms": 2000, "health_check": {"interval_s": 1, "path": "/readyz"}
    });
    policy["models"]["own"] = json!({
        "backend": "own", "versions": ["1"], "protocols": ["oip-rest", "json"],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [{"max": 8}], "range": [0, most]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
        "json": {"route": "/own", "inputs": {"x": "/x"}, "outputs": {"y": "/y"}}
    });
    let grants = policy["grants"].as_array_mut().unwrap();
    let own = json!(["own"]);
    grants.push(json!({"name": "own", "clients": ["scorer"], "models": own, "operations": ["infer", "ready"]}));
    grants.push(
        json!({"name": "vec", "clients": ["scorer"], "models": ["vec"], "operations": ["ready"]}),
    );
    serde_json::from_value(policy).unwrap()
}

async fn get(gate: SocketAddr, path: &str) -> u16 {
    let fields = ask::fields(&policy::key("scorer"));
    let reply = http1::send(gate, "GET", path, &fields, b"", Framing::Length).await;
    reply.unwrap().status
}

/// The status of an inference with the model `own`.
async fn infer(gate: SocketAddr) -> u16 {
    let fields = ask::fields(&policy::key("scorer"));
    let body = br#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}"#;
    let path = "/v2/models/own/infer";
    let reply = http1::send(gate, "POST", path, &fields, body, Framing::Length).await;
    reply.unwrap().status
}

/// Checks what must hold in every state of the backend of the model `own`.
async fn the_rest_is_ready(stack: &Stack) {
    assert_eq!(ask::good(stack.gate, &[]).await.unwrap().status, 200);
    for path in [
        "/v2/health/ready",
        "/v2/health/live",
        "/v2/models/vec/ready",
    ] {
        assert_eq!(get(stack.gate, path).await, 200, "{path}");
    }
    let (status, said) = stack.admin("/readyz").await;
    assert_eq!(status, 200, "{said}");
}

/// Waits until clients and the metrics see the model as ready, or as not ready.
async fn comes_to(stack: &Stack, ready: bool) {
    let began = Instant::now();
    let gauge = format!("{GAUGE} {}\n", u8::from(ready));
    loop {
        let status = get(stack.gate, "/v2/models/own/ready").await;
        let counted = stack.admin("/metrics").await.1.contains(&gauge);
        if (status == 200) == ready && counted {
            return;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "never: ready is {ready}: {status} {counted}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_backend_makes_its_own_model_unready_and_nothing_else() {
    let answers = || Act::Say(200, r#"{"y": 1.5}"#.to_owned());
    // An address of its own, so that no other test's server takes the port while it is closed.
    let server = Server::start_at("127.0.37.1:0".parse().unwrap(), answers()).await;
    let address = server.address;
    drop(server);

    // The gate starts.
    let mut stack = Stack::start("dead-backend", with_another_backend(address, 10)).await;
    let unready = stack.ready["unready"][0].as_str().unwrap();
    assert!(unready.contains(r#"model "own" version "1""#), "{unready}");
    the_rest_is_ready(&stack).await;
    comes_to(&stack, false).await;
    assert_eq!(infer(stack.gate).await, 503);
    let (_, said) = stack.admin("/readyz").await;
    assert!(said.contains(r#"model "own" version "1""#), "{said}");
    // The host writes its log a little after it answers.
    let told = || stack.log("host.log").contains("model is not ready");
    ask::met("its log says it", told).await;

    // The gate reloads.
    stack.write_policy(with_another_backend(address, 20));
    let told = stack.reloaded().await;
    let line = told.last().unwrap();
    assert_eq!(line["reloaded"], true, "{told:?}");
    let unready = line["unready"][0].as_str().unwrap();
    assert!(unready.contains(r#"model "own" version "1""#), "{unready}");
    the_rest_is_ready(&stack).await;
    comes_to(&stack, false).await;

    // The backend starts, and stops.
    let server = Server::start_at(address, answers()).await;
    comes_to(&stack, true).await;
    assert_eq!(infer(stack.gate).await, 200);
    the_rest_is_ready(&stack).await;
    let told = || stack.log("host.log").contains("model is ready");
    ask::met("its log says it", told).await;
    drop(server);
    comes_to(&stack, false).await;
    the_rest_is_ready(&stack).await;
    assert!(stack.stop().await.success());
}
