//! Common mistakes of authors, and the text that each gets. The page about them has these texts.

use serde_json::json;
use tensorgate_client::run::tree;

use super::cases::Folder;
use super::{lines, story};

/// The page.
const PAGE: &str = include_str!("../../../../docs/how-to/handler-mistakes.md");

/// What a request to a handler with a mistake gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Rejected,
    Fault,
    Unbuilt,
}

/// A source with a mistake.
pub(super) struct Mistake {
    pub(super) source: &'static str,
    pub(super) outcome: Outcome,
    /// The line of the author's code in the text. Empty if the text has none.
    pub(super) line: &'static str,
    pub(super) text: &'static str,
}

const fn fault(source: &'static str, line: &'static str, text: &'static str) -> Mistake {
    Mistake {
        source,
        outcome: Outcome::Fault,
        line,
        text,
    }
}

const fn unbuilt(source: &'static str, text: &'static str) -> Mistake {
    Mistake {
        source,
        outcome: Outcome::Unbuilt,
        line: "\n  handler.py:1\n",
        text,
    }
}

pub(super) const PYTHON: [Mistake; 14] = [
    Mistake {
        source: "def preprocess(input):\n    print('seen')\n    return input\n",
        outcome: Outcome::Answered,
        line: "",
        text: "INFO  scale tensorgate-handler: seen",
    },
    Mistake {
        source: "from tensorgate import BadInput\n\ndef preprocess(input):\n    raise BadInput('row 3: 7 columns', caller='a row needs 8 columns')\n",
        outcome: Outcome::Rejected,
        line: "",
        text: "handler rejected the input: row 3: 7 columns",
    },
    fault(
        "def preprocess(input):\n    pass\n",
        "",
        "preprocess returned None: end it with `return` and a list of tensors, which may be empty: `return []`",
    ),
    fault(
        "def preprocess(input):\n    return input[0]\n",
        "",
        "preprocess returned a Tensor: put it into a list, as in `return [tensor]`",
    ),
    fault(
        "async def preprocess(input):\n    return input\n",
        "",
        "preprocess returned a coroutine: write `def` in place of `async def`, because a handler never waits",
    ),
    fault(
        "def preprocess(input):\n    return [[1.0, 2.0]]\n",
        "",
        "preprocess returned a list whose item 0 is a list: return a list of tensors, as in `return [Tensor.of(\"name\", array)]`",
    ),
    unbuilt(
        "import torch\n\ndef preprocess(input):\n    return input\n",
        "fix: a component cannot contain torch: use numpy, and let the model itself run behind `backend`",
    ),
    unbuilt(
        "import pydantic\n\ndef preprocess(input):\n    return input\n",
        "fix: a component cannot contain pydantic: the policy's `inputs` check names, shapes and ranges before the handler is called. Raise `BadInput` for what it cannot check",
    ),
    unbuilt(
        "import cv2\n\ndef preprocess(input):\n    return input\n",
        "fix: a component cannot contain cv2: decode a picture with `decode_image` of tensorgate, then use PIL, numpy and scipy",
    ),
    unbuilt(
        "import polyline\n\ndef preprocess(input):\n    return input\n",
        "fix: the runtime has numpy, pandas, scipy and scikit-learn. Another package must be pure Python: install it into the active virtual environment, or copy it into the project's folder",
    ),
    fault(
        "def preprocess(input):\n    open('labels.txt')\n",
        "(handler.py:2 in preprocess)",
        "a handler has no files during a call: read the file at the top of a module",
    ),
    fault(
        "import socket\n\ndef preprocess(input):\n    socket.socket()\n",
        "(handler.py:4 in preprocess",
        "a handler has no sockets, which asyncio needs too, no processes, and nothing to wait for: use `fetch` or `lookup` of tensorgate, if the policy grants them",
    ),
    fault(
        "import threading\n\ndef preprocess(input):\n    threading.Thread(target=print).start()\n",
        "(handler.py:4 in preprocess",
        "a handler has no threads: call the function itself",
    ),
    fault(
        "def preprocess(input):\n    while True: pass\n",
        "(handler.py:2 in preprocess)",
        "the call used all its fuel: raise `fuel` of the handler, or look for a loop that does not end",
    ),
];

