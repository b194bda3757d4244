//! Cases by file and by summary, their updates, their log lines and a model's contract, with
//! components that need no build.

use std::path::PathBuf;

use serde_json::{Value, json};
use tensorgate_client::run::{Ran, Scratch, tree};

use super::{handler, lines, story};

/// A project whose component returns its input.
pub(super) struct Folder {
    pub(super) scratch: Scratch,
    component: PathBuf,
}

impl Folder {
    pub(super) fn new(component: &str) -> Self {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.path().join("cases")).unwrap();
        scratch.file(
            "handler.yaml",
            "name: a\nlanguage: python\nworld: preprocess\nlimits: {timeout_ms: 10000}\n",
        );
        scratch.file("cases/in.npz", include_bytes!("../arrays.npz"));
        Self {
            scratch,
            component: tree().join("target/components").join(component),
        }
    }

    pub(super) fn case(&self, name: &str, input: &Value, expect: &Value) {
        let case = json!({"input": input, "expect": expect});
        let text = serde_json::to_string_pretty(&case).unwrap();
        self.scratch.file(&format!("cases/{name}.json"), text);
    }

    pub(super) fn test(&self, more: &[&str]) -> Ran {
        let (component, folder) = (self.component.to_str(), self.scratch.path().to_str());
        let arguments = ["test", "--component", component.unwrap(), folder.unwrap()];
        handler(&[&arguments, more].concat())
    }

    fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.scratch.path().join("cases").join(file)).unwrap()
    }
}

/// An array of bytes in the format of numpy.
fn array(elements: &[u8]) -> Vec<u8> {
    let (descr, count) = ("{'descr': '|u1', 'fortran_order': False", elements.len());
    let header = format!("{descr}, 'shape': ({count},), }}\n");
    let size = u8::try_from(header.len()).unwrap();
    [
        b"\x93NUMPY\x01\0".as_slice(),
        &[size, 0],
        header.as_bytes(),
        elements,
    ]
    .concat()
}

/// A list of one tensor.
fn one(tensor: Value) -> Value {
    json!({"tensors": [tensor]})
}

#[test]
fn inputs_and_results_are_files_and_summaries() {
    let folder = Folder::new("passthrough.wasm");
    std::fs::create_dir(folder.scratch.path().join("cases/data")).unwrap();
    folder.scratch.file("cases/data/body.json", "{}");
    folder.scratch.file("cases/out.npy", array(&[1, 2, 3, 4]));
    let x = one(json!({"name": "x", "file": "in.npz"}));
    for (name, input, expect) in [
        (
            "by-file",
            x.clone(),
            one(json!({"name": "x", "file": "out.npy"})),
        ),
        (
            "by-summary",
            x.clone(),
            one(json!({"name": "x", "summary": {"shape": [4], "mean": 2.5}})),
        ),
        (
            "body",
            json!({"raw": {"content_type": "application/json", "file": "data/body.json"}}),
            one(json!({"name": "body", "file": "data/body.json", "datatype": "BYTES"})),
        ),
    ] {
        folder.case(name, &input, &expect);
    }
    let ran = folder.test(&["--json"]);
    assert_eq!((ran.code, lines(&ran).len()), (0, 3), "{}", story(&ran));
    folder.case(
        "by-file",
        &x,
        &one(json!({"name": "x", "file": "none.npy"})),
    );
    let ran = folder.test(&[]);
    assert_eq!(ran.code, 2, "{}", story(&ran));
    let fault = "by-file.json: expect.tensors[0].file: none.npy: ";
    assert!(ran.stderr.contains(fault), "{}", story(&ran));
}

