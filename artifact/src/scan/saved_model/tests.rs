//! Tests of SavedModels: operators, functions, assets and the rule of the saver.

#![allow(clippy::unwrap_used, reason = "tests")]
use std::io::Cursor;

use super::*;
use crate::scan::Severity;
use crate::scan::protobuf::write::{bytes, number};

pub(super) fn report(file: &[u8]) -> Report {
    scan(&mut Cursor::new(file.to_vec()), &Limits::default()).unwrap()
}

pub(super) fn verdict(file: &[u8]) -> Verdict {
    report(file).verdict
}

/// A node with its name, operator and inputs.
pub(super) fn named(name: &str, operator: &str, inputs: &[&str]) -> Vec<u8> {
    let inputs: Vec<Vec<u8>> = inputs.iter().map(|input| bytes(3, input)).collect();
    [bytes(1, name), bytes(2, operator), inputs.concat()].concat()
}

pub(super) fn attribute(name: &str, value: &[u8]) -> Vec<u8> {
    bytes(5, [bytes(1, name), bytes(2, value)].concat())
}

/// A constant text.
pub(super) fn text(name: &str, value: &str) -> Vec<u8> {
    let tensor = [number(1, 7), bytes(2, ""), bytes(8, value)].concat();
    let value = attribute("value", &bytes(8, tensor));
    [named(name, "Const", &[]), value].concat()
}

/// A call of a function.
pub(super) fn call(name: &str, function: &str, inputs: &[&str]) -> Vec<u8> {
    let attribute = attribute("f", &bytes(10, bytes(1, function)));
    [named(name, "StatefulPartitionedCall", inputs), attribute].concat()
}

pub(super) fn graph(nodes: &[Vec<u8>]) -> Vec<u8> {
    let nodes: Vec<Vec<u8>> = nodes.iter().map(|node| bytes(1, node)).collect();
    nodes.concat()
}

/// A function with arguments and nodes.
pub(super) fn function(name: &str, arguments: &[&str], nodes: &[Vec<u8>]) -> Vec<u8> {
    let argument = |name: &&str| bytes(2, [bytes(1, name), number(3, 7)].concat());
    let arguments: Vec<Vec<u8>> = arguments.iter().map(argument).collect();
    let nodes: Vec<Vec<u8>> = nodes.iter().map(|node| bytes(3, node)).collect();
    let signature = [bytes(1, name), arguments.concat()].concat();
    [bytes(1, signature), nodes.concat()].concat()
}

/// A field of a graph with functions.
pub(super) fn library(functions: &[Vec<u8>]) -> Vec<u8> {
    let functions: Vec<Vec<u8>> = functions.iter().map(|item| bytes(1, item)).collect();
    bytes(2, functions.concat())
}

fn saver(file_name: &str, save: &str, restore: &str) -> Vec<u8> {
    bytes(
        3,
        [
            bytes(1, file_name),
            bytes(2, save),
            bytes(3, restore),
            number(7, 2),
        ]
        .concat(),
    )
}

/// A signature that a client calls.
pub(super) fn serves(input: &str, output: &str) -> Vec<u8> {
    let tensor = |name: &str| bytes(2, bytes(1, name));
    let entry = |name: &str| [bytes(1, "key"), tensor(name)].concat();
    let signature = [bytes(1, entry(input)), bytes(2, entry(output))].concat();
    bytes(
        5,
        [bytes(1, "serving_default"), bytes(2, signature)].concat(),
    )
}

/// A collection of nodes.
pub(super) fn collection(name: &str, node: &str) -> Vec<u8> {
    let nodes = bytes(1, bytes(1, node));
    bytes(4, [bytes(1, name), bytes(2, nodes)].concat())
}

pub(super) fn model(graph: &[u8], uses: &[u8]) -> Vec<u8> {
    let meta_graph = [bytes(1, "info"), bytes(2, graph), uses.to_vec()].concat();
    [number(1, 1), bytes(2, meta_graph)].concat()
}

