//! Tests of ONNX models: where code and other files hide.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use crate::scan::Severity;
use crate::scan::protobuf::write::{bytes, number};
use std::io::Cursor;

fn report(model: &[u8]) -> Report {
    scan(&mut Cursor::new(model.to_vec()), &Limits::default()).unwrap()
}

/// A model with these fields in its graph.
fn model(graph: &[u8]) -> Vec<u8> {
    [number(1, 10), bytes(7, graph), bytes(8, number(2, 21))].concat()
}

fn node(name: &str, domain: &str, rest: &[u8]) -> Vec<u8> {
    bytes(1, [&bytes(4, name)[..], &bytes(7, domain), rest].concat())
}

/// A tensor whose bytes are in another file.
fn external(location: &str) -> Vec<u8> {
    let entry = [bytes(1, "location"), bytes(2, location)].concat();
    [number(2, 1), bytes(13, entry), number(14, 1)].concat()
}

#[test]
fn standard_operators_and_inline_tensors_are_safe() {
    let tensor = [
        number(1, 2),
        number(2, 1),
        bytes(8, "w"),
        bytes(9, [0_u8; 8]),
    ]
    .concat();
    let attribute = [bytes(1, "to"), number(3, u64::MAX), bytes(7, [0_u8; 8])].concat();
    let graph = [
        node("Add", "", b""),
        node("Cast", "ai.onnx", &bytes(5, attribute)),
        node("FlexAttention", "ai.onnx.preview", b""),
        bytes(5, tensor),
        bytes(2, "g"),
    ];
    assert_eq!(report(&model(&graph.concat())).verdict, Verdict::Safe);
}

#[test]
fn the_version_of_the_producer_may_have_lines() {
    let verdict = |field, text: &str| {
        let model = [number(1, 3), bytes(field, text), model(b"")[2..].to_vec()];
        report(&model.concat()).verdict
    };
    // As CatBoost writes it.
    assert_eq!(verdict(3, "Git info:\n    Commit: b1\n"), Verdict::Safe);
    assert_eq!(verdict(3, "a\u{12}b"), Verdict::Unknown);
    // A graph of TensorFlow stands in this field.
    assert_eq!(verdict(2, "\nName"), Verdict::Unknown);
    assert_eq!(verdict(4, "a\nb"), Verdict::Unknown);
}

#[test]
fn external_data_is_named_wherever_it_is() {
    let tensor = external("weights.bin");
    let sparse = bytes(1, &tensor);
    let in_node = |field, value: &[u8]| node("If", "", &bytes(5, bytes(field, value)));
    let subgraph = bytes(5, &tensor);
    let function = bytes(25, bytes(7, bytes(5, bytes(5, &tensor))));
    let training = bytes(20, bytes(2, bytes(5, &tensor)));
    for model in [
        model(&bytes(5, &tensor)),
        model(&bytes(15, &sparse)),
        model(&bytes(15, bytes(2, &tensor))),
        model(&in_node(5, &tensor)),
        model(&in_node(10, &tensor)),
        model(&in_node(6, &subgraph)),
        model(&in_node(11, &subgraph)),
        model(&in_node(22, &sparse)),
        model(&in_node(23, &sparse)),
        model(&in_node(6, &in_node(6, &subgraph))),
        [model(b""), function].concat(),
        [model(b""), training].concat(),
    ] {
        let report = report(&model);
        assert_eq!(report.verdict, Verdict::Unknown);
        assert_eq!(report.findings[0].rule, "onnx-external-data");
        assert!(report.findings[0].detail.contains("weights.bin"));
        assert_eq!(report.data_files, ["weights.bin"]);
    }
}

#[test]
fn external_data_outside_the_folder_is_executable() {
    for path in [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "",
        "a//b",
        "./x",
        "a/",
        "#../x",
        "a#b",
        "C:x",
        "..\\x",
        "file:///x",
        "a\nb",
        "a/.. /x",
        "~/x",
    ] {
        let report = report(&model(&bytes(5, external(path))));
        assert_eq!(report.verdict, Verdict::Executable, "{path}");
    }
}

