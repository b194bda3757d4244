//! Handlers in Python.

use std::process::Command;

use tensorgate_client::run::tree;

use super::{Project, story, works};

#[test]
fn a_new_project_works_at_once_and_its_failures_are_distinguished() {
    let project = Project::new("scale-py", "python", "preprocess");
    works(&project);
    let source = project.folder().join("handler.py");
    let given = std::fs::read_to_string(&source).unwrap();
    project.write_own_cases("(handler.py:6 in preprocess)");
    project.write(
        "handler.py",
        "from tensorgate import BadInput, Raw, Tensor\n\ndef preprocess(input):\n    if isinstance(input, Raw):\n        raise BadInput(f\"{input.content_type} {len(input.data)}\")\n    (only,) = input\n    return [Tensor.of_items(only.name, only.items())]\n",
    );
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    assert_eq!(project.failed("own-"), Vec::<String>::new());
    // A package that a component cannot contain is reported while it is built, and so is a clock.
    project.write("handler.py", &format!("import numpy\n{given}"));
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    assert!(
        ran.stderr.contains("No module named 'numpy'"),
        "{}",
        ran.stderr
    );
    project.write(
        "handler.py",
        "import time\n\ndef preprocess(input):\n    return [time.time()]\n",
    );
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let fault = project.fault("scaled").unwrap();
    assert!(fault.contains("handler fault (trap)"), "{fault}");
}

#[test]
fn a_project_after_the_model_works() {
    let project = Project::new("label-py", "python", "postprocess");
    project.give_time();
    let ran = project.verb("test", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
}

/// Tests the package in plain CPython, as an author's own tests do.
#[test]
fn the_package_passes_its_tests() {
    let output = Command::new("python3")
        .args(["-B", "-m", "unittest", "-q", "test_tensorgate"])
        .current_dir(tree().join("wit/python"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Ran 1"), "{said}");
}
