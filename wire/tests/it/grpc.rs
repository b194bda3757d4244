//! OIP gRPC bodies: which are accepted, and which are rejected and why.

use crate::common;

use common::{Proto, accepted, refusal, tensor};
use tensorgate_policy::Reason;
use tensorgate_policy::TensorData;
use tensorgate_policy::decision::BodyFormat::{OipGrpcInfer, OipGrpcModel};
use tensorgate_policy::tensor::ParameterValue;

fn infer() -> Proto {
    Proto::default().bytes(1, "m")
}

/// An entry of a parameter map.
fn parameter(name: &str, value: Proto) -> Proto {
    Proto::default().bytes(1, name).message(2, value)
}

fn new() -> Proto {
    Proto::default()
}

#[test]
fn every_field_is_read_whatever_the_order() {
    let body = new()
        .bytes(7, [1, 0])
        .message(
            6,
            new()
                .message(2, parameter("top", new().varint(2, 3)))
                .bytes(1, "y"),
        )
        .message(
            5,
            tensor("x", "BOOL", &[2, -1]).message(4, parameter("a", new().varint(1, 1))),
        )
        .message(4, parameter("i", new().varint(2, u64::MAX)))
        .message(4, parameter("s", new().bytes(3, "é")))
        .message(4, parameter("d", new().fixed64(4, 1.5_f64.to_le_bytes())))
        .message(4, parameter("u", new().varint(5, u64::MAX)))
        .bytes(3, "id")
        .bytes(2, "7")
        .bytes(1, "m")
        .frame();
    let request = accepted(OipGrpcInfer, &body);
    assert_eq!(
        (
            request.model.as_deref(),
            request.version.as_deref(),
            request.id.as_deref()
        ),
        (Some("m"), Some("7"), Some("id"))
    );
    let parameters: Vec<_> = request
        .parameters
        .iter()
        .map(|parameter| (&*parameter.name, parameter.value.clone()))
        .collect();
    assert_eq!(
        parameters,
        [
            ("i", ParameterValue::Int64(-1)),
            ("s", ParameterValue::String("é".into())),
            ("d", ParameterValue::Double(1.5)),
            ("u", ParameterValue::Uint64(u64::MAX)),
        ]
    );
    let input = &request.inputs[0];
    assert_eq!(
        (&*input.name, &*input.datatype, &*input.shape),
        ("x", "BOOL", &[2, -1][..])
    );
    assert_eq!(input.parameters[0].value, ParameterValue::Bool(true));
    assert!(matches!(&input.data, Ok(TensorData::Borrowed([1, 0]))));
    assert_eq!(
        (
            &*request.outputs[0].name,
            &request.outputs[0].parameters[0].value
        ),
        ("y", &ParameterValue::Int64(3))
    );
}

#[test]
fn an_empty_string_is_an_absent_one() {
    for body in [new(), new().bytes(1, "").bytes(2, "").bytes(3, "")] {
        let request = accepted(OipGrpcInfer, &body.frame()).id.is_none();
        assert!(request);
    }
    let body = new().bytes(1, "m").frame();
    let request = accepted(OipGrpcModel, &body);
    assert_eq!(
        (request.model.as_deref(), request.version),
        (Some("m"), None)
    );
}

