//! TF Serving's predict requests, over REST and gRPC: the decoded tensors. The decision vectors
//! (`policy/vectors/tf-serving.json`) contain the rejections; these tests contain cases that the
//! vectors do not cover.

use crate::common;

use common::{Proto, rules, tensors_of};
use tensorgate_policy::TensorData;
use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::tensor::DataFault;
use tensorgate_policy::{Denial, InferRequest, Reason};
use tensorgate_wire::decode;
use tensorgate_wire::limits::{MAX_INPUTS, MAX_LONG_NUMBERS};

fn json<'a>(body: &'a str, rules: &[TensorRule]) -> Result<InferRequest<'a>, Denial> {
    decode(BodyFormat::TfJson, body.as_bytes(), rules)
}

#[test]
fn rows_and_columns_become_tensors_of_the_contracts_datatypes() {
    let two = rules(&[("a", "INT16"), ("b", "BYTES")]);
    let one = rules(&[("x", "UINT8")]);
    let ok = |name: &str, shape: &[i64], data: &[u8]| {
        (name.to_owned(), shape.to_vec(), Ok(data.to_vec()))
    };
    for (body, rules, expected) in [
        (
            r#"{"instances":[1,2,3]}"#,
            &one,
            vec![ok("x", &[3], &[1, 2, 3])],
        ),
        (
            r#"{"instances":[[1,2,3],[4,5,6]]}"#,
            &one,
            vec![ok("x", &[2, 3], &[1, 2, 3, 4, 5, 6])],
        ),
        (
            r#"{"instances":[{"x":[1]},{"x":[2]}]}"#,
            &one,
            vec![ok("x", &[2, 1], &[1, 2])],
        ),
        (r#"{"inputs":7}"#, &one, vec![ok("x", &[], &[7])]),
        (
            r#"{"inputs":[[[7]]]}"#,
            &one,
            vec![ok("x", &[1, 1, 1], &[7])],
        ),
        (r#"{"inputs":[[],[]]}"#, &one, vec![ok("x", &[2, 0], &[])]),
        (r#"{"inputs":[]}"#, &one, vec![ok("x", &[0], &[])]),
        (r#"{"instances":[]}"#, &one, vec![ok("x", &[0], &[])]),
        (r#"{"instances":[]}"#, &two, vec![]),
        (
            r#"{"instances":[{"a":1,"b":"x"},{"b":{"b64":"eXo="},"a":-1}]}"#,
            &two,
            vec![
                ok("a", &[2], &[1, 0, 255, 255]),
                ok("b", &[2], b"\x01\0\0\0x\x02\0\0\0yz"),
            ],
        ),
        (
            r#"{"inputs":{"b":[["x"]],"a":[1]}}"#,
            &two,
            vec![ok("b", &[1, 1], b"\x01\0\0\0x"), ok("a", &[1], &[1, 0])],
        ),
    ] {
        let request = json(body, rules).unwrap_or_else(|denial| panic!("{body}: {denial:?}"));
        assert_eq!(tensors_of(&request), expected, "{body}");
        assert_eq!(request.by_column, body.contains("inputs"), "{body}");
    }
}

#[test]
fn a_fault_in_the_values_is_the_tensors_own_and_the_others_are_read() {
    let rules = rules(&[("a", "INT8"), ("b", "FP32")]);
    let kind = |index| Err(DataFault::Kind { index });
    for (a, expected) in [
        ("[1,300]", Err(DataFault::Overflow { index: 1 })),
        ("[300,1.5]", kind(1)),
        ("[300,[1]]", Err(DataFault::Nesting)),
        ("[1.5,[1]]", kind(0)),
        ("[[1],1.5]", Err(DataFault::Nesting)),
        ("[1,{\"b64\":\"\"}]", kind(1)),
    ] {
        let body = format!(r#"{{"inputs":{{"a":{a},"b":[0.5]}}}}"#);
        let request = json(&body, &rules).unwrap_or_else(|denial| panic!("{body}: {denial:?}"));
        let tensors = tensors_of(&request);
        assert_eq!(tensors[0].2, expected, "{body}");
        assert_eq!(tensors[1].2, Ok(0.5_f32.to_le_bytes().to_vec()), "{body}");
    }
}

#[test]
fn long_integers_are_read_however_many_they_are() {
    let rules = rules(&[("x", "UINT64")]);
    let list = ["18446744073709551615"].repeat(MAX_LONG_NUMBERS + 1);
    for key in ["inputs", "instances"] {
        let body = format!("{{\"{key}\":[{}]}}", list.join(","));
        let request = json(&body, &rules).unwrap_or_else(|denial| panic!("{denial:?}"));
        assert_eq!(
            tensors_of(&request)[0].2,
            Ok(vec![0xff; list.len() * 8]),
            "{key}"
        );
    }
}

#[test]
fn rows_have_hundreds_of_columns_in_any_order() {
    let names: Vec<String> = (0..MAX_INPUTS).map(|n| format!("c{n}")).collect();
    let listed: Vec<_> = names.iter().map(|name| (name.as_str(), "INT8")).collect();
    let rules = rules(&listed);
    let mut members: Vec<_> = names.iter().map(|name| format!("\"{name}\":1")).collect();
    let first = members.join(",");
    members.reverse();
    let body = format!("{{\"instances\":[{{{first}}},{{{}}}]}}", members.join(","));
    let request = json(&body, &rules).unwrap_or_else(|denial| panic!("{denial:?}"));
    let tensors = tensors_of(&request);
    assert_eq!(tensors.len(), MAX_INPUTS);
    for (name, shape, data) in tensors {
        assert_eq!((shape, data), (vec![2], Ok(vec![1, 1])), "{name}");
    }
}

#[test]
fn every_count_has_a_bound() {
    let one = rules(&[("x", "FP64")]);
    let long = "0.12345678901234567890123";
    for (what, body, expected) in [
        (
            "long numbers",
            format!(
                "{{\"inputs\":[{}]}}",
                [long].repeat(MAX_LONG_NUMBERS + 1).join(",")
            ),
            Some(Reason::Malformed),
        ),
        (
            "as many long numbers as may be",
            format!(
                "{{\"inputs\":[{}]}}",
                [long].repeat(MAX_LONG_NUMBERS).join(",")
            ),
            None,
        ),
        (
            "names",
            format!(
                "{{\"inputs\":{{{}}}}}",
                (0..=MAX_INPUTS)
                    .map(|n| format!("\"n{n}\":1"))
                    .collect::<Vec<_>>()
                    .join(",")
            ),
            Some(Reason::Malformed),
        ),
        (
            "names in a row",
            format!(
                "{{\"instances\":[{{{}}}]}}",
                (0..=MAX_INPUTS)
                    .map(|n| format!("\"n{n}\":1"))
                    .collect::<Vec<_>>()
                    .join(",")
            ),
            Some(Reason::Malformed),
        ),
        (
            "a name's length",
            format!("{{\"inputs\":{{\"{}\":1}}}}", "n".repeat(257)),
            Some(Reason::Malformed),
        ),
    ] {
        let reason = json(&body, &one).err().map(|denial| denial.reason);
        assert_eq!(reason, expected, "{what}");
    }
}

fn new() -> Proto {
    Proto::default()
}

/// A request for one tensor.
fn call(proto: Proto) -> Vec<u8> {
    let entry = new().bytes(1, "x").message(2, proto);
    new()
        .message(1, new().bytes(1, "m"))
        .message(2, entry)
        .frame()
}

#[test]
fn content_and_packed_floats_are_borrowed_and_lists_converted() {
    let shape = |size| new().message(2, new().varint(1, size));
    let tensor = |datatype, size| new().varint(1, datatype).message(2, shape(size));
    let half = [0x00, 0x3c, 0x00, 0xc0];
    for (proto, datatype, borrowed, data) in [
        (
            tensor(1, 1).bytes(4, [0, 0, 128, 63]),
            "FP32",
            true,
            vec![0, 0, 128, 63],
        ),
        (
            tensor(1, 1).bytes(5, [0, 0, 128, 63]),
            "FP32",
            true,
            vec![0, 0, 128, 63],
        ),
        (tensor(19, 2).bytes(4, half), "FP16", true, half.to_vec()),
        (
            tensor(19, 2).packed(13, [0x3c00, 0xc000]),
            "FP16",
            false,
            half.to_vec(),
        ),
        (
            tensor(14, 1).varint(13, 0x3f80),
            "BF16",
            false,
            vec![0x80, 0x3f],
        ),
        (
            tensor(6, 2).packed(7, [1, u64::MAX]),
            "INT8",
            false,
            vec![1, 255],
        ),
        (tensor(4, 1).packed(7, [255]), "UINT8", false, vec![255]),
        (tensor(10, 2).packed(11, [1, 0]), "BOOL", false, vec![1, 0]),
        (
            tensor(22, 1).packed(16, [1]),
            "UINT32",
            false,
            vec![1, 0, 0, 0],
        ),
        (
            tensor(7, 1).bytes(8, "ab"),
            "BYTES",
            false,
            b"\x02\0\0\0ab".to_vec(),
        ),
        // A field order that no protobuf library writes gives the same result.
        (
            new().bytes(4, [7]).message(2, shape(1)).varint(1, 4),
            "UINT8",
            true,
            vec![7],
        ),
        // Elements with other fields between them.
        (
            new()
                .varint(7, 7)
                .varint(1, 4)
                .message(2, shape(2))
                .varint(7, 8),
            "UINT8",
            false,
            vec![7, 8],
        ),
    ] {
        let body = call(proto);
        let request = decode(BodyFormat::TfGrpcPredict, &body, &[]).unwrap();
        let input = &request.inputs[0];
        assert_eq!((&*input.name, &*input.datatype), ("x", datatype));
        assert_eq!(
            matches!(input.data, Ok(TensorData::Borrowed(_))),
            borrowed,
            "{datatype}"
        );
        assert_eq!(input.data.as_deref(), Ok(data.as_slice()), "{datatype}");
    }
}

#[test]
fn a_spec_and_a_filter_are_the_requests_own_words() {
    let spec = new()
        .bytes(1, "m")
        .message(2, new().varint(1, 7))
        .bytes(3, "classify");
    let body = new().message(1, spec).bytes(3, "y").bytes(3, "z").frame();
    let request = decode(BodyFormat::TfGrpcPredict, &body, &[]).unwrap();
    assert_eq!(request.model.as_deref(), Some("m"));
    assert_eq!(request.version.as_deref(), Some("7"));
    assert_eq!(request.parameters[0].name, "signature_name");
    let outputs: Vec<_> = request.outputs.iter().map(|output| &*output.name).collect();
    assert_eq!(outputs, ["y", "z"]);
}

#[test]
fn parameters_beside_the_rows_are_named_scalars() {
    let rules = rules(&[("x", "UINT8")]);
    let check = |body: &str, expected: Result<&[&str], Reason>| {
        let request = json(body, &rules);
        let named = match &request {
            Ok(request) => {
                let names = request.parameters.iter();
                Ok(names.map(|named| &*named.name).collect::<Vec<&str>>())
            }
            Err(denial) => Err(denial.reason),
        };
        assert_eq!(named, expected.map(<[_]>::to_vec), "{body}");
    };
    check(
        r#"{"instances":[1],"parameters":{"a":1,"b":null},"signature_name":"s"}"#,
        Ok(&["a", "signature_name"]),
    );
    check(r#"{"inputs":[1],"parameters":null}"#, Ok(&[]));
    check(
        r#"{"instances":[1],"parameters":{"signature_name":"s"},"signature_name":"t"}"#,
        Err(Reason::DuplicateKey),
    );
    check(
        r#"{"instances":[1],"parameters":{"a":[1]}}"#,
        Err(Reason::Malformed),
    );
    check(
        r#"{"instances":[1],"parameters":{},"parameters":{}}"#,
        Err(Reason::DuplicateKey),
    );
}
