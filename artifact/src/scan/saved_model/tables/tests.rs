//! Tests of the rule of tables: SavedModels with a vocabulary in `assets`, and their neighbours.

use crate::scan::Verdict;
use crate::scan::protobuf::write::{bytes, number};
use crate::scan::saved_model::tests::{
    attribute, call, collection, function, graph, library, model, named, report, serves, text,
    verdict,
};

fn asset_file(tensor: &str, file: &str) -> Vec<u8> {
    [bytes(1, bytes(1, tensor)), bytes(2, file)].concat()
}

/// A field of a graph with an asset.
fn asset(tensor: &str, file: &str) -> Vec<u8> {
    bytes(6, asset_file(tensor, file))
}

/// The same as TensorFlow 1 writes it.
fn asset_collection(tensor: &str, file: &str) -> Vec<u8> {
    let any = [bytes(1, "type"), bytes(2, asset_file(tensor, file))].concat();
    let list = bytes(5, bytes(1, any));
    bytes(4, [bytes(1, "saved_model_assets"), bytes(2, list)].concat())
}

/// A model of TensorFlow 1 that reads `file` into a table, with the node `path`.
fn first(path: Vec<u8>, file: &str) -> Vec<Vec<u8>> {
    vec![
        path,
        named("other", "Placeholder", &[]),
        named("same", "Identity", &["path"]),
        named("joined", "StringJoin", &["path", "path"]),
        named("x", "Placeholder", &[]),
        named("table", "HashTableV2", &[]),
        named("read", "InitializeTableFromTextFileV2", &["table", file]),
        named("y", "LookupTableFindV2", &["table", "x"]),
        named("init", "NoOp", &["^read"]),
    ]
}

fn first_uses(asset: Vec<u8>) -> Vec<u8> {
    [
        asset,
        serves("x:0", "y:0"),
        collection("saved_model_main_op", "init"),
    ]
    .concat()
}

#[test]
fn tables_of_assets_are_safe() {
    let placeholder = named("path", "Placeholder", &[]);
    for path in [&text("path", "v.txt"), &placeholder] {
        for file in ["path", "path:0", "same"] {
            for asset in [
                asset("path:0", "v.txt"),
                asset_collection("path:0", "v.txt"),
            ] {
                let nodes = graph(&first(path.clone(), file));
                let file = model(&nodes, &first_uses(asset));
                assert_eq!(report(&file).findings.first(), None);
            }
        }
    }
    // As the signature that TensorFlow 2 adds: without a loader, nothing feeds the placeholder.
    let nodes = graph(&first(placeholder, "path"));
    let uses = [first_uses(asset("path:0", "v.txt")), serves("x:0", "init")].concat();
    assert_eq!(verdict(&model(&nodes, &uses)), Verdict::Safe);
}

#[test]
fn other_files_in_tables_are_executable() {
    let path = || text("path", "v.txt");
    let listed = || asset("path:0", "v.txt");
    let placeholder = || named("path", "Placeholder", &[]);
    let cases = [
        ("an absolute text", text("path", "/etc/x"), "path", listed()),
        (
            "a text that goes up",
            text("path", "a/../../x"),
            "path",
            listed(),
        ),
        ("no asset", path(), "path", Vec::new()),
        ("another tensor", path(), "path", asset("other:0", "v.txt")),
        ("a client's input", path(), "x", listed()),
        ("an operator between", path(), "joined", listed()),
        ("a file above", path(), "path", asset("path:0", "../x")),
        (
            "an absolute file",
            path(),
            "path",
            asset("path:0", "/etc/x"),
        ),
        (
            "a file above",
            path(),
            "path",
            asset_collection("path:0", "../x"),
        ),
        (
            "one file of two is above",
            path(),
            "path",
            [listed(), asset_collection("path:0", "../x")].concat(),
        ),
        (
            "a client's path",
            placeholder(),
            "path",
            [listed(), serves("path:0", "y:0")].concat(),
        ),
        (
            "a client's path between",
            placeholder(),
            "same",
            [listed(), serves("same:0", "init")].concat(),
        ),
        (
            "a client reads",
            path(),
            "path",
            [listed(), serves("x:0", "init")].concat(),
        ),
    ];
    for (case, path, file, uses) in cases {
        let file = model(&graph(&first(path, file)), &first_uses(uses));
        assert_eq!(verdict(&file), Verdict::Executable, "{case}");
    }
    let mut nodes = first(path(), "path");
    assert_eq!(verdict(&graph(&nodes)), Verdict::Executable, "frozen");
    let uses = [first_uses(listed()), bytes(9, "")].concat();
    let file = model(&graph(&nodes), &uses);
    assert_eq!(verdict(&file), Verdict::Executable, "no end");
    nodes.push(named("other_read", "ReadFile", &["path"]));
    let file = model(&graph(&nodes), &first_uses(listed()));
    assert_eq!(verdict(&file), Verdict::Executable, "read twice");
}

