//! Bodies far larger than what the gate holds of one, through a real Envoy: they arrive whole at the backend, Envoy's memory stays
//! flat, and a fault in the last element stops a request before anybody acts on it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    reason = "tests"
)]

use prost::Message;
use tensorgate_client::Reply;
use tensorgate_client::http1::{self, Framing};
use tensorgate_policy::raw::{ByteSize, Dim, Policy};
use tensorgate_tests::{Stack, ask, policy};
use tensorgate_wire::proto::ModelInferRequest;
use tensorgate_wire::proto::model_infer_request::InferInputTensor;

/// Elements of a request: 32 MiB of them.
const ELEMENTS: usize = 8 << 20;
/// What the gate holds of a body.
const HOLD_BYTES: u64 = 1 << 20;
/// By how much Envoy's peak may grow over all these requests, KiB: what is held of one body, a few windows and reads, copies of
/// pieces in a VM a worker; much less than one body.
const GROWTH_KIB: u64 = 20 << 10;

fn large_policy(buffered_bytes: u64) -> Policy {
    let mut raw = policy::vectors_policy("main.json");
    let limits = &mut raw.listen.limits;
    limits.body_bytes = ByteSize(40 << 20);
    limits.hold_bytes = Some(ByteSize(HOLD_BYTES));
    limits.buffered_bytes = ByteSize(buffered_bytes);
    limits.timeout_ms = 30_000;
    let mut big = raw.models["vec"].clone();
    big.inputs[0].shape = Some(vec![Dim::Bounded {
        name: None,
        min: None,
        max: Some(ELEMENTS as u64),
    }]);
    raw.models.insert("big".into(), big);
    raw.grants[0].models.push("big".into());
    for backend in raw.backends.values_mut() {
        backend.timeout_ms = Some(20_000);
    }
    raw
}

/// Elements in raw form, no two neighbours alike, so that a piece lost or moved is seen.
fn elements(last: f32) -> Vec<u8> {
    let mut raw: Vec<u8> = (0..ELEMENTS)
        .flat_map(|index| ((index % 1999) as f32 - 999.5).to_le_bytes())
        .collect();
    let end = raw.len() - 4;
    raw[end..].copy_from_slice(&last.to_le_bytes());
    raw
}

async fn binary(stack: &Stack, raw: &[u8], framing: Framing) -> Reply {
    let json = format!(
        r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{ELEMENTS}],"parameters":{{"binary_data_size":{}}}}}]}}"#,
        raw.len()
    );
    let fields = [
        ("x-api-key", policy::key("scorer")),
        ("inference-header-content-length", json.len().to_string()),
    ];
    let body = [json.as_bytes(), raw].concat();
    http1::send(
        stack.gate,
        "POST",
        "/v2/models/big/infer",
        &fields,
        &body,
        framing,
    )
    .await
    .unwrap()
}

async fn grpc(stack: &Stack, raw: &[u8]) -> Reply {
    let tensor = InferInputTensor {
        name: "x".into(),
        datatype: "FP32".into(),
        shape: vec![i64::try_from(ELEMENTS).unwrap()],
        ..Default::default()
    };
    let request = ModelInferRequest {
        model_name: "big".into(),
        inputs: vec![tensor],
        raw_input_contents: vec![raw.to_vec().into()],
        ..Default::default()
    };
    ask::grpc_message(stack.gate, &request.encode_to_vec(), 1 << 20, None)
        .await
        .unwrap()
}