pub(super) const JAVASCRIPT: [Mistake; 6] = [
    fault(
        "export function preprocess(input) {}\n",
        "",
        "preprocess returned undefined: end it with `return` and an array of tensors, which may be empty: `return []`",
    ),
    fault(
        "export function preprocess(input) {\n  return input[0];\n}\n",
        "",
        "preprocess returned a Tensor: put it into an array, as in `return [tensor]`",
    ),
    fault(
        "export async function preprocess(input) {\n  return input;\n}\n",
        "",
        "preprocess returned a Promise: write it without `async`, because a handler never waits",
    ),
    fault(
        "import { NdArray } from \"./kit.js\";\nexport function preprocess(input) {\n  return [NdArray.from([1, 2], \"FP32\").tensor(\"x\")];\n}\n",
        "handler.js:3",
        "TypeError: a value of Array is not a Tensor. NdArray.of(datatype, shape, values) makes an array of values",
    ),
    fault(
        "export function preprocess(input) {\n  throw { code: 7, table: \"ages\" };\n}\n",
        "",
        "{\"code\":7,\"table\":\"ages\"}",
    ),
    fault(
        "export function preprocess(input) {\n  return [[1, 2]];\n}\n",
        "",
        "preprocess returned an array whose item 0 is an Array: return an array of tensors, as in `return [Tensor.of(\"name\", \"FP32\", [2], [0, 1])]`",
    ),
];

/// Checks that the page has a text.
pub(super) fn documented(text: &str) {
    assert!(PAGE.contains(text), "handler-mistakes.md lacks {text}");
}

/// The faults of the only case of a folder.
fn faults(folder: &Folder, more: &[&str]) -> String {
    let ran = folder.test(&[&["--json"][..], more].concat());
    assert_eq!(ran.code, 1, "{}", story(&ran));
    let line = lines(&ran).remove(0);
    line["faults"][0].as_str().unwrap().to_owned()
}

#[test]
fn a_loop_that_does_not_end_is_named_by_the_limit_that_ended_it() {
    let folder = Folder::new("hostile_behaviours.wasm");
    let case = json!({
        "config": {"behaviour": "spin"}, "input": {"tensors": []}, "expect": {"tensors": []},
    });
    folder.scratch.file("cases/spin.json", case.to_string());
    let limited = |limits: &str| {
        let manifest = format!("name: a\nlanguage: rust\nworld: preprocess\nlimits: {limits}\n");
        folder.scratch.file("handler.yaml", manifest);
        faults(&folder, &[])
    };
    let fuel = "handler fault (fuel): the call used all its fuel: raise `fuel` of the handler, or look for a loop that does not end";
    documented(fuel);
    assert_eq!(limited("{fuel: 1000000, timeout_ms: 10000}"), fuel);
    let deadline = "handler fault (deadline): the deadline passed: the call took longer than `timeout_ms` of the handler";
    let advice = [
        "raise `timeout_ms`, or look for a loop that does not end",
        "the machine was busy, and with more time a loop that does not end would use all its fuel",
    ];
    for text in [deadline].iter().chain(&advice) {
        documented(text);
    }
    let found = limited("{fuel: 1000000000000, timeout_ms: 3000}");
    let measured = format!("{deadline}; it used at least ");
    assert!(found.starts_with(&measured), "{found}");
    assert!(advice.iter().any(|text| found.ends_with(text)), "{found}");
}

#[test]
fn a_wrong_tensor_is_named_by_the_models_contract() {
    let folder = Folder::new("passthrough.wasm");
    let policy = tree().join("docs/policies/tensors.yaml");
    let arguments = ["--policy", policy.to_str().unwrap(), "--model", "scores"];
    let row = |name: &str, datatype: &str, shape: &[usize]| json!([{"name": name, "datatype": datatype, "shape": shape, "data": vec![1; 30]}]);
    for (tensors, text) in [
        (
            row("y", "FP32", &[1, 30]),
            "breaks the contract: unknown-input: tensor \"y\": the contract has no such tensor",
        ),
        (
            json!([]),
            "breaks the contract: missing-input: tensor \"x\": not given",
        ),
        (
            row("x", "FP64", &[1, 30]),
            "breaks the contract: datatype: tensor \"x\": \"FP64\" is not FP32",
        ),
        (
            row("x", "FP32", &[30]),
            "breaks the contract: shape: tensor \"x\": rank 1 is not 2",
        ),
    ] {
        documented(text);
        let tensors = json!({"tensors": tensors});
        folder.case("one", &tensors, &tensors);
        let found = faults(&folder, &arguments);
        assert_eq!(found, format!("handler \"a\"'s output {text}"));
    }
}
