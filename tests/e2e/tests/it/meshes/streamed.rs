//! The gate before any server, without a host: it validates bodies that are too large to buffer
//! while they stream. Faults are found in the middle of a body of any datatype, also in an element
//! that two pieces share. No server gets such a body whole.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use prost::Message;
use tensorgate_client::Reply;
use tensorgate_client::http1::{self, Framing};
use tensorgate_policy::{Compiled, FilterTarget, Target};
use tensorgate_policy_compiler::raw::{ByteSize, Dim, Policy};
use tensorgate_tests::{ask, policy};
use tensorgate_wire::proto::ModelInferRequest;
use tensorgate_wire::proto::model_infer_request::InferInputTensor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::mesh::{Mesh, before, edit_compiled};

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
const ELEMENTS: usize = 60_000;
/// How much of a body the gate buffers.
const HOLD_BYTES: u64 = 8 << 10;
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
    limits.body_bytes = (2 << 20).into();
    limits.hold_bytes = Some(ByteSize(HOLD_BYTES));
    limits.buffered_bytes = (64 << 20).into();
    let mut wide = raw.models["types"].clone();
    for input in &mut wide.inputs {
        if input.name.as_deref() != Some("mask") {
            input.shape = Some(vec![Dim::Bounded {
                name: None,
                min: None,
                max: Some(ELEMENTS as u64),
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
            let offset = (MEETING * piece - stretch.split).checked_sub(start)?;
            (offset % width == 0).then_some((piece, offset / width))
        })
        .unwrap()
}

async fn send_stretch(
    gate: SocketAddr,
    stretch: &Stretch,
    spoiled: bool,
    by_grpc: bool,
) -> (Reply, Vec<u8>) {
    let raw = |index: usize| {
        let mut elements = vec![stretch.element; ELEMENTS];
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
            shape: vec![i64::try_from(ELEMENTS).unwrap()],
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
        let reply = ask::grpc_message(gate, &message, piece, None).await;
        return (reply.unwrap(), raw);
    }
    let json = format!(
        r#"{{"inputs":[{{"name":"{}","datatype":"{}","shape":[{ELEMENTS}],"parameters":{{"binary_data_size":{bytes}}}}}]}}"#,
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
        gate,
        "POST",
        "/v2/models/wide/infer",
        &fields,
        &body,
        Framing::Chunked(piece),
    );
    (reply.await.unwrap(), raw)
}

/// The content of a body in chunks, if its last chunk is there.
fn content_of(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let end = chunks.windows(2).position(|bytes| bytes == b"\r\n")?;
        let size = std::str::from_utf8(&chunks[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let rest = &chunks[end + 2..];
        if size == 0 {
            return rest.starts_with(b"\r\n").then_some(content);
        }
        content.extend_from_slice(rest.get(..size)?);
        chunks = rest.get(size + 2..)?;
    }
}

/// A server that answers each complete body, and records it.
async fn server() -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let bodies = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let bodies = Arc::clone(&bodies);
            tokio::spawn(async move {
                let mut request = Vec::new();
                while let Ok(1..) = stream.read_buf(&mut request).await {
                    if !request.ends_with(b"0\r\n\r\n") {
                        continue;
                    }
                    let head = request.windows(4).position(|bytes| bytes == b"\r\n\r\n");
                    let Some(body) = content_of(&request[head.unwrap() + 4..]) else {
                        continue;
                    };
                    bodies.lock().unwrap().push(body);
                    request.clear();
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elements_split_between_two_pieces_are_checked_in_every_datatype() {
    let policy = serde_json::to_value(stretches_policy()).unwrap();
    let (behind, seen) = server().await;
    // The server behind reads no context.
    let mesh = Mesh::start("streamed", &policy, "gate", None, |bootstrap, _| {
        before(bootstrap, behind);
        edit_compiled(bootstrap, |bytes| {
            let compiled = Compiled::load(&bytes).unwrap();
            let target = FilterTarget {
                host: false,
                ..compiled.target.filter().unwrap()
            };
            let target = Target::Filter(target);
            Compiled { target, ..compiled }.to_bytes()
        });
    })
    .await;
    let mut sent = Vec::new();
    for stretch in &STRETCHES {
        for by_grpc in [false, true] {
            let what = format!(
                "{} split at {}, gRPC: {by_grpc}",
                stretch.datatype, stretch.split
            );
            let (reply, raw) = send_stretch(mesh.gate, stretch, false, by_grpc).await;
            assert_eq!(
                (reply.status, reply.reason()),
                (200, None),
                "{what}: {reply:?}"
            );
            sent.push(raw);
            let (reply, _) = send_stretch(mesh.gate, stretch, true, by_grpc).await;
            assert_eq!(
                reply.reason().as_deref(),
                Some(stretch.reason),
                "{what}: {reply:?}"
            );
        }
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), sent.len(), "the server got a rejected body");
    for (seen, sent) in seen.iter().zip(&sent) {
        assert!(seen.ends_with(sent), "the server got other bytes");
    }
}