#[test]
fn files_are_listed_only_if_they_are_beside_the_model_and_all_that_is_not_known() {
    let tensor = |location: &str| bytes(5, external(location));
    let listed = report(&model(
        &[tensor("b.data"), tensor("a"), tensor("a")].concat(),
    ));
    assert_eq!(listed.data_files, ["a", "b.data"]);
    assert_eq!(listed.findings.len(), 2);
    let not_external = [number(2, 1), bytes(9, [0_u8; 4])].concat();
    let entry = bytes(13, [bytes(1, "location"), bytes(2, "a")].concat());
    let long = "a".repeat(256);
    let many = |count: usize, name: &str| -> Vec<u8> {
        let names = (0..count).map(|index| tensor(&format!("{name}{index:04}")));
        names.collect::<Vec<_>>().concat()
    };
    for graph in [
        [tensor("a"), node("F", "x", b"")].concat(),
        [tensor("a"), tensor("folder/a")].concat(),
        [tensor("a"), tensor(&long)].concat(),
        [tensor("a"), bytes(5, [not_external, entry].concat())].concat(),
        many(1_301, "n"),
        many(200, &"n".repeat(200)),
    ] {
        let report = report(&model(&graph));
        assert_eq!(report.verdict, Verdict::Unknown, "{report:?}");
        assert!(report.data_files.is_empty(), "{report:?}");
    }
    assert_eq!(report(&model(&many(1_300, "n"))).data_files.len(), 1_300);
}

#[test]
fn an_address_in_the_memory_of_the_runtime_is_executable() {
    for location in ["*/_ORT_MEM_ADDR_/*", "*/_ORT_MEM_ADDR_/x"] {
        let report = report(&model(&bytes(5, external(location))));
        assert_eq!(report.verdict, Verdict::Executable);
        assert_eq!(report.findings[0].rule, "onnx-memory-address");
    }
}

#[test]
fn external_data_that_does_not_fit_its_tensor_is_malformed() {
    let entry = |key: &str, value: &str| bytes(13, [bytes(1, key), bytes(2, value)].concat());
    let tensor = |kind, dimensions: &[u8], entries: Vec<u8>| {
        let fields = [bytes(1, dimensions), number(2, kind), number(14, 1)];
        bytes(
            5,
            [fields.concat(), entry("location", "a"), entries].concat(),
        )
    };
    let length = |value: &str| entry("length", value);
    let cases: [(u64, &[u8], Vec<u8>, Verdict); 10] = [
        (1, &[2, 3], length("24"), Verdict::Unknown),
        (
            1,
            &[2, 3],
            [entry("offset", "7"), length("24")].concat(),
            Verdict::Unknown,
        ),
        (1, &[2, 3], Vec::new(), Verdict::Unknown),
        (22, &[3], length("2"), Verdict::Unknown),
        (1, &[2, 3], length("23"), Verdict::Malformed),
        (1, &[2, 3], length("25"), Verdict::Malformed),
        (
            1,
            &[2, 3],
            [length("24"), length("24")].concat(),
            Verdict::Malformed,
        ),
        (1, &[2, 3], entry("location", "b"), Verdict::Malformed),
        (1, &[2, 3], bytes(9, [0_u8; 24]), Verdict::Malformed),
        (8, &[2, 3], Vec::new(), Verdict::Malformed),
    ];
    for (kind, dimensions, entries, expected) in cases {
        let report = report(&model(&tensor(kind, dimensions, entries)));
        assert_eq!(report.verdict, expected, "{kind} {dimensions:?} {report:?}");
    }
    let nowhere = bytes(5, [number(2, 1), number(14, 1)].concat());
    assert_eq!(report(&model(&nowhere)).verdict, Verdict::Malformed);
}

#[test]
fn operators_of_the_runtime_compute_and_some_run_what_is_not_in_the_graph() {
    for (name, domain, expected) in [
        ("MatMulNBits", "com.microsoft", Verdict::Safe),
        ("GroupQueryAttention", "com.microsoft", Verdict::Safe),
        ("ReorderInput", "com.microsoft.nchwc", Verdict::Safe),
        ("MatMulNBits", "com.microsoft.dml", Verdict::Unknown),
        ("NotThere", "com.microsoft", Verdict::Unknown),
        ("Snpe", "com.microsoft", Verdict::Unknown),
        ("EPContext", "com.microsoft", Verdict::Executable),
        ("PythonOp", "com.microsoft", Verdict::Executable),
        ("ATen", "org.pytorch.aten", Verdict::Executable),
    ] {
        let report = report(&model(&node(name, domain, b"")));
        assert_eq!(report.verdict, expected, "{name} {report:?}");
    }
}