#[test]
fn an_update_rewrites_results_and_nothing_else() {
    let folder = Folder::new("passthrough.wasm");
    folder.scratch.file("cases/in.npy", array(&[9]));
    folder.scratch.file("cases/out.npy", array(&[0]));
    let tensor =
        |value: u8| json!({"name": "t", "datatype": "UINT8", "shape": [1], "data": [value]});
    let x = one(json!({"name": "x", "file": "in.npz"}));
    for (name, input, expect) in [
        (
            "file",
            x.clone(),
            one(json!({"name": "x", "file": "out.npy"})),
        ),
        (
            "summary",
            x,
            one(json!({"name": "x", "summary": {"shape": [4], "mean": 0}})),
        ),
        ("values", one(tensor(1)), one(tensor(2))),
        ("new", one(tensor(1)), json!({"tensors": []})),
        (
            "input",
            one(json!({"name": "t", "file": "in.npy"})),
            one(tensor(9)),
        ),
    ] {
        folder.case(name, &input, &expect);
    }
    let inputs = [
        folder.read("in.npz"),
        folder.read("in.npy"),
        folder.read("input.json"),
    ];
    assert_eq!(folder.test(&[]).code, 1);
    let ran = folder.test(&["--update"]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    for text in [
        "x: mean is 2.5, not 0",
        "t[0] is 1, not 2",
        "5 cases, 0 failed, 4 updated",
        "out.npy",
    ] {
        assert!(ran.stdout.contains(text), "{text}: {}", story(&ran));
    }
    assert!(folder.read("out.npy").ends_with(&[1, 2, 3, 4]));
    let now = [
        folder.read("in.npz"),
        folder.read("in.npy"),
        folder.read("input.json"),
    ];
    assert_eq!(now, inputs);
    let summary: Value = serde_json::from_slice(&folder.read("summary.json")).unwrap();
    let expected = json!({"shape": [4], "mean": 2.5});
    assert_eq!(summary["expect"]["tensors"][0]["summary"], expected);
    let ran = folder.test(&[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));

    // Neither a file that is an input of another case nor a link is written.
    let link = folder.scratch.path().join("cases/link.npy");
    for file in ["in.npy", "link.npy"] {
        folder.case(
            "shared",
            &one(tensor(1)),
            &one(json!({"name": "t", "file": file})),
        );
        let ran = folder.test(&["--update"]);
        assert_ne!(ran.code, 0, "{}", story(&ran));
        assert_eq!(folder.read("in.npy"), inputs[1], "{}", story(&ran));
        if !link.exists() {
            std::os::unix::fs::symlink("in.npy", &link).unwrap();
        }
    }
}

#[test]
fn what_a_call_returned_is_shown_on_request() {
    let folder = Folder::new("passthrough.wasm");
    let tensor =
        |last: u8| one(json!({"name": "x", "datatype": "UINT8", "shape": [2], "data": [1, last]}));
    folder.case("same", &tensor(2), &tensor(2));
    folder.case("wrong", &tensor(2), &tensor(3));
    let shown = "     x UINT8 [2]: [1, 2]\n";
    let ran = folder.test(&["--show"]);
    assert_eq!(ran.stdout.matches(shown).count(), 2, "{}", story(&ran));
    assert!(!folder.test(&[]).stdout.contains(shown));
    let ran = folder.test(&["--show", "--json"]);
    let returned = &lines(&ran).remove(0)["returned"];
    assert_eq!(*returned, json!(["x UINT8 [2]: [1, 2]"]));
}

#[test]
fn log_lines_stand_below_their_case_and_dropped_ones_are_counted() {
    let folder = Folder::new("hostile_behaviours.wasm");
    let case = json!({
        "config": {"behaviour": "log"},
        "input": {"tensors": []},
        "expect": {"refused": "host-calls"},
    });
    folder.scratch.file("cases/chatty.json", case.to_string());
    let ran = folder.test(&["--json"]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let line = lines(&ran).remove(0);
    let expected = json!({
        "level": "info", "handler": "a", "request_id": "tensorgate-handler", "message": "again",
    });
    assert_eq!(line["log"][0], expected, "{line}");
    let dropped = line["log_dropped"].as_u64().unwrap();
    assert!(dropped > 0, "{line}");
    let ran = folder.test(&[]);
    let printed: Vec<&str> = ran.stdout.lines().collect();
    assert!(printed[0].starts_with("ok   chatty"), "{}", story(&ran));
    assert_eq!(printed[1], "     INFO  a tensorgate-handler: again");
    let total = format!("     {dropped} more log lines exceeded the quota");
    assert!(printed.contains(&total.as_str()), "{}", story(&ran));
}

#[test]
fn an_unknown_part_of_a_request_is_refused_with_its_case() {
    let folder = Folder::new("passthrough.wasm");
    for (context, carry, fault) in [
        (
            json!({"user": "a"}),
            json!({"base64": ""}),
            "unknown field `user`",
        ),
        (json!({}), json!({"base64": "?"}), "one.json: "),
        (
            json!({}),
            json!({"file": "none.bin"}),
            "carry.file: none.bin: ",
        ),
        (
            json!({"parameters": {"": 1}}),
            json!({"base64": ""}),
            "one.json: handlers.a.parameters[0]",
        ),
    ] {
        let case = json!({
            "context": context, "carry": carry,
            "input": {"tensors": []}, "expect": {"tensors": []},
        });
        folder.scratch.file("cases/one.json", case.to_string());
        let ran = folder.test(&[]);
        assert_eq!(ran.code, 2, "{}", story(&ran));
        assert!(ran.stderr.contains(fault), "{fault}: {}", story(&ran));
    }
}

#[test]
fn a_bench_shows_the_lines_of_the_first_call_and_totals() {
    // It logs one line per call, and fetches nothing without URLs.
    let folder = Folder::new("hostile_fetch.wasm");
    let manifest = "name: a\nlanguage: python\nworld: preprocess\n\
                    limits: {timeout_ms: 10000}\nfetch: {hosts: [a.example]}\n";
    folder.scratch.file("handler.yaml", manifest);
    folder.case("one", &json!({"tensors": []}), &json!({"tensors": []}));
    let build = folder.scratch.path().join("build");
    std::fs::create_dir(&build).unwrap();
    std::fs::copy(&folder.component, build.join("a.wasm")).unwrap();
    let project = folder.scratch.path().to_str().unwrap();
    let ran = handler(&["--json", "bench", "--seconds", "1", project]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let row = lines(&ran).remove(0);
    assert_eq!(row["log"].as_array().unwrap().len(), 1, "{row}");
    assert_eq!(row["log"][0]["message"], "asked", "{row}");
    let count = |field: &str| row[field].as_u64().unwrap();
    // Calls that are not measured log too.
    assert!(
        count("log_lines") + count("log_dropped") > count("calls"),
        "{row}"
    );
}

#[test]
fn a_result_must_keep_the_contract_of_a_model() {
    let folder = Folder::new("passthrough.wasm");
    let x = |value: f64| json!({"name": "x", "datatype": "FP32", "shape": [1, 30], "data": vec![value; 30]});
    for (name, tensor) in [("good", x(1.0)), ("large", x(11.0))] {
        folder.case(name, &one(tensor.clone()), &one(tensor));
    }
    let policy = tree().join("docs/policies/tensors.yaml");
    let policy = policy.to_str().unwrap();
    let ran = folder.test(&["--json", "--policy", policy, "--model", "scores"]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    let results = lines(&ran);
    assert_eq!(
        (&results[0]["ok"], &results[1]["ok"]),
        (&json!(true), &json!(false))
    );
    let fault = results[1]["faults"][0].as_str().unwrap();
    let expected = "handler \"a\"'s output breaks the contract: out-of-range: ";
    assert!(fault.starts_with(expected), "{fault}");
    let ran = folder.test(&["--policy", policy, "--model", "other"]);
    assert_eq!(ran.code, 2, "{}", story(&ran));
    assert!(ran.stderr.contains("it has scores"), "{}", story(&ran));
    assert_eq!(folder.test(&["--model", "scores"]).code, 2);
}