/// An operator that writes a variable, with the type of what it writes.
fn write(name: &str, operator: &str, inputs: &[&str], dtype: &[u8]) -> Vec<u8> {
    [named(name, operator, inputs), attribute("dtype", dtype)].concat()
}

/// A model of TensorFlow 2 that calls `initializer` with these inputs.
fn second(inputs: &[&str]) -> Vec<u8> {
    let text = number(6, 7);
    graph(&[
        named("path", "Placeholder", &[]),
        named("variable", "VarHandleOp", &[]),
        write("assign", "AssignVariableOp", &["variable", "path"], &text),
        named("read", "ReadVariableOp", &["variable", "^assign"]),
        named("other", "Placeholder", &[]),
        named("x", "Placeholder", &[]),
        named("table", "HashTableV2", &[]),
        call("call", "initializer", inputs),
        named("y", "LookupTableFindV2", &["table", "x"]),
        named("NoOp", "NoOp", &["^call", "^assign"]),
    ])
}

fn initializer(file: &str) -> Vec<u8> {
    let nodes = [
        text("constant", "v.txt"),
        named("same", "Identity", &["file"]),
        named("init", "InitializeTableFromTextFileV2", &["table", file]),
    ];
    function("initializer", &["file", "table"], &nodes)
}

/// Objects: the asset, which has these fields, a table, and the function, with its bound inputs.
fn objects(asset: &[u8], bound: &[u8]) -> Vec<u8> {
    let captures = bytes(2, bytes(2, bound));
    let nodes = [
        bytes(1, asset),
        bytes(1, bytes(10, "")),
        bytes(1, bytes(6, bytes(1, "initializer"))),
        bytes(2, [bytes(1, "initializer"), captures].concat()),
    ];
    bytes(7, nodes.concat())
}

fn second_uses(objects: Vec<u8>) -> Vec<u8> {
    [
        asset("path:0", "v.txt"),
        serves("x:0", "y:0"),
        serves("x:0", "NoOp"),
        collection("saved_model_main_op", "NoOp"),
        objects,
    ]
    .concat()
}

#[test]
fn functions_that_get_an_asset_are_safe() {
    let objects = || objects(&bytes(5, ""), &[0, 1]);
    for (input, file) in [
        ("read", "file"),
        ("path", "file"),
        ("read", "same:output:0"),
    ] {
        let functions = library(&[initializer(file)]);
        let file = [second(&[input, "table"]), functions].concat();
        let file = model(&file, &second_uses(objects()));
        assert_eq!(report(&file).findings, [], "{input}");
    }
    // Numbers in other variables, as savers restore them.
    let numbers = write("n", "AssignVariableOp", &["w", "x"], &number(6, 1));
    let functions = [
        initializer("file"),
        function("restore", &["w", "x"], &[numbers]),
    ];
    let file = [second(&["read", "table"]), library(&functions)].concat();
    let file = model(&file, &second_uses(objects()));
    assert_eq!(report(&file).findings.first(), None);
}