#[test]
fn metadata_that_a_loader_evaluates_is_a_literal() {
    let with = |key: &str, value: &str| {
        let entry = bytes(14, [bytes(1, key), bytes(2, value)].concat());
        report(&[model(b""), entry].concat())
    };
    assert_eq!(with("names", "{0: 'a', 1: 'b'}").verdict, Verdict::Safe);
    assert_eq!(with("author", "print(1)").verdict, Verdict::Safe);
    let code = with("names", "__import__('os').system('id')");
    assert_eq!(code.verdict, Verdict::Executable);
    assert_eq!(code.severity(), Some(Severity::Critical));
    assert_eq!(code.findings[0].rule, "onnx-metadata-code");
}

#[test]
fn ambiguous_external_data_is_malformed() {
    for entry in [
        [bytes(1, "location"), bytes(2, "a"), bytes(2, "../b")].concat(),
        [bytes(1, "offset"), bytes(1, "location"), bytes(2, "../b")].concat(),
        [bytes(1, "offset"), bytes(2, "-1")].concat(),
        [bytes(1, "length"), bytes(2, "9223372036854775808")].concat(),
    ] {
        let report = report(&model(&bytes(5, bytes(13, entry))));
        assert_eq!(report.verdict, Verdict::Malformed);
    }
    let location = bytes(5, number(14, 2));
    assert_eq!(report(&model(&location)).verdict, Verdict::Malformed);
}

#[test]
fn operators_of_other_domains_are_unknown_unless_the_model_defines_them() {
    let custom = model(&node("F", "ai.onnx.contrib", b""));
    let report_of_custom = report(&custom);
    assert_eq!(report_of_custom.verdict, Verdict::Unknown);
    assert_eq!(report_of_custom.findings[0].rule, "onnx-custom-domain");
    let body = bytes(7, [bytes(4, "Add"), bytes(7, "")].concat());
    let names = [bytes(1, "F"), bytes(10, "ai.onnx.contrib")].concat();
    let function = bytes(25, [&names[..], &body].concat());
    assert_eq!(
        report(&[&custom[..], &function].concat()).verdict,
        Verdict::Safe
    );
    // The body of a function and a subgraph have operators, too.
    let body = bytes(7, [bytes(4, "G"), bytes(7, "x")].concat());
    let function = bytes(25, [&names[..], &body].concat());
    assert_eq!(
        report(&[&custom[..], &function].concat()).verdict,
        Verdict::Unknown
    );
    let subgraph = bytes(5, bytes(6, node("G", "x", b"")));
    assert_eq!(
        report(&model(&node("If", "", &subgraph))).verdict,
        Verdict::Unknown
    );
    // Readers take the last domain.
    let two = model(&node("F", "ai.onnx", &bytes(7, "x")));
    assert_eq!(report(&two).verdict, Verdict::Malformed);
}

#[test]
fn broken_messages_are_malformed() {
    let mut nested = Vec::new();
    for _ in 0..60 {
        nested = node("If", "", &bytes(5, bytes(6, &nested)));
    }
    for broken in [
        b"".to_vec(),
        bytes(99, "x"),
        b"\x00\x00".to_vec(),
        b"\x3b".to_vec(),
        b"\x0b".to_vec(),
        b"\x3a\x05\x0a".to_vec(),
        b"\x3a\x02\x0a\x05".to_vec(),
        [&b"\x08"[..], &[0xff_u8; 10], b"\x01"].concat(),
        b"\x08".to_vec(),
        bytes(2, b"\xff"),
        model(&bytes(5, bytes(4, [0_u8; 3]))),
        model(&bytes(5, bytes(10, [0_u8; 4]))),
        model(&nested),
    ] {
        assert_eq!(report(&broken).verdict, Verdict::Malformed, "{broken:?}");
    }
}

