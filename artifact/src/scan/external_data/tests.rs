//! Tests of data files beside ONNX models: which are all tensors, and which hide something.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use super::*;
use crate::scan::protobuf::write::{bytes, number};
use std::io::Cursor;

const NAME: &str = "model.onnx.data";

/// A tensor of so many floats at an offset of a file.
fn tensor(file: &str, floats: u64, offset: u64) -> Vec<u8> {
    let entry = |key: &str, value: &str| bytes(13, [bytes(1, key), bytes(2, value)].concat());
    let entries = [
        entry("location", file),
        entry("offset", &offset.to_string()),
        entry("length", &(floats * 4).to_string()),
    ];
    let head = [number(1, floats), number(2, 1), number(14, 1)].concat();
    bytes(5, [head, entries.concat()].concat())
}

fn model(tensors: &[Vec<u8>]) -> Vec<u8> {
    [
        number(1, 10),
        bytes(7, tensors.concat()),
        bytes(8, number(2, 21)),
    ]
    .concat()
}

/// The report on a data file with this name beside these models. It is the same if the tensors of
/// the models are kept, and if there is no memory for them.
fn report_of(name: &str, data: &[u8], models: &[Vec<u8>]) -> Report {
    let scan = |max_bytes, times| {
        let mut indexes: Vec<_> = models.iter().map(|it| index(it, max_bytes)).collect();
        let scan_once = || {
            let mut data = Cursor::new(data);
            scan_data_file(&mut data, name, &mut indexes, &Limits::default()).unwrap()
        };
        std::iter::repeat_with(scan_once)
            .take(times)
            .last()
            .unwrap()
    };
    let report = scan(0, 1);
    for max_bytes in [1, 1 << 20] {
        assert_eq!(scan(max_bytes, 2), report, "{max_bytes}");
    }
    report
}

/// A model whose tensors may take so many bytes.
fn index(model: &[u8], max_bytes: usize) -> DataIndex<Cursor<&[u8]>> {
    let mut index = DataIndex::new(IndexKind::Onnx, Cursor::new(model));
    index.set_max_bytes(max_bytes);
    index
}

/// Bytes that are no text and begin as no format.
fn weights(count: usize) -> Vec<u8> {
    vec![0xa5; count]
}

#[test]
fn a_file_that_is_all_tensors_is_safe() {
    let mut padded = weights(8);
    padded.resize(4_096, 0);
    padded.extend(weights(4));
    let last = vec![tensor(NAME, 2, 0), tensor(NAME, 1, 4_096)];
    let shared = vec![model(&[tensor(NAME, 2, 0)]), model(&[tensor(NAME, 1, 8)])];
    let twice = vec![tensor(NAME, 2, 0), tensor(NAME, 2, 0), tensor(NAME, 0, 8)];
    for (data, models) in [
        (weights(8), vec![model(&[tensor(NAME, 2, 0)])]),
        (vec![0; 8], vec![model(&[tensor(NAME, 2, 0)])]),
        // One float of 12.2 is a text.
        (b"33CA".to_vec(), vec![model(&[tensor(NAME, 1, 0)])]),
        // A pickle that would store an item in a number, and import nothing.
        (
            b"K\x01NNs\xff\xff\xff".to_vec(),
            vec![model(&[tensor(NAME, 2, 0)])],
        ),
        (padded, vec![model(&last)]),
        (weights(12), shared),
        (weights(8), vec![model(&twice), model(&[])]),
    ] {
        let report = report_of(NAME, &data, &models);
        assert_eq!(report.verdict, Verdict::Safe, "{report:?}");
        assert_eq!(report.format, "onnx data");
    }
}

