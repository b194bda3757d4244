//! Bodies far larger than the part of them that the gate buffers, through a real Envoy. They arrive
//! whole at the backend, Envoy's memory stays flat, and a fault in the last element stops a request
//! before the backend acts on it. Faults are also found in the middle of a body of any datatype, in
//! an element that two pieces share.

use prost::Message;
use tensorgate_client::Reply;
use tensorgate_client::http1::{self, Framing};
use tensorgate_policy::raw::{ByteSize, Dim, Policy};
use tensorgate_tests::stack::memory::envoy_peak_kib;
use tensorgate_tests::{Lease, Stack, ask, policy};
use tensorgate_wire::proto::ModelInferRequest;
use tensorgate_wire::proto::model_infer_request::InferInputTensor;

/// Elements of a request: 32 MiB of them.
const ELEMENTS: usize = 8 << 20;
/// How much of a body the gate buffers.
const HOLD_BYTES: u64 = 1 << 20;
/// How far Envoy's peak may grow over all these requests, in KiB. It covers the buffered part of
/// one body, a few windows and reads, and copies of pieces in one VM per worker. It is much less
/// than one body.
const GROWTH_KIB: u64 = 20 << 10;

fn large_policy(buffered_bytes: u64) -> Policy {
    let mut raw = policy::vectors_policy("main.json");
    let limits = &mut raw.listen.limits;
    limits.body_bytes = ByteSize(40 << 20);
    limits.hold_bytes = Some(ByteSize(HOLD_BYTES));
    limits.buffered_bytes = ByteSize(buffered_bytes);
    limits.timeout_ms = 30_000;
    policy::add_big_model(&mut raw, ELEMENTS as u64);
    for backend in raw.backends.values_mut() {
        backend.timeout_ms = Some(20_000);
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

    // The last element of all. By the time it is checked everything before it has been forwarded,
    // and still the backend does not act on the request.
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
/// buffers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_hold_bytes_truncates_no_body() {
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

/// A tensor of one datatype, whose elements all have the same size. An item of `BYTES` counts with
/// its length prefix.
struct Stretch {
    input: &'static str,
    datatype: &'static str,
    element: &'static [u8],
    /// How many bytes of the tested element are in the first piece; the others are in the next.
    split: usize,
    /// An element that is rejected, and the reason; a longer element moves the ones after it.
    bad: &'static [u8],
    reason: &'static str,
}

/// Elements of a tensor: far more than is buffered, in every datatype.
const STRETCH_ELEMENTS: usize = 60_000;
/// How much of a body the gate buffers in that test.
const STRETCH_HOLD_BYTES: u64 = 8 << 10;
/// The tested element is where this piece and the next meet. The number is odd and no multiple of
/// 3, so that for every element some piece length fits.
const MEETING: usize = 25;

/// All widths, and each kind of check. Where possible, the good and the bad element differ only in
/// the byte after the split. A reader that forgot the previous piece would accept the bad one.
const STRETCHES: [Stretch; 8] = [
    Stretch {
        input: "int64",
        datatype: "INT64",
        element: &[0xff; 8],
        split: 5,
        // -1 - 2^48, out of range.
        bad: &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xff],
        reason: "out-of-range",
    },
    Stretch {
        input: "int64",
        datatype: "INT64",
        element: &[100, 0, 0, 0, 0, 0, 0, 0],
        split: 1,
        bad: &[101, 0, 0, 0, 0, 0, 0, 0],
        reason: "out-of-range",
    },
    Stretch {
        input: "bool",
        datatype: "BOOL",
        element: &[1],
        // The split is before the element's first byte.
        split: 0,
        bad: &[2],
        reason: "datatype",
    },
    Stretch {
        input: "bool",
        datatype: "BOOL",
        element: &[0],
        // One byte is in the first piece.
        split: 1,
        bad: &[255],
        reason: "datatype",
    },
    Stretch {
        input: "fp16",
        datatype: "FP16",
        element: &[0x01, 0x3c],
        split: 1,
        // A NaN because of its second byte alone.
        bad: &[0x01, 0x7c],
        reason: "not-finite",
    },
    Stretch {
        input: "bf16",
        datatype: "BF16",
        element: &[0x80, 0x3f],
        split: 1,
        // An infinity because of its second byte alone.
        bad: &[0x80, 0x7f],
        reason: "not-finite",
    },
    Stretch {
        input: "bytes",
        datatype: "BYTES",
        element: b"\x05\0\0\0abcde",
        // The split is within an item's length.
        split: 2,
        bad: b"\x09\0\0\0abcdefghi",
        reason: "item-too-long",
    },
    Stretch {
        input: "bytes",
        datatype: "BYTES",
        element: b"\x05\0\0\0abcde",
        // A length beyond the tensor's end because of its last byte.
        split: 3,
        bad: b"\x05\0\0\x7fabcde",
        reason: "size-mismatch",
    },
];

fn stretches_policy() -> Policy {
    let mut raw = policy::vectors_policy("main.json");
    let limits = &mut raw.listen.limits;
    limits.body_bytes = ByteSize(2 << 20);
    limits.hold_bytes = Some(ByteSize(STRETCH_HOLD_BYTES));
    limits.buffered_bytes = ByteSize(64 << 20);
    let mut wide = raw.models["types"].clone();
    for input in &mut wide.inputs {
        if input.name.as_deref() != Some("mask") {
            input.shape = Some(vec![Dim::Bounded {
                name: None,
                min: None,
                max: Some(STRETCH_ELEMENTS as u64),
            }]);
        }
        if input.name.as_deref() == Some("int64") {
            input.range = Some((-100.0, 100.0));
        }
    }
    raw.models.insert("wide".into(), wide);
    raw.grants[0].models.push("wide".into());
    raw
}

/// The length of the pieces, and the index of the tested element, so that its given byte begins a
/// piece.
fn piece_bytes(start: usize, stretch: &Stretch) -> (usize, usize) {
    let width = stretch.element.len();
    (1_000..1_000 + width)
        .find_map(|piece| {
            let place = (MEETING * piece - stretch.split).checked_sub(start)?;
            (place % width == 0).then_some((piece, place / width))
        })
        .unwrap()
}

async fn send_stretch(
    stack: &Stack,
    stretch: &Stretch,
    spoiled: bool,
    by_grpc: bool,
) -> (Reply, Vec<u8>) {
    let raw = |index: usize| {
        let mut elements = vec![stretch.element; STRETCH_ELEMENTS];
        if spoiled {
            elements[index] = stretch.bad;
        }
        elements.concat()
    };
    // The head declares the total length, so it is the same wherever the tested element is.
    let bytes = raw(0).len();
    if by_grpc {
        let tensor = InferInputTensor {
            name: stretch.input.into(),
            datatype: stretch.datatype.into(),
            shape: vec![i64::try_from(STRETCH_ELEMENTS).unwrap()],
            ..Default::default()
        };
        let message = |raw: Vec<u8>| {
            let request = ModelInferRequest {
                model_name: "wide".into(),
                inputs: vec![tensor.clone()],
                raw_input_contents: vec![raw.into()],
                ..Default::default()
            };
            request.encode_to_vec()
        };
        // A frame's flag and length come before the message.
        let start = 5 + message(raw(0)).len() - bytes;
        let (piece, index) = piece_bytes(start, stretch);
        let raw = raw(index);
        let message = message(raw.clone());
        let reply = ask::grpc_message(stack.gate, &message, piece, None).await;
        return (reply.unwrap(), raw);
    }
    let json = format!(
        r#"{{"inputs":[{{"name":"{}","datatype":"{}","shape":[{STRETCH_ELEMENTS}],"parameters":{{"binary_data_size":{bytes}}}}}]}}"#,
        stretch.input, stretch.datatype
    );
    let (piece, index) = piece_bytes(json.len(), stretch);
    let raw = raw(index);
    let fields = [
        ("x-api-key", policy::key("scorer")),
        ("inference-header-content-length", json.len().to_string()),
    ];
    let body = [json.as_bytes(), &raw].concat();
    let reply = http1::send(
        stack.gate,
        "POST",
        "/v2/models/wide/infer",
        &fields,
        &body,
        Framing::Chunked(piece),
    );
    (reply.await.unwrap(), raw)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elements_split_between_two_pieces_are_checked_in_every_datatype() {
    let stack = Stack::start("large-types", stretches_policy()).await;
    let mut sent = Vec::new();
    for stretch in &STRETCHES {
        for by_grpc in [false, true] {
            let what = format!(
                "{} split at {}, gRPC: {by_grpc}",
                stretch.datatype, stretch.split
            );
            let (reply, raw) = send_stretch(&stack, stretch, false, by_grpc).await;
            let passed = if by_grpc {
                reply.grpc_status() == Some(0)
            } else {
                reply.status == 200
            };
            assert!(passed, "{what}: {reply:?}");
            sent.push(raw);
            let (reply, _) = send_stretch(&stack, stretch, true, by_grpc).await;
            assert_eq!(
                reply.reason().as_deref(),
                Some(stretch.reason),
                "{what}: {reply:?}"
            );
        }
    }
    let seen = stack.backend.seen();
    assert_eq!(seen.len(), sent.len(), "a refused body reached the backend");
    for (seen, sent) in seen.iter().zip(&sent) {
        assert!(
            seen.message.raw_input_contents[0] == *sent,
            "the backend got other bytes"
        );
    }
}