/// What serves the model `y = x * w`, and its saver as TensorFlow 1 writes it. The path of each
/// file is made from `name`.
fn first(name: &str) -> Vec<Vec<u8>> {
    vec![
        named("x", "Placeholder", &[]),
        named("w", "VarHandleOp", &[]),
        named("y", "Mul", &["x", "w"]),
        named("init", "NoOp", &["^w"]),
        text("save/filename/input", "model"),
        named(
            "save/filename",
            "PlaceholderWithDefault",
            &["save/filename/input"],
        ),
        named("save/Const", "PlaceholderWithDefault", &["save/filename"]),
        named("save/Match", "StaticRegexFullMatch", &["save/Const"]),
        text("save/Const_1", ".part"),
        text("save/Const_2", "_temp/part"),
        named(
            "save/Select",
            "Select",
            &["save/Match", "save/Const_1", "save/Const_2"],
        ),
        named("save/Join", "StringJoin", &[name, "save/Select"]),
        named("save/Shard", "ShardedFilename", &["save/Join", "i", "n"]),
        named(
            "save/SaveV2",
            "SaveV2",
            &["save/Shard", "names", "slices", "w"],
        ),
        named("save/control", "Identity", &["save/Shard", "^save/SaveV2"]),
        named("save/Pack", "Pack", &["save/Shard", "^save/control"]),
        named(
            "save/Merge",
            "MergeV2Checkpoints",
            &["save/Pack", "save/Const"],
        ),
        named("save/Identity", "Identity", &["save/Const", "^save/Merge"]),
        named("save/RestoreV2", "RestoreV2", &[name, "names", "slices"]),
        named("save/Assign", "AssignVariableOp", &["w", "save/RestoreV2"]),
        named("save/restore_all", "NoOp", &["^save/Assign"]),
    ]
}

/// What uses that graph.
fn uses() -> Vec<u8> {
    [
        saver("save/Const:0", "save/Identity:0", "save/restore_all"),
        serves("x:0", "y:0"),
        collection("saved_model_main_op", "init"),
    ]
    .concat()
}

/// The functions of a saver, as TensorFlow 2 writes them. All files of the second have this name.
fn second(name: &str) -> Vec<Vec<u8>> {
    let save = [
        named("Match", "StaticRegexFullMatch", &["file_prefix"]),
        text("Const", ".part"),
        text("Const_1", "_temp/part"),
        named(
            "Select",
            "Select",
            &["Match:output:0", "Const:output:0", "Const_1:output:0"],
        ),
        named("Join", "StringJoin", &["file_prefix", "Select:output:0"]),
        named(
            "Shard",
            "ShardedFilename",
            &["Join:output:0", "i:output:0", "n:output:0"],
        ),
        named(
            "SaveV2",
            "SaveV2",
            &["Shard:filename:0", "names", "slices", "w"],
        ),
        named("Pack", "Pack", &["Shard:filename:0", "^SaveV2"]),
        named(
            "Merge",
            "MergeV2Checkpoints",
            &["Pack:output:0", "file_prefix"],
        ),
    ];
    let restore = [
        text("path", "/etc/x"),
        named("RestoreV2", "RestoreV2", &[name, "names", "slices"]),
    ];
    vec![
        function("traced_save", &["file_prefix", "w"], &save),
        function("traced_restore", &["file_prefix", "w"], &restore),
        function("served", &["x"], &[named("y", "Relu", &["x"])]),
    ]
}

/// The main graph with these inputs of the call that restores.
fn main_graph(restored: &[&str]) -> Vec<Vec<u8>> {
    vec![
        named("x", "Placeholder", &[]),
        named("w", "VarHandleOp", &[]),
        named("saver_filename", "Placeholder", &[]),
        text("other", "/etc/x"),
        call("Call", "served", &["x"]),
        call("Call_1", "traced_save", &["saver_filename", "w"]),
        call("Call_2", "traced_restore", restored),
        named("NoOp", "NoOp", &[]),
    ]
}

fn second_uses() -> Vec<u8> {
    [
        saver("saver_filename:0", "Call_1:0", "Call_2"),
        serves("x:0", "Call:0"),
        serves("x:0", "NoOp"),
        collection("saved_model_main_op", "NoOp"),
    ]
    .concat()
}

#[test]
fn operators_decide() {
    for (operator, expected) in [
        ("MatMul", Verdict::Safe),
        ("ReadFile", Verdict::Executable),
        ("EagerPyFunc", Verdict::Executable),
        ("RestoreV2", Verdict::Unknown),
        ("SomethingNew", Verdict::Unknown),
    ] {
        let node = named("name", operator, &[]);
        let nodes = graph(std::slice::from_ref(&node));
        assert_eq!(verdict(&model(&nodes, b"")), expected, "{operator}");
        assert_eq!(verdict(&nodes), expected, "{operator} in a frozen graph");
        let functions = library(&[function("f", &[], &[node])]);
        assert_eq!(
            verdict(&model(&functions, b"")),
            expected,
            "{operator} in f"
        );
    }
}

