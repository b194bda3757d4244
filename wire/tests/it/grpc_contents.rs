//! Elements over gRPC: typed and raw contents are converted to raw form, and values outside the
//! datatype are rejected.

use crate::common;

use common::{Proto, accepted, refusal, tensor};
use tensorgate_policy::Reason;
use tensorgate_policy::TensorData;
use tensorgate_policy::decision::BodyFormat::OipGrpcInfer;
use tensorgate_policy::tensor::DataFault;

fn new() -> Proto {
    Proto::default()
}

/// A request with one input in typed contents.
fn typed(datatype: &str, contents: Proto) -> Vec<u8> {
    let input = tensor("x", datatype, &[1]).message(5, contents);
    new().message(5, input).frame()
}

#[test]
fn typed_contents_become_exactly_what_their_datatype_specifies() {
    let kind = Err(DataFault::Kind { index: 0 });
    let overflow = |index| Err(DataFault::Overflow { index });
    let negative = |value: i64| value.cast_unsigned();
    for (datatype, contents, expected) in [
        ("BOOL", new().packed(1, [1, 0]), Ok(vec![1, 0])),
        (
            "BOOL",
            new().varint(1, 1).packed(1, []).packed(1, [0, 1]),
            Ok(vec![1, 0, 1]),
        ),
        (
            "INT8",
            new().packed(2, [negative(-128), 127]),
            Ok(vec![128, 127]),
        ),
        ("INT8", new().packed(2, [0, 128]), overflow(1)),
        (
            "INT8",
            new().varint(2, 0).varint(2, negative(-129)),
            overflow(1),
        ),
        ("INT16", new().varint(2, negative(-2)), Ok(vec![254, 255])),
        ("INT16", new().varint(2, 32768), overflow(0)),
        (
            "INT32",
            new().packed(2, [negative(-1), 1]),
            Ok(vec![255, 255, 255, 255, 1, 0, 0, 0]),
        ),
        // Parsers that truncate to 32 bits would read -1.
        ("INT32", new().packed(2, [0xffff_ffff]), overflow(0)),
        (
            "INT64",
            new().packed(3, [negative(i64::MIN)]),
            Ok(i64::MIN.to_le_bytes().to_vec()),
        ),
        ("UINT8", new().packed(4, [255]), Ok(vec![255])),
        ("UINT8", new().packed(4, [256]), overflow(0)),
        ("UINT16", new().packed(4, [65536]), overflow(0)),
        ("UINT32", new().packed(4, [0xffff_ffff]), Ok(vec![255; 4])),
        ("UINT32", new().packed(4, [1 << 32]), overflow(0)),
        ("UINT64", new().varint(5, u64::MAX), Ok(vec![255; 8])),
        (
            "FP32",
            new().bytes(6, *b"abcdefgh"),
            Ok(b"abcdefgh".to_vec()),
        ),
        (
            "FP32",
            new().fixed32(6, *b"abcd").bytes(6, *b"efgh"),
            Ok(b"abcdefgh".to_vec()),
        ),
        (
            "FP64",
            new().fixed64(7, *b"abcdefgh").fixed64(7, *b"ijklmnop"),
            Ok(b"abcdefghijklmnop".to_vec()),
        ),
        (
            "BYTES",
            new().bytes(8, b"\xff").bytes(8, ""),
            Ok(b"\x01\0\0\0\xff\0\0\0\0".to_vec()),
        ),
        ("FP32", new(), Ok(vec![])),
        ("FP32", new().bytes(6, ""), Ok(vec![])),
        ("FP32", new().fixed64(7, [0; 8]), kind.clone()),
        ("INT64", new().packed(2, [1]), kind.clone()),
        ("FP16", new().bytes(6, [0; 4]), kind.clone()),
        ("BF16", new(), kind.clone()),
        ("FP8", new().bytes(6, [0; 4]), kind.clone()),
        ("", new().bytes(6, [0; 4]), kind),
    ] {
        let body = typed(datatype, contents.clone());
        let data = accepted(OipGrpcInfer, &body)
            .inputs
            .remove(0)
            .data
            .map(TensorData::into_vec);
        assert_eq!(data, expected, "{datatype} {:x?}", contents.0);
    }
}

#[test]
fn floats_and_raw_contents_are_borrowed() {
    for body in [
        typed("FP32", new().bytes(6, [0; 64])),
        typed("FP64", new().bytes(7, [0; 64])),
        new()
            .message(5, tensor("x", "INT8", &[1]))
            .bytes(7, [0; 64])
            .frame(),
    ] {
        let data = accepted(OipGrpcInfer, &body).inputs.remove(0).data;
        assert!(
            matches!(data, Ok(TensorData::Borrowed(bytes)) if body.as_ptr_range().contains(&bytes.as_ptr())),
            "{data:?}"
        );
    }
}

#[test]
fn raw_contents_that_are_not_of_their_datatype_say_so() {
    for (datatype, blob, expected) in [
        ("BOOL", &[0, 1, 3][..], Err(DataFault::Kind { index: 2 })),
        ("BYTES", &[9, 0, 0, 0, 1], Err(DataFault::Framing)),
        ("BYTES", &[1, 0, 0, 0, 1], Ok(())),
        ("FP16", &[1, 2], Ok(())),
        ("NONE", &[1], Ok(())),
    ] {
        let body = new()
            .message(5, tensor("x", datatype, &[1]))
            .bytes(7, blob)
            .frame();
        assert_eq!(
            accepted(OipGrpcInfer, &body)
                .inputs
                .remove(0)
                .data
                .map(drop),
            expected,
            "{datatype}"
        );
    }
    let body = new().message(5, tensor("x", "FP32", &[1])).frame();
    assert_eq!(
        accepted(OipGrpcInfer, &body).inputs[0].data,
        Err(DataFault::Missing)
    );
}

/// The decoded form of one-byte varints may be eight times as large.
#[test]
fn all_conversions_of_a_request_share_one_bound() {
    let half = tensorgate_wire::limits::MAX_CONVERTED_ELEMENTS / 2;
    let input =
        |elements: usize| tensor("x", "UINT8", &[1]).message(5, new().bytes(4, vec![0; elements]));
    let within = new()
        .message(5, input(half))
        .message(5, input(half))
        .frame();
    assert_eq!(accepted(OipGrpcInfer, &within).inputs.len(), 2);
    let beyond = new()
        .message(5, input(half))
        .message(5, input(half))
        .message(5, input(1))
        .frame();
    assert_eq!(refusal(OipGrpcInfer, &beyond).0, Reason::Malformed);
}