/// The most memory that Envoy ever had, KiB.
fn envoy_peak_kib(stack: &Stack) -> u64 {
    let peaks = stack.processes().into_iter().filter_map(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name).map(str::trim).map(str::to_owned))
        };
        line("Name:")?.starts_with("envoy").then_some(())?;
        line("VmHWM:")?.strip_suffix("kB")?.trim().parse().ok()
    });
    peaks.max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_32_mib_passes_whole_and_envoys_memory_stays_flat() {
    let stack = Stack::start("large", large_policy(256 << 20)).await;
    let raw = elements(1.0);
    assert_eq!(ask::good(stack.gate, &[]).await.unwrap().status, 200);
    let before = envoy_peak_kib(&stack);
    for framing in [Framing::Length, Framing::Chunked(100_000)] {
        let reply = binary(&stack, &raw, framing).await;
        assert_eq!(reply.status, 200, "{framing:?}: {reply:?}");
    }
    for _ in 0..2 {
        let reply = grpc(&stack, &raw).await;
        assert_eq!(reply.grpc_status(), Some(0), "{reply:?}");
    }
    let seen = stack.backend.seen();
    let large: Vec<_> = seen
        .iter()
        .filter(|seen| seen.message.model_name == "big")
        .collect();
    assert_eq!(large.len(), 4);
    for seen in large {
        assert!(
            seen.message.raw_input_contents[0] == raw,
            "the backend got other bytes"
        );
    }

    // The last element of all: everything before it has passed when it is seen, and still nobody acts on it.
    for (last, expected) in [(f32::NAN, "not-finite"), (1_000.5, "out-of-range")] {
        let bad = elements(last);
        for reply in [
            binary(&stack, &bad, Framing::Length).await,
            binary(&stack, &bad, Framing::Chunked(1 << 20)).await,
            grpc(&stack, &bad).await,
        ] {
            assert_eq!(reply.reason().as_deref(), Some(expected), "{reply:?}");
        }
    }
    let short = binary(&stack, &raw[..raw.len() - 4], Framing::Chunked(1 << 20)).await;
    assert_eq!(
        short.reason().as_deref(),
        Some("size-mismatch"),
        "{short:?}"
    );
    assert_eq!(
        stack.backend.seen().len(),
        seen.len(),
        "a refused body reached the backend"
    );
    assert_eq!(ask::good(stack.gate, &[]).await.unwrap().status, 200);

    let growth = envoy_peak_kib(&stack) - before;
    assert!(
        growth < GROWTH_KIB,
        "Envoy's peak grew by {growth} KiB over bodies of 32 MiB"
    );
    println!("envoy's peak: {before} KiB, and {growth} KiB more with bodies of 32768 KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_without_room_for_a_body_and_its_tensors_says_so() {
    // Room for the body, and not for the tensors beside it.
    let stack = Stack::start("large-no-room", large_policy(40 << 20)).await;
    let raw = elements(1.0);
    for reply in [
        binary(&stack, &raw, Framing::Length).await,
        grpc(&stack, &raw).await,
    ] {
        assert_eq!(reply.reason().as_deref(), Some("overloaded"), "{reply:?}");
    }
    assert!(stack.backend.seen().is_empty());
    assert_eq!(ask::good(stack.gate, &[]).await.unwrap().status, 200);
}

/// A connection that is open while the policy changes stays on the listener that took it, with that one's buffers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_what_is_held_cuts_no_body() {
    const BYTES: usize = 3 << 20;
    let holding = |bytes: u64| {
        let mut policy = large_policy(256 << 20);
        policy.listen.limits.hold_bytes = Some(ByteSize(bytes));
        policy
    };
    let json = format!(
        r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{}],"parameters":{{"binary_data_size":{BYTES}}}}}]}}"#,
        BYTES / 4
    );
    let whole = bytes::Bytes::from([json.as_bytes(), &vec![0; BYTES]].concat());
    let mut stack = Stack::start("large-changes", holding(HOLD_BYTES)).await;
    // More, so that the old listener's buffer is too small for what the new filter would hold; and less.
    for hold_bytes in [8 * HOLD_BYTES, HOLD_BYTES] {
        let stream = tokio::net::TcpStream::connect(stack.gate).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for changed in [false, true] {
            if changed {
                stack.write_policy(holding(hold_bytes));
                stack.hang_up().await;
                let said = stack.reloaded().await;
                assert_eq!(said.last().unwrap()["reloaded"], true, "{said:?}");
            }
            let request = http::Request::post("http://g/v2/models/big/infer")
                .header("x-api-key", policy::key("scorer"))
                .header("inference-header-content-length", json.len())
                .body(())
                .unwrap();
            let mut ready = sender.clone().ready().await.unwrap();
            let (answer, mut body) = ready.send_request(request, false).unwrap();
            body.send_data(whole.clone(), true).unwrap();
            let status = answer.await.unwrap().status();
            assert_eq!(status, 200, "{hold_bytes} bytes are held, {changed}");
        }
    }
    let stats = stack.envoy_stats("downstream_rq_too_large").await;
    let counted = "http.gate.downstream_rq_too_large: 0";
    assert!(stats.contains(counted), "{stats}");
}