#[test]
fn work_is_bounded() {
    let model = model(&node("Add", "", b""));
    for limits in [
        Limits {
            operations: 2,
            ..Limits::default()
        },
        Limits {
            header_bytes: 1,
            ..Limits::default()
        },
    ] {
        let report = scan(&mut Cursor::new(model.clone()), &limits).unwrap();
        assert_eq!(report.verdict, Verdict::Unknown);
    }
}

#[test]
fn a_negative_dimension_is_malformed() {
    let tensor = |size| {
        let data = bytes(9, [0_u8; 4]);
        bytes(5, [number(1, size), number(2, 1), data].concat())
    };
    assert_eq!(report(&model(&tensor(1))).verdict, Verdict::Safe);
    let negative = report(&model(&tensor(u64::MAX)));
    assert_eq!(negative.verdict, Verdict::Malformed);
}

#[test]
fn a_tensor_has_as_much_data_as_its_dimensions_say() {
    let two = [number(1, 2), number(1, 3)].concat();
    let packed = bytes(1, [2_u8, 3]);
    let none = [number(1, 1 << 62), number(1, 1 << 62), number(1, 0)].concat();
    let raw = |count: usize| bytes(9, vec![0_u8; count]);
    let cases = [
        (&two, 1, raw(24), Verdict::Safe),
        (&packed, 1, raw(24), Verdict::Safe),
        (&two, 1, raw(23), Verdict::Malformed),
        (&packed, 1, raw(25), Verdict::Malformed),
        (&two, 1, bytes(4, [0_u8; 24]), Verdict::Safe),
        (&two, 1, bytes(4, [0_u8; 20]), Verdict::Malformed),
        (&two, 1, b"\x25\0\0\0\0".repeat(6), Verdict::Safe),
        (&two, 1, Vec::new(), Verdict::Malformed),
        (&two, 1, [raw(24), raw(24)].concat(), Verdict::Malformed),
        (
            &two,
            1,
            [bytes(4, [0_u8; 24]), raw(24)].concat(),
            Verdict::Malformed,
        ),
        (&two, 7, bytes(7, b"\xff\xff\x01\0\0\0\0\0"), Verdict::Safe),
        (&two, 7, number(7, 1).repeat(6), Verdict::Safe),
        (&two, 7, bytes(4, [0_u8; 24]), Verdict::Malformed),
        (&two, 8, bytes(6, "text").repeat(6), Verdict::Safe),
        (&two, 8, raw(24), Verdict::Malformed),
        (&two, 10, bytes(5, [0_u8; 6]), Verdict::Safe),
        (&two, 15, raw(96), Verdict::Safe),
        (&two, 22, raw(3), Verdict::Safe),
        (&two, 22, bytes(5, [0_u8; 3]), Verdict::Safe),
        (&two, 25, raw(2), Verdict::Safe),
        (&two, 27, raw(5), Verdict::Safe),
        (&two, 99, raw(24), Verdict::Unknown),
        (&none, 1, raw(0), Verdict::Safe),
        (&none, 1, raw(4), Verdict::Malformed),
    ];
    for (dimensions, kind, data, expected) in cases {
        let tensor = [dimensions.as_slice(), &number(2, kind), &data].concat();
        // The same as an initialiser and in an attribute.
        let attribute = node("Constant", "", &bytes(5, bytes(5, &tensor)));
        for model in [model(&bytes(5, &tensor)), model(&attribute)] {
            let report = report(&model);
            assert_eq!(report.verdict, expected, "{kind} {data:?}: {report:?}");
        }
    }
}