#[test]
fn ambiguous_messages_are_rejected() {
    let x = tensor("x", "FP32", &[1]);
    let floats = new().bytes(6, [0; 4]);
    let param = |value: Proto| infer().message(4, parameter("p", value));
    let input = |input: Proto| infer().message(5, input);
    for (name, message, reason) in [
        ("an unknown field", infer().varint(8, 1), Reason::Malformed),
        (
            "an unknown field of an input",
            input(x.clone().varint(6, 1)),
            Reason::Malformed,
        ),
        (
            "an unknown field of an output",
            infer().message(6, new().bytes(3, "")),
            Reason::Malformed,
        ),
        (
            "an unknown field of contents",
            input(x.clone().message(5, new().bytes(9, ""))),
            Reason::Malformed,
        ),
        (
            "an unknown field of a parameter",
            param(new().varint(6, 1)),
            Reason::Malformed,
        ),
        (
            "an unknown field of a map entry",
            infer().message(4, parameter("p", new().varint(1, 1)).varint(3, 1)),
            Reason::Malformed,
        ),
        (
            "a name of another wire type",
            new().varint(1, 1),
            Reason::Malformed,
        ),
        (
            "an input of another wire type",
            new().varint(5, 1),
            Reason::Malformed,
        ),
        (
            "a shape of another wire type",
            input(new().fixed32(3, [0; 4])),
            Reason::Malformed,
        ),
        (
            "a bool of another wire type",
            param(new().bytes(1, "")),
            Reason::Malformed,
        ),
        (
            "a double of another wire type",
            param(new().varint(4, 1)),
            Reason::Malformed,
        ),
        ("a bool of 2", param(new().varint(1, 2)), Reason::Malformed),
        (
            "a double that is not finite",
            param(new().fixed64(4, f64::NAN.to_le_bytes())),
            Reason::Malformed,
        ),
        (
            "a parameter without a value",
            param(new()),
            Reason::Malformed,
        ),
        (
            "a map entry without a value",
            infer().message(4, new().bytes(1, "p")),
            Reason::Malformed,
        ),
        ("a name twice", infer().bytes(1, "n"), Reason::DuplicateKey),
        (
            "a version twice",
            infer().bytes(2, "1").bytes(2, "1"),
            Reason::DuplicateKey,
        ),
        (
            "an id twice",
            infer().bytes(3, "").bytes(3, ""),
            Reason::DuplicateKey,
        ),
        (
            "an input's name twice",
            input(x.clone().bytes(1, "y")),
            Reason::DuplicateKey,
        ),
        (
            "a datatype twice",
            input(x.clone().bytes(2, "INT8")),
            Reason::DuplicateKey,
        ),
        (
            "contents twice",
            input(
                x.clone()
                    .message(5, floats.clone())
                    .message(5, floats.clone()),
            ),
            Reason::DuplicateKey,
        ),
        (
            "an output's name twice",
            infer().message(6, new().bytes(1, "y").bytes(1, "y")),
            Reason::DuplicateKey,
        ),
        (
            "a map key twice",
            param(new().varint(1, 1)).message(4, parameter("p", new().varint(1, 1))),
            Reason::DuplicateKey,
        ),
        (
            "a oneof twice",
            param(new().varint(1, 1).varint(2, 1)),
            Reason::DuplicateKey,
        ),
        (
            "the same of a oneof twice",
            param(new().varint(1, 1).varint(1, 1)),
            Reason::DuplicateKey,
        ),
        (
            "a map entry's key twice",
            infer().message(4, parameter("p", new().varint(1, 1)).bytes(1, "q")),
            Reason::DuplicateKey,
        ),
        (
            "a name that is not UTF-8",
            new().bytes(1, b"\xff"),
            Reason::Malformed,
        ),
        (
            "a length past the end",
            infer().raw(&[5 << 3 | 2, 9, 0]),
            Reason::Malformed,
        ),
        (
            "a length that wraps",
            infer().raw(b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            Reason::Malformed,
        ),
        (
            "a padded varint",
            infer().raw(&[4 << 3, 0x80, 0]),
            Reason::Malformed,
        ),
        (
            "a padded varint in a shape",
            input(new().bytes(3, [0x81, 0])),
            Reason::Malformed,
        ),
        (
            "a padded varint in contents",
            input(tensor("x", "INT64", &[1]).message(5, new().bytes(3, [0x81, 0]))),
            Reason::Malformed,
        ),
        (
            "half a varint in a shape",
            input(new().bytes(3, [0x81])),
            Reason::Malformed,
        ),
        ("trailing bytes", infer().raw(&[0]), Reason::Malformed),
        (
            "a group",
            infer().raw(&[5 << 3 | 3, 5 << 3 | 4]),
            Reason::Malformed,
        ),
        (
            "raw beside typed",
            input(x.clone().message(5, floats.clone())).bytes(7, [0; 4]),
            Reason::Malformed,
        ),
        (
            "raw beside empty contents",
            input(x.clone().message(5, new())).bytes(7, [0; 4]),
            Reason::Malformed,
        ),
        (
            "raw for one, typed for the other",
            input(x.clone())
                .message(5, x.clone().message(5, floats.clone()))
                .bytes(7, [0; 4]),
            Reason::Malformed,
        ),
        (
            "too few raw contents",
            input(x.clone()).message(5, x.clone()).bytes(7, [0; 4]),
            Reason::Malformed,
        ),
        (
            "too many raw contents",
            input(x.clone()).bytes(7, [0; 4]).bytes(7, [0; 4]),
            Reason::Malformed,
        ),
        (
            "raw contents without inputs",
            infer().bytes(7, ""),
            Reason::Malformed,
        ),
        (
            "two kinds of contents",
            input(x.clone().message(5, floats.clone().fixed64(7, [0; 8]))),
            Reason::Malformed,
        ),
        (
            "a second kind that is empty",
            input(x.clone().message(5, floats.clone().bytes(2, ""))),
            Reason::Malformed,
        ),
        (
            "half a float",
            input(x.clone().message(5, new().bytes(6, [0; 6]))),
            Reason::Malformed,
        ),
        (
            "half a double",
            input(x.clone().message(5, new().bytes(7, [0; 12]))),
            Reason::Malformed,
        ),
        (
            "a float as varint",
            input(x.clone().message(5, new().varint(6, 1))),
            Reason::Malformed,
        ),
        (
            "an int as fixed",
            input(x.clone().message(5, new().fixed32(2, [0; 4]))),
            Reason::Malformed,
        ),
        (
            "a bool element of 2",
            input(tensor("x", "BOOL", &[1]).message(5, new().packed(1, [2]))),
            Reason::Malformed,
        ),
        (
            "an unpacked bool element of 2",
            input(tensor("x", "BOOL", &[1]).message(5, new().varint(1, 2))),
            Reason::Malformed,
        ),
    ] {
        assert_eq!(refusal(OipGrpcInfer, &message.frame()).0, reason, "{name}");
    }
    for (name, message, reason) in [
        ("an unknown field", infer().varint(3, 1), Reason::Malformed),
        ("an infer request", infer().message(5, x), Reason::Malformed),
        ("a name twice", infer().bytes(1, "m"), Reason::DuplicateKey),
    ] {
        assert_eq!(refusal(OipGrpcModel, &message.frame()).0, reason, "{name}");
    }
}

#[test]
fn a_fault_names_the_callers_field() {
    for (message, reason, field) in [
        (
            infer().varint(9, 1),
            Reason::Malformed,
            "field 9 of ModelInferRequest",
        ),
        (
            infer().bytes(1, "m"),
            Reason::DuplicateKey,
            "field 1 of ModelInferRequest",
        ),
        (
            infer().message(4, parameter("p\n", new())),
            Reason::Malformed,
            "parameter \"p\\n\"",
        ),
        (
            infer().bytes(7, ""),
            Reason::Malformed,
            "raw_input_contents",
        ),
    ] {
        assert_eq!(
            refusal(OipGrpcInfer, &message.frame()),
            (reason, Some(field.to_owned()))
        );
    }
}

#[test]
fn a_compressed_frame_is_refused_as_an_encoding() {
    let mut body = infer().frame();
    body[0] = 1;
    for format in [OipGrpcInfer, OipGrpcModel] {
        assert_eq!(refusal(format, &body).0, Reason::UnsupportedEncoding);
    }
    let mut two = infer().frame();
    two.extend_from_slice(&infer().frame());
    assert_eq!(refusal(OipGrpcInfer, &two).0, Reason::Malformed);
    assert_eq!(refusal(OipGrpcInfer, b"").0, Reason::Malformed);
}

#[test]
fn every_count_and_length_has_a_bound() {
    let times = |field: u64, message: &Proto, count: usize| {
        (0..count).fold(infer(), |all, _| all.message(field, message.clone()))
    };
    let x = tensor("x", "FP32", &[1]);
    let parameters = |count: usize| {
        (0..count).fold(infer(), |all, index| {
            all.message(4, parameter(&index.to_string(), new().varint(1, 1)))
        })
    };
    let shape = |count: usize| infer().message(5, new().packed(3, vec![1; count]));
    let unpacked =
        |count: usize| infer().message(5, (0..count).fold(new(), |all, _| all.varint(3, 1)));
    for (message, accepts) in [
        (times(5, &x, 512), true),
        (times(5, &x, 513), false),
        (times(6, &new().bytes(1, "y"), 512), true),
        (times(6, &new().bytes(1, "y"), 513), false),
        (parameters(32), true),
        (parameters(33), false),
        (shape(16), true),
        (shape(17), false),
        (unpacked(16), true),
        (unpacked(17), false),
        (shape(1 << 20), false),
        (new().bytes(1, "m".repeat(256)), true),
        (new().bytes(1, "m".repeat(257)), false),
        (
            infer().message(4, parameter("p", new().bytes(3, "s".repeat(4096)))),
            true,
        ),
        (
            infer().message(4, parameter("p", new().bytes(3, "s".repeat(4097)))),
            false,
        ),
    ] {
        let frame = message.frame();
        let decoded = tensorgate_wire::decode(OipGrpcInfer, &frame, &[])
            .map(drop)
            .map_err(|denial| denial.reason);
        assert_eq!(
            decoded,
            if accepts {
                Ok(())
            } else {
                Err(Reason::Malformed)
            },
            "{} bytes",
            frame.len()
        );
    }
}