#[test]
fn what_is_no_tensor_is_not_safe() {
    let one = |floats, offset| vec![model(&[tensor(NAME, floats, offset)])];
    let with = |zeros: usize, end: &[u8]| {
        let mut data = weights(8);
        data.resize(8 + zeros, 0);
        data.extend(end);
        data
    };
    let padding = usize::try_from(MAX_PADDING_BYTES).unwrap();
    let safe = report_of(NAME, &with(padding - 1, b""), &one(2, 0));
    assert_eq!(safe.verdict, Verdict::Safe, "{safe:?}");
    let partly = vec![model(&[tensor(NAME, 2, 0), tensor(NAME, 2, 4)])];
    let other = vec![model(&[tensor("other.data", 2, 0)])];
    // A custom operator does not hide where tensors are; a location outside of the folder does.
    let leaves = vec![model(&[tensor(NAME, 2, 0), tensor("../x", 2, 0)])];
    let cut = vec![model(&[tensor(NAME, 2, 0)])[..40].to_vec()];
    for (data, models, verdict, offset) in [
        (weights(8), one(3, 0), Verdict::Malformed, 0),
        (weights(8), one(2, 4), Verdict::Malformed, 4),
        (weights(8), one(1, u64::MAX >> 1), Verdict::Malformed, 8),
        (weights(8), one(0, 9), Verdict::Malformed, 8),
        (weights(9), one(2, 0), Verdict::Unknown, 8),
        (with(3, b"\x01"), one(2, 0), Verdict::Unknown, 8),
        (with(padding, b""), one(2, 0), Verdict::Unknown, 8),
        (with(1 << 20, b""), one(2, 0), Verdict::Unknown, 8),
        (weights(12), one(2, 4), Verdict::Unknown, 0),
        (weights(12), partly, Verdict::Unknown, 4),
        (weights(8), other, Verdict::Unknown, 0),
        (weights(8), leaves, Verdict::Unknown, 0),
        (weights(8), cut, Verdict::Unknown, 0),
        (weights(8), Vec::new(), Verdict::Unknown, 0),
    ] {
        let report = report_of(NAME, &data, &models);
        assert_eq!(report.verdict, verdict, "{report:?}");
        assert_eq!(report.findings[0].offset, offset, "{report:?}");
    }
}

#[test]
fn another_format_or_the_name_of_one_keeps_its_verdict() {
    let of = |name: &str, data: &[u8]| {
        let floats = u64::try_from(data.len()).unwrap() / 4;
        report_of(name, data, &[model(&[tensor(name, floats, 0)])])
    };
    let cases: [(&[u8], Verdict); 18] = [
        (b"cos\nsystem\n(S'id'\ntR.", Verdict::Executable),
        (b"\x80\x04cos\nsystem\n(S'id'\ntR.", Verdict::Executable),
        (b"\x7fELF\x02\x01\x01\0", Verdict::Executable),
        (b"#!/bin/sh\nid\n###", Verdict::Executable),
        // What an unpickler stores before it breaks off, and code of Python and Lua.
        (
            b"cbuiltins\n__dict__\nS'id'\ncos\nsystem\ns\xff\xff\xff\xff",
            Verdict::Executable,
        ),
        (
            b"\xcb\x0d\r\n\0\0\0\0\0\0\0\0\0\0\0\0\xe3\0\0\0",
            Verdict::Executable,
        ),
        (b"\x1bLuaS\0\x19\x93", Verdict::Executable),
        (b"PK\x03\x04\0\0\0\0", Verdict::Malformed),
        (b"import os; os.system('id')  ", Verdict::Unknown),
        (b"\x1f\x8b\x08\0", Verdict::Unknown),
        // Numbers without digits, and in the space that C knows. Frames that end within an
        // operation: C passes over what is left of them.
        (
            b"I\x001\n0cos\nsystem\n(S'id'\ntR.\xff\xff",
            Verdict::Malformed,
        ),
        (
            b"I\x0b4\n0cos\nsystem\n(S'id'\ntR.\xff\xff",
            Verdict::Malformed,
        ),
        (
            b"\x95\x05\0\0\0\0\0\0\0L0x1p3\n0cos\nsystem\n(S'id'\ntR.\xff\xff",
            Verdict::Malformed,
        ),
        (
            b"\x95\x03\0\0\0\0\0\0\0NB\xffB\x04\0\0\0abcd0.\xff\xff",
            Verdict::Malformed,
        ),
        // joblib unpacks both, and Triton may load the last one.
        (
            b"]\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0\x30\x3e",
            Verdict::Unknown,
        ),
        (b"x^\xab\xa8", Verdict::Unknown),
        (b"binf\xa5\xa5\xa5\xa5", Verdict::Unknown),
        (b"ptrt\xa5\xa5\xa5\xa5", Verdict::Unknown),
    ];
    for (data, verdict) in cases {
        let report = of(NAME, data);
        assert!(report.verdict >= verdict, "{report:?}");
        assert_ne!(report.format, "onnx data");
    }
    for name in [
        "w.bin",
        "onnx__MatMul_1",
        "encoder.weight",
        "model.onnx_data",
        "a-b 7",
    ] {
        assert_eq!(of(name, &weights(8)).verdict, Verdict::Safe, "{name}");
    }
    for name in [
        "pytorch_model.bin",
        "PyTorch_Model-00001-of-00002.bin",
        "model.bin",
        "modeling.py",
        "a.so",
        "a.safetensors",
        "a.pt",
        "a.vocab",
        "a.toml",
        "config.json",
        "README",
        "tokenizer.model",
        "a.engine",
        "a.vmfb",
        "model.graphdef",
        "model.ckpt.meta",
        "__model__",
        "Dockerfile",
        "card.html",
        "checkpoint.tl",
        "a.pyo",
        "a.msgpack",
        ".bashrc",
    ] {
        let report = of(name, &weights(8));
        // Each of these bytes is a letter of Windows-1252.
        let is_text = matches!(name, "a.vocab" | "README");
        assert_ne!(report.format, "onnx data", "{name}");
        assert_eq!(report.verdict == Verdict::Safe, is_text, "{name}");
    }
}