#[test]
fn constants_do_not_ask_for_results_beyond_a_bound() {
    let integers = |name: &str, values: &[i64]| {
        let count = u64::try_from(values.len()).unwrap();
        let raw: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
        [
            number(1, count),
            number(2, 7),
            bytes(8, name),
            bytes(9, raw),
        ]
        .concat()
    };
    let initial = |name: &str, values: &[i64]| bytes(5, integers(name, values));
    let inputs = |names: &[&str]| -> Vec<u8> { names.iter().flat_map(|it| bytes(1, it)).collect() };
    let operator = |name: &str, names: &[&str]| node(name, "", &inputs(names));
    let tile = operator("Tile", &["x", "n"]);
    let large = 1_099_511_627_776;
    let constant = |attribute: Vec<u8>| {
        let value = [bytes(2, "n"), bytes(5, attribute)].concat();
        [node("Constant", "", &value), tile.clone()].concat()
    };
    let scales = [number(1, 1), number(2, 1), bytes(8, "n")].concat();
    let scales = bytes(5, [scales, bytes(9, 1e20_f32.to_le_bytes())].concat());
    let range = operator("Range", &["a", "b", "c"]);
    let bounds = |a, b, c| [initial("a", &[a]), initial("b", &[b]), initial("c", &[c])].concat();
    let cases = [
        (
            [tile.clone(), initial("n", &[1 << 31])].concat(),
            Verdict::Safe,
        ),
        (
            [tile.clone(), initial("n", &[large])].concat(),
            Verdict::Unknown,
        ),
        (
            [initial("n", &[1 << 16, 1 << 16]), tile.clone()].concat(),
            Verdict::Unknown,
        ),
        (
            [tile.clone(), initial("other", &[large])].concat(),
            Verdict::Safe,
        ),
        (constant(bytes(5, integers("", &[large]))), Verdict::Unknown),
        (constant(number(3, 1 << 40)), Verdict::Unknown),
        (constant(bytes(8, [4_u8, 5])), Verdict::Safe),
        (
            [operator("ConstantOfShape", &["n"]), initial("n", &[large])].concat(),
            Verdict::Unknown,
        ),
        (
            [operator("Slice", &["x", "n"]), initial("n", &[i64::MAX])].concat(),
            Verdict::Safe,
        ),
        (
            [operator("Resize", &["x", "", "n"]), scales].concat(),
            Verdict::Unknown,
        ),
        (
            [range.clone(), bounds(large, 1_099_511_627_785, 1)].concat(),
            Verdict::Safe,
        ),
        (
            [range.clone(), bounds(0, large, 1)].concat(),
            Verdict::Unknown,
        ),
        (
            [range.clone(), bounds(0, -1_099_511_627_776, -2)].concat(),
            Verdict::Unknown,
        ),
        ([range, bounds(0, large, large)].concat(), Verdict::Safe),
        // Floats as attributes, and sparse tensors.
        (
            constant([&[0x15_u8][..], &1e20_f32.to_le_bytes()].concat()),
            Verdict::Unknown,
        ),
        (constant(bytes(7, 1e20_f32.to_le_bytes())), Verdict::Unknown),
        (
            constant(bytes(22, bytes(1, integers("", &[1])))),
            Verdict::Unknown,
        ),
        (bytes(15, number(3, 1 << 31)), Verdict::Safe),
        (
            bytes(15, [number(3, 1 << 16), number(3, 1 << 16)].concat()),
            Verdict::Unknown,
        ),
        (
            [operator("Pad", &["x", "n"]), initial("n", &[0, 9, 0, 9])].concat(),
            Verdict::Safe,
        ),
        (
            [
                operator("Pad", &["x", "n"]),
                initial("n", &[0, 0, 0, large]),
            ]
            .concat(),
            Verdict::Unknown,
        ),
    ];
    for (graph, expected) in cases {
        let report = report(&model(&graph));
        assert_eq!(report.verdict, expected, "{report:?}");
    }
}

/// The same fields are graphs in a frozen graph and in a SavedModel of TensorFlow.
#[test]
fn no_field_of_a_model_is_a_graph_of_another_format() {
    let node = [bytes(1, "w"), bytes(2, "WriteFile")].concat();
    let graph = bytes(2, bytes(1, &node));
    let valid = model(b"");
    for (field, expected) in [
        (bytes(2, "pytorch"), Verdict::Safe),
        (bytes(1, &node), Verdict::Malformed),
        (bytes(2, &graph), Verdict::Unknown),
        (bytes(4, "ai\u{1}"), Verdict::Unknown),
    ] {
        let report = report(&[&valid[..], &field].concat());
        assert_eq!(report.verdict, expected, "{report:?}");
    }
}