#[test]
fn what_is_printed_goes_to_a_log_or_to_a_file() {
    let print = |attributes: &[Vec<u8>]| {
        let node = [named("p", "PrintV2", &["x"]), attributes.concat()].concat();
        let node = std::slice::from_ref(&node);
        let in_function = model(&library(&[function("f", &[], node)]), b"");
        [verdict(&graph(node)), verdict(&in_function)]
    };
    let stream = |value: &str| attribute("output_stream", &bytes(2, value));
    let end = attribute("end", &bytes(2, "\n"));
    for attributes in [
        vec![],
        vec![stream("stderr"), end],
        vec![stream("log(info)")],
    ] {
        assert_eq!(print(&attributes), [Verdict::Safe; 2], "{attributes:?}");
    }
    let path = "file:///tmp/x";
    let (value, name) = (bytes(2, bytes(2, path)), bytes(1, "output_stream"));
    for attributes in [
        vec![stream(path)],
        vec![stream(path), stream("stderr")],
        vec![stream("stderr"), stream(path)],
        // The name stands behind the value, or there are two of them.
        vec![bytes(5, [&value[..], &name].concat())],
        vec![bytes(5, [&bytes(1, "end")[..], &value, &name].concat())],
        // A caller of the function sets it.
        vec![attribute("output_stream", &bytes(9, "stream"))],
    ] {
        assert_eq!(
            print(&attributes),
            [Verdict::Executable; 2],
            "{attributes:?}"
        );
    }
    assert_eq!(
        verdict(&graph(&[named("p", "Print", &["x"])])),
        Verdict::Safe
    );
}

#[test]
fn functions_of_the_library_may_be_called_by_name() {
    let call = graph(&[named("name", "__inference_f", &[])]);
    let add = [named("name", "Add", &[])];
    let functions = library(&[function("__inference_f", &[], &add)]);
    let both = [&call[..], &functions].concat();
    assert_eq!(verdict(&model(&both, b"")), Verdict::Safe);
    assert_eq!(verdict(&model(&call, b"")), Verdict::Unknown);
    // A function does not hide an operator with an effect.
    let read = graph(&[named("name", "ReadFile", &[])]);
    let both = [read, library(&[function("ReadFile", &[], &add)])].concat();
    assert_eq!(verdict(&model(&both, b"")), Verdict::Executable);
}

#[test]
fn assets_stay_in_their_folder() {
    for (name, expected) in [("vocab.txt", Verdict::Safe), ("../x", Verdict::Executable)] {
        let meta_graph = bytes(6, bytes(2, name));
        let file = [number(1, 1), bytes(2, meta_graph)].concat();
        assert_eq!(verdict(&file), expected, "{name}");
    }
}

#[test]
fn other_forms_and_broken_files_are_not_safe() {
    let text = b"saved_model_schema_version: 1 meta_graphs { graph_def { node { op: ";
    let form = |rest: &[u8]| [&text[..], rest].concat();
    assert_eq!(verdict(&form(b"\"Add\" } } }")), Verdict::Unknown);
    assert_eq!(verdict(&form(b"'PyFunc' } } }")), Verdict::Executable);
    assert_eq!(verdict(b""), Verdict::Malformed);
    assert_eq!(verdict(b"\xff"), Verdict::Malformed);
    assert_eq!(verdict(&number(1, 2)), Verdict::Unknown);
    assert_eq!(verdict(&bytes(2, "")), Verdict::Unknown);
    let longer = [model(b"", b""), bytes(9, "")].concat();
    assert_eq!(verdict(&longer), Verdict::Malformed);
}