#[test]
fn an_index_is_known_by_its_name() {
    let shard = "variables.data-00000-of-00001";
    for (index, data, kind) in [
        ("model.onnx", "w.bin", Some(IndexKind::Onnx)),
        ("MODEL.ONNX", "w.bin", Some(IndexKind::Onnx)),
        ("variables.index", shard, Some(IndexKind::TensorBundle)),
        ("other.index", shard, None),
        ("variables.index", "variables.bin", None),
        ("a.onnx", "a.onnx", None),
        ("model.xml", "model.bin", Some(IndexKind::Openvino)),
        ("model.xml", "other.bin", None),
        ("model.xml", "model.xml.bin", None),
        ("model.XML", "model.bin", None),
    ] {
        assert_eq!(IndexKind::of(index, data), kind, "{index} {data}");
    }
}

#[test]
fn the_tensors_of_all_indexes_are_bounded() {
    let two = model(&[tensor(NAME, 1, 0), tensor(NAME, 1, 4)]);
    let limits = Limits {
        entries: 3,
        ..Limits::default()
    };
    let mut indexes = [index(&two, 0), index(&two, 0)];
    let data = weights(8);
    let report = scan_data_file(&mut Cursor::new(&data), NAME, &mut indexes, &limits).unwrap();
    assert_eq!(report.verdict, Verdict::Unknown, "{report:?}");
    assert_eq!(report.findings[1].rule, RULE);
}

#[test]
fn the_memory_for_the_tensors_of_an_index_is_bounded() {
    let limits = Limits {
        entries: 1,
        ..Limits::default()
    };
    let tensors = [
        tensor("a", 1, 0),
        tensor("b", 1, 0),
        tensor("b", 1, 4),
        tensor("c", 2, 0),
    ];
    let model = model(&tensors);
    for (max_bytes, is_kept) in [(1, false), (600, false), (2_000, true)] {
        let mut index = index(&model, max_bytes);
        assert_eq!(index.kept_bytes(), None);
        for (name, expected) in [
            ("a", Some(0..4)),
            // More than may lie in one file.
            ("b", None),
            ("c", Some(0..8)),
            ("d", None),
        ] {
            let ranges = index.ranges(name, &limits).unwrap();
            let expected = expected.map(|range| vec![range]);
            assert_eq!(ranges, expected, "{name} {max_bytes}");
            let bytes = index.kept_bytes().unwrap();
            assert!(bytes <= max_bytes, "{bytes} of {max_bytes}");
            assert_eq!(bytes > 0, is_kept, "{max_bytes}");
        }
    }
}