#[test]
fn functions_that_get_another_file_are_executable() {
    let objects_of = |bound: &[u8]| objects(&bytes(5, ""), bound);
    let called = |inputs: &[&str]| [second(inputs), library(&[initializer("file")])].concat();
    let right = || called(&["read", "table"]);
    let uses = || second_uses(objects_of(&[0, 1]));
    let with = |more: &[u8]| [uses(), more.to_vec()].concat();
    let more = |more: &[u8]| [right(), more.to_vec()].concat();
    let text = number(6, 7);
    let other =
        |operator: &str, dtype: &[u8]| write("evil", operator, &["variable", "other"], dtype);
    let captured = bytes(7, bytes(1, bytes(12, bytes(2, "initializer"))));
    let bare = library(&[function("f", &[], &[call("c", "initializer", &["a", "b"])])]);
    let gradient = bytes(
        2,
        bytes(2, [bytes(1, "g"), bytes(2, "initializer")].concat()),
    );
    let in_function = library(&[function(
        "f",
        &["variable", "other"],
        &[other("AssignVariableOp", &text)],
    )]);
    let inner = [
        second(&["read", "table"]),
        library(&[initializer("constant:output:0")]),
    ]
    .concat();
    let unnamed = bytes(1, bytes(2, number(3, 7)));
    let unnamed = library(&[[initializer("file"), unnamed].concat()]);
    let unnamed = [second(&["read", "table"]), unnamed].concat();
    let two_kinds = [bytes(5, ""), bytes(9, "")].concat();
    let registered = [bytes(13, "Custom"), bytes(5, "")].concat();
    let cases = [
        ("another tensor", called(&["other", "table"]), uses()),
        ("a client's input", called(&["x", "table"]), uses()),
        ("exchanged arguments", called(&["table", "read"]), uses()),
        ("an argument is missing", called(&["read"]), uses()),
        ("a constant inside", inner, uses()),
        ("an argument without a name", unnamed, uses()),
        ("another function calls it", more(&bare), uses()),
        ("a gradient", more(&gradient), uses()),
        ("a captured tensor", right(), with(&captured)),
        (
            "written twice",
            more(&graph(&[other("AssignVariableOp", &text)])),
            uses(),
        ),
        (
            "a type of the caller",
            more(&graph(&[other("AssignVariableOp", &bytes(9, "T"))])),
            uses(),
        ),
        (
            "no type",
            more(&graph(&[other("AssignVariableOp", b"")])),
            uses(),
        ),
        (
            "scattered",
            more(&graph(&[other("ResourceScatterUpdate", &text)])),
            uses(),
        ),
        ("written in a function", more(&in_function), uses()),
        (
            "a client's variable",
            right(),
            with(&serves("variable:0", "y:0")),
        ),
        ("a client's path", right(), with(&serves("path:0", "y:0"))),
        (
            "a client's path between",
            right(),
            with(&serves("read:0", "y:0")),
        ),
        (
            "bound to a table",
            right(),
            second_uses(objects_of(&[1, 0])),
        ),
        (
            "bound to nothing",
            right(),
            second_uses(objects_of(&[7, 1])),
        ),
        ("not bound", right(), second_uses(objects_of(&[1]))),
        ("bound twice", right(), with(&objects_of(&[0, 1]))),
        (
            "too much bound",
            right(),
            second_uses(objects_of(&[0, 0, 1])),
        ),
        (
            "an asset and a constant",
            right(),
            second_uses(objects(&two_kinds, &[0, 1])),
        ),
        (
            "an object of another class",
            right(),
            second_uses(objects(&registered, &[0, 1])),
        ),
    ];
    for (case, graph, uses) in cases {
        let file = model(&graph, &uses);
        assert_eq!(verdict(&file), Verdict::Executable, "{case}");
    }
}