#[test]
fn savers_that_only_a_loader_runs_are_safe() {
    let file = model(&graph(&first("save/Const")), &uses());
    assert_eq!(report(&file).findings.first(), None);
    // Before 1.9 the loader fed a constant.
    let mut nodes = first("save/Const");
    nodes.retain(|node| !contains(node, "save/filename"));
    nodes.push(text("save/Const", "model"));
    let file = model(&graph(&nodes), &uses());
    assert_eq!(report(&file).findings.first(), None);
    let nodes = graph(&main_graph(&["saver_filename", "w"]));
    let functions = library(&second("file_prefix"));
    let file = model(&[nodes, functions].concat(), &second_uses());
    assert_eq!(report(&file).findings.first(), None);
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[test]
fn files_of_another_source_are_not_safe() {
    let path = text("path", "/etc/x");
    let client = named("client", "Placeholder", &[]);
    for name in ["path", "path_2", "client", "x", "y", "absent"] {
        let mut nodes = first(name);
        nodes.extend([path.clone(), client.clone()]);
        nodes.push(named("path_2", "Identity", &["path"]));
        let file = model(&graph(&nodes), &uses());
        assert_eq!(verdict(&file), Verdict::Unknown, "{name}");
    }
    for (restored, inner) in [
        (&["other", "w"][..], "file_prefix"),
        (&["x", "w"], "file_prefix"),
        (&["w", "saver_filename"], "file_prefix"),
        (&["saver_filename"], "w"),
        (&["saver_filename", "w"], "path:output:0"),
    ] {
        let functions = library(&second(inner));
        let nodes = graph(&main_graph(restored));
        let file = model(&[nodes, functions].concat(), &second_uses());
        assert_eq!(verdict(&file), Verdict::Unknown, "{restored:?} {inner}");
    }
}

#[test]
fn parts_of_names_stay_in_the_folder() {
    for (part, expected) in [
        ("_temp_0a/part", Verdict::Safe),
        ("/../../x", Verdict::Unknown),
        ("_temp/../../x", Verdict::Unknown),
        ("/etc/x", Verdict::Unknown),
        ("a\0b", Verdict::Unknown),
    ] {
        let mut nodes = first("save/Const");
        nodes.retain(|node| !contains(node, "_temp/part"));
        nodes.push(text("save/Const_2", part));
        let file = model(&graph(&nodes), &uses());
        assert_eq!(verdict(&file), expected, "{part}");
    }
    // What is read if nothing is fed is no path, either.
    let mut nodes = first("save/Const");
    nodes.retain(|node| !contains(node, "input") || contains(node, "Placeholder"));
    nodes.push(text("save/filename/input", "/etc/x"));
    assert_eq!(verdict(&model(&graph(&nodes), &uses())), Verdict::Unknown);
    // A text between the joined ones, whatever stands around it in the attribute.
    let separator = bytes(2, "/../");
    let nested = bytes(10, bytes(2, bytes(1, "x")));
    for attributes in [
        attribute("separator", &separator),
        attribute("separator", &[nested, separator.clone()].concat()),
        bytes(
            5,
            [bytes(1, "x"), bytes(2, &separator), bytes(1, "separator")].concat(),
        ),
        bytes(5, [bytes(2, &separator), bytes(1, "separator")].concat()),
    ] {
        let mut nodes = first("save/Const");
        for node in &mut nodes {
            if contains(node, "StringJoin") {
                node.extend_from_slice(&attributes);
            }
        }
        assert_eq!(verdict(&model(&graph(&nodes), &uses())), Verdict::Unknown);
    }
}

#[test]
fn savers_that_clients_or_the_start_reach_are_executable() {
    let nodes = graph(&first("save/Const"));
    for use_of_it in [
        collection("saved_model_main_op", "save/SaveV2"),
        collection("legacy_init_op", "save/restore_all"),
        collection("init_op", "save/Identity:0"),
        serves("save/Const:0", "y:0"),
        serves("x:0", "save/RestoreV2:0"),
        serves("x:0", "save/Shard:0"),
        serves("save/Join:0", "y:0"),
    ] {
        let file = model(&nodes, &[uses(), use_of_it].concat());
        assert_eq!(verdict(&file), Verdict::Executable);
    }
    // What restores the variables writes a file.
    let mut nodes = first("save/Const");
    nodes.retain(|node| !contains(node, "restore_all"));
    nodes.push(named(
        "save/restore_all",
        "NoOp",
        &["^save/Assign", "^save/Merge"],
    ));
    assert_eq!(
        verdict(&model(&graph(&nodes), &uses())),
        Verdict::Executable
    );
}

/// The model names no saver, or its graph cannot be followed: what runs is found all the same.
#[test]
fn checkpoints_that_the_start_or_a_client_writes_are_executable_without_a_saver() {
    let path = text("path", "/tmp/x");
    let save = named("save", "SaveV2", &["path", "names", "slices", "w"]);
    let inner = function("inner", &[], &[path.clone(), save.clone()]);
    let outer = function("outer", &[], &[call("c", "inner", &[])]);
    let complete = [
        graph(&[
            path,
            save,
            named("x", "Placeholder", &[]),
            named("y", "Relu", &["x"]),
            named("start", "NoOp", &["^save"]),
            call("nested", "outer", &[]),
        ]),
        library(&[inner, outer]),
    ]
    .concat();
    let twice = [&complete[..], &graph(&[named("x", "Placeholder", &[])])].concat();
    let object = |function: &str| bytes(7, bytes(1, bytes(8, bytes(1, function))));
    for nodes in [&complete, &twice] {
        for use_of_it in [
            collection("saved_model_main_op", "start"),
            collection("saved_model_main_op", "nested"),
            serves("x:0", "nested:0"),
            object("outer"),
        ] {
            let found = report(&model(nodes, &use_of_it));
            assert_eq!(found.verdict, Verdict::Executable, "{found:?}");
            assert_eq!(found.severity(), Some(Severity::Critical));
        }
        let found = verdict(&model(nodes, &serves("x:0", "y:0")));
        assert_eq!(found, Verdict::Unknown, "nothing runs it");
    }
    // What restores the variables calls what writes a file.
    let uses = [saver("path:0", "y", "nested"), serves("x:0", "y:0")].concat();
    assert_eq!(verdict(&model(&complete, &uses)), Verdict::Executable);
}

#[test]
fn functions_of_a_saver_are_not_reached() {
    let nodes = graph(&main_graph(&["saver_filename", "w"]));
    let complete = [nodes, library(&second("file_prefix"))].concat();
    let object_graph = |object: Vec<u8>| bytes(7, object);
    let entry = [bytes(1, "traced_save"), bytes(2, "")].concat();
    for use_of_it in [
        serves("x:0", "Call_1:0"),
        serves("saver_filename:0", "Call:0"),
        collection("saved_model_main_op", "Call_1"),
        object_graph(bytes(2, entry)),
        object_graph(bytes(1, bytes(6, bytes(1, "traced_restore")))),
        object_graph(bytes(1, bytes(8, bytes(1, "traced_restore")))),
        object_graph(bytes(1, bytes(12, bytes(2, "traced_restore")))),
    ] {
        let file = model(&complete, &[second_uses(), use_of_it].concat());
        assert_eq!(verdict(&file), Verdict::Executable);
    }
    let function = |name: &str, node| library(&[function(name, &["p", "w"], &[node])]);
    let exchanged = [
        // A function that a client calls calls it, by an attribute or by its name.
        function("f", call("c", "traced_save", &["p", "w"])),
        function("f", named("c", "traced_save", &["p", "w"])),
        // Two functions have its name.
        function("traced_save", named("c", "Relu", &["p"])),
        // A loop makes the inputs of its body.
        graph(&[[
            named("loop", "While", &["saver_filename", "w"]),
            attribute("body", &bytes(10, bytes(1, "traced_save"))),
        ]
        .concat()]),
        // A second node has the name of the placeholder.
        graph(&[named("saver_filename", "Placeholder", &[])]),
    ];
    for (index, more) in exchanged.iter().enumerate() {
        let file = model(&[&complete[..], more].concat(), &second_uses());
        assert_eq!(verdict(&file), Verdict::Unknown, "{index}");
    }
    let file = model(&complete, &[second_uses(), saver("x:0", "x", "x")].concat());
    assert_eq!(verdict(&file), Verdict::Unknown, "two savers");
    // A function that may take the place of another one, and one whose arguments are lists.
    let mut functions = second("file_prefix");
    if let Some(save) = functions.first_mut() {
        save.extend(attribute("api_implements", &bytes(2, "served")));
    }
    let nodes = graph(&main_graph(&["saver_filename", "w"]));
    let file = model(&[nodes, library(&functions)].concat(), &second_uses());
    assert_eq!(verdict(&file), Verdict::Unknown, "exchanged");
}

#[test]
fn options_of_the_server_are_not_followed() {
    let names = [bytes(1, "placeholder_model_name"), bytes(2, "model_name")].concat();
    let options = bytes(1, bytes(1, bytes(1, names)));
    let mut file = Cursor::new(options);
    let limits = Limits::default();
    let report = crate::scan::detect::scan(&mut file, "saved_model_config.pb", &limits).unwrap();
    assert_eq!(report.verdict, Verdict::Unknown, "{report:?}");
}

/// TensorFlow reads `saved_model.pb` as a SavedModel, which has its graphs in the same field.
#[test]
fn names_of_gradients_are_no_graphs() {
    let start = bytes(1, named("a", "NoOp", &[]));
    let with = |name: &[u8]| [&start[..], &bytes(2, bytes(2, bytes(1, name)))].concat();
    assert_eq!(verdict(&with(b"f")), Verdict::Safe);
    let hidden = named("w", "WriteFile", &[]);
    assert_eq!(verdict(&with(&hidden)), Verdict::Unknown);
}