/// A model of OpenVINO with constants of bytes at these offsets.
fn openvino(constants: &[(u64, u64)]) -> String {
    let layers = constants.iter().enumerate().map(|(id, (offset, size))| {
        format!(
            "<layer id=\"{id}\" type=\"Const\" version=\"opset1\"><data element_type=\"u8\" \
             shape=\"{size}\" offset=\"{offset}\" size=\"{size}\"/></layer>"
        )
    });
    let layers: String = layers.collect();
    format!("<net version=\"11\"><layers>{layers}</layers></net>")
}

/// The report on a file beside a model of OpenVINO, the same with and without memory for it.
fn beside_openvino(name: &str, data: &[u8], model: &str) -> Report {
    let [first, second] = [0, 1 << 20].map(|max_bytes| {
        let mut index = DataIndex::new(IndexKind::Openvino, Cursor::new(model.as_bytes()));
        index.set_max_bytes(max_bytes);
        let (mut data, limits) = (Cursor::new(data), Limits::default());
        scan_data_file(&mut data, name, [&mut index], &limits).unwrap()
    });
    assert_eq!(first, second);
    first
}

#[test]
fn constants_of_openvino_are_all_that_is_in_their_file() {
    let padded = [weights(4), vec![0; 60], weights(4)].concat();
    let cases: [(Vec<u8>, &[(u64, u64)], Verdict); 10] = [
        (weights(8), &[(0, 4), (4, 4)], Verdict::Safe),
        (weights(8), &[(4, 4), (0, 4), (0, 4)], Verdict::Safe),
        (padded, &[(0, 4), (64, 4)], Verdict::Safe),
        (Vec::new(), &[], Verdict::Safe),
        (Vec::new(), &[(0, 1)], Verdict::Malformed),
        (weights(8), &[], Verdict::Unknown),
        (weights(9), &[(0, 8)], Verdict::Unknown),
        (weights(8), &[(0, 6), (4, 4)], Verdict::Unknown),
        (weights(8), &[(0, 8), (8, 1)], Verdict::Malformed),
        (
            weights(8),
            &[(0, 8), (u64::MAX >> 1, 1)],
            Verdict::Malformed,
        ),
    ];
    for (data, constants, verdict) in cases {
        for name in ["model.bin", "openvino_model.bin"] {
            let report = beside_openvino(name, &data, &openvino(constants));
            assert_eq!(report.verdict, verdict, "{constants:?}: {report:?}");
            let is_known = report.format == OPENVINO_DATA;
            assert!(is_known || verdict != Verdict::Safe, "{report:?}");
        }
    }
    let one = openvino(&[(0, 8)]);
    for model in [
        one.replace("opset1", "extension"),
        one.replace("<net ", "<!DOCTYPE a []><net "),
        one.replace("offset=\"0\"", "offset=\"18446744073709551615\""),
        String::new(),
    ] {
        let report = beside_openvino("model.bin", &weights(8), &model);
        assert_eq!(report.verdict, Verdict::Unknown, "{report:?}");
    }
    let report = beside_openvino("pytorch_model.bin", &weights(8), &one);
    assert_eq!(report.verdict, Verdict::Unknown, "{report:?}");
    let pickle = b"cos\nsystem\n(S'id'\ntR.";
    let report = beside_openvino("model.bin", pickle, &openvino(&[(0, 22)]));
    assert_eq!(report.verdict, Verdict::Executable, "{report:?}");
}
