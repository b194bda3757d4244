//! Bodies far larger than what Envoy buffers, through a real Envoy. They arrive whole at the
//! backend, Envoy's memory stays flat, and a fault in the last element stops a request before the
//! backend acts on it.

use prost::Message;
use tensorgate_client::Reply;
use tensorgate_client::http1::{self, Framing};
use tensorgate_policy_compiler::raw::{ByteSize, Judge, Policy};
use tensorgate_tests::stack::memory::envoy_peak_kib;
use tensorgate_tests::{Lease, Stack, ask, policy};
use tensorgate_wire::proto::ModelInferRequest;
use tensorgate_wire::proto::model_infer_request::InferInputTensor;

/// Elements of a request: 32 MiB of them.
const ELEMENTS: usize = 8 << 20;
/// How much of a body Envoy buffers for the filter.
const HOLD_BYTES: u64 = 1 << 20;
/// How far Envoy's peak may grow over all these requests, in KiB. It covers the buffered part of
/// one body, a few windows and reads, and copies of pieces in one VM per worker. It is much less
/// than one body.
const GROWTH_KIB: u64 = 20 << 10;

fn large_policy(buffered_bytes: u64) -> Policy {
    let mut raw = policy::vectors_policy("main.json");
    let limits = &mut raw.listen.limits;
    limits.body_bytes = (40 << 20).into();
    limits.hold_bytes = Some(ByteSize(HOLD_BYTES));
    limits.buffered_bytes = buffered_bytes.into();
    limits.timeout_ms = 30_000.into();
    policy::add_big_model(&mut raw, ELEMENTS as u64);
    for backend in raw.backends.values_mut() {
        backend.timeout_ms = 20_000.into();
    }
    raw
}

/// Elements in raw form. No two neighbours are equal, so a piece that is lost or moved is noticed.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_32_mib_arrives_whole_and_envoys_memory_stays_flat() {
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

    // The last element of all. The host has everything before it when it checks it, and still the
    // backend does not act on the request.
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

    // The kernel counts in pages that each core adds later: a peak may read as a little less.
    let growth = envoy_peak_kib(&stack).saturating_sub(before);
    assert!(
        growth < GROWTH_KIB,
        "Envoy's peak grew by {growth} KiB over bodies of 32 MiB"
    );
    println!("envoy's peak: {before} KiB, and {growth} KiB more with bodies of 32768 KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_without_memory_for_a_body_and_its_tensors_answers_overloaded() {
    // Memory for the body, but not for its tensors.
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

/// A connection that is open while the policy changes stays with its listener and that listener's
/// buffers. The filter judges all bodies that fit into them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_hold_bytes_truncates_no_body() {
    const BYTES: usize = 3 << 20;
    let holding = |bytes: u64| {
        let mut policy = large_policy(256 << 20);
        policy.listen.limits.hold_bytes = Some(ByteSize(bytes));
        policy.listen.judge = Some(Judge::Envoy);
        policy
    };
    let json = format!(
        r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{}],"parameters":{{"binary_data_size":{BYTES}}}}}]}}"#,
        BYTES / 4
    );
    let whole = bytes::Bytes::from([json.as_bytes(), &vec![0; BYTES]].concat());
    let mut stack = Lease::of(holding(HOLD_BYTES)).await;
    // A larger value, for which the old listener's buffer is too small, and then a smaller one.
    for hold_bytes in [8 * HOLD_BYTES, HOLD_BYTES] {
        let stream = tokio::net::TcpStream::connect(stack.gate).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for changed in [false, true] {
            if changed {
                stack.reload(holding(hold_bytes)).await;
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
