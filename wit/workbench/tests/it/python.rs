//! Handlers in Python.

use std::process::Command;

use serde_json::json;
use tensorgate_client::run::tree;

use super::{Project, story, works};

#[test]
fn a_new_project_works_at_once_and_its_failures_are_distinguished() {
    let project = Project::new("scale-py", "python", "preprocess");
    works(&project);
    let source = project.folder().join("handler.py");
    let given = std::fs::read_to_string(&source).unwrap();
    project.write_own_cases("(handler.py:8 in preprocess)");
    // Two tensors: an import in a call, of a module that the component lacks.
    let tensors = ["t", "u"]
        .map(|name| json!({"name": name, "datatype": "BYTES", "shape": [1], "data": ["a"]}));
    let cause = "ModuleNotFoundError: No module named 'colorsys' (handler.py:7 in preprocess); a handler can import only";
    let case = json!({
        "input": {"tensors": tensors}, "expect": {"refused": "reported", "says": cause},
    });
    project.write("cases/own-late-import.json", &case.to_string());
    project.write(
        "handler.py",
        "from tensorgate import BadInput, Raw, Tensor\n\ndef preprocess(input):\n    if isinstance(input, Raw):\n        raise BadInput(f\"{input.content_type} {len(input.data)}\")\n    if len(input) == 2:\n        import colorsys\n    (only,) = input\n    return [Tensor.of_items(only.name, only.items())]\n",
    );
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    assert_eq!(project.failed("own-"), Vec::<String>::new());
    // A package that a component cannot contain is reported while it is built.
    project.write("handler.py", &format!("import numpy\n{given}"));
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    assert!(
        (ran.stderr).starts_with(
            "error: ModuleNotFoundError: No module named 'numpy'\n  handler.py:1\nfix: a component cannot contain numpy: "
        ),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stderr.lines().count(), 3, "{}", ran.stderr);
    names_what_a_handler_lacks(&project);
}

/// Uses what its only tensor is named after. The host ends the loop from outside.
const LACKING: &str = "import socket, threading

def preprocess(input):
    if input[0].name == 'file':
        open('labels.txt')
    if input[0].name == 'socket':
        socket.socket()
    if input[0].name == 'loop':
        count(0)
    threading.Thread(target=print).start()


def count(number):
    while True: number += 1
";

/// A development build says the same: see `mistakes`.
fn names_what_a_handler_lacks(project: &Project) {
    project.write("handler.py", LACKING);
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    for (name, line, text) in [
        (
            "file",
            "handler.py:5 in preprocess",
            "a handler has no files",
        ),
        (
            "socket",
            "handler.py:7 in preprocess",
            "PermissionError: a handler has no sockets",
        ),
        (
            "thread",
            "handler.py:10 in preprocess",
            "a handler has no threads",
        ),
        (
            "loop",
            "(handler.py:9 in preprocess, handler.py:14 in count)",
            "the call used all its fuel",
        ),
    ] {
        let tensor = json!({"name": name, "datatype": "BYTES", "shape": [1], "data": ["a"]});
        let case = json!({"input": {"tensors": [tensor]}, "expect": {"tensors": []}});
        project.write(&format!("cases/lacks-{name}.json"), &case.to_string());
        let fault = project.fault(&format!("lacks-{name}")).unwrap();
        assert!(fault.contains(text) && fault.contains(line), "{fault}");
    }
}

#[test]
fn a_handler_without_the_function_of_its_world_is_not_built() {
    let project = Project::unbuilt("misspelt-py", "python", "preprocess");
    project.edit("handler.py", "def preprocess(", "def process(");
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    assert_eq!(
        ran.stderr,
        "error: handler.py defines no function preprocess(input)\nfound: process, number; did you mean preprocess?\n"
    );
    assert!(!project.component().exists());
    std::fs::remove_file(project.folder().join("handler.py")).unwrap();
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 2, "{}", story(&ran));
    assert!(ran.stderr.contains("has no handler.py"), "{}", ran.stderr);
}

#[test]
fn a_project_after_the_model_works() {
    let project = Project::new("label-py", "python", "postprocess");
    project.give_time();
    let ran = project.verb("test", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
}

/// Tests the package in plain CPython, as an author's own tests do, and the modules that connect a
/// handler with its host.
#[test]
fn the_package_passes_its_tests() {
    let output = Command::new("python3")
        .args(["-B", "-m", "unittest", "-q"])
        .args(["test_tensorgate", "test_entry", "test_development"])
        .current_dir(tree().join("wit/python"))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    assert!(!printed.contains("Ran 0 "), "{printed}");
}
