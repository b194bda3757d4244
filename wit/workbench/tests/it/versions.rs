//! What a component reads about its request in each language, and projects of other versions of the
//! handler interface.

use serde_json::{Value, json};

use super::{Project, mistakes, story};

/// Version 0.1 of the interface, as older projects have it.
const OLD: &str = include_str!("../../../0.1/handler.wit");

/// A handler that rejects its input with all that it knows of its request, or carries bytes.
const JAVASCRIPT: &str = r#"
import { BadInput } from "./tensorgate.js";
import { carry, context } from "./request.js";

export function preprocess() {
  const before = carry.get();
  carry.set(Uint8Array.of(7, 8, 9));
  const { requestId, client, model, version, operation, time, parameters, input } = context();
  if (operation === "stream") return [];
  const known = Object.entries(parameters).map(([name, value]) => `${name}=${value}`);
  const shapes = Object.entries(input.tensors).map(([name, shape]) => `${name}:${shape[0]}`);
  const media = [input.mediaType ?? "", input.mediaBytes];
  const words = [requestId, client, model, version, time, ...known, ...shapes, ...media, ...before];
  throw new BadInput([...words, ...carry.get()].join(","), { caller: "no" });
}
"#;

/// The same.
const PYTHON: &str = r#"
from tensorgate import BadInput, carry, context

def preprocess(input):
    before = carry.get()
    carry.set(bytes([7, 8, 9]))
    request = context()
    if request.operation == "stream":
        return []
    words = [request.request_id, request.client, request.model, request.version, request.time]
    words += [f"{name}={value}" for name, value in request.parameters.items()]
    words += [f"{name}:{shape[0]}" for name, shape in request.input.tensors.items()]
    words += [request.input.media_type or "", request.input.media_bytes, *before, *carry.get()]
    raise BadInput(",".join(map(str, words)), caller="no")
"#;

/// Cases with the texts of their rejections.
fn requests() -> [(&'static str, Value, &'static str); 3] {
    let tensor = json!({"name": "t", "datatype": "FP32", "shape": [2], "data": [0.5, 1]});
    let parameters = json!({"large": {"uint64": 5}, "priority": 3, "ratio": 0.5, "user": "u1"});
    [
        (
            "request-unknown",
            json!({"input": {"tensors": []}}),
            "tensorgate-handler,,,,0,,0,7,8,9",
        ),
        (
            "request-of-input",
            json!({
                "context": {"request_id": "r-7", "client": "scorer", "parameters": parameters},
                "carry": {"base64": "AQI="},
                "input": {"tensors": [tensor]},
            }),
            "r-7,scorer,,,0,large=5,priority=3,ratio=0.5,user=u1,t:2,,8,1,2,7,8,9",
        ),
        (
            "request-known",
            json!({
                "context": {
                    "model": "vec", "version": "2", "time": 1_780_000_000_123_u64,
                    "input": {"media_type": "image/png", "media_bytes": 9},
                },
                "carry": {"file": "carried.bin"},
                "input": {"tensors": [tensor]},
            }),
            "tensorgate-handler,,vec,2,1780000000123,image/png,9,3,7,8,9",
        ),
    ]
}

#[test]
fn a_component_reads_the_request_of_a_case_and_carries_bytes() {
    for (name, lang, file, source) in [
        ("request-js", "js", "handler.js", JAVASCRIPT),
        ("request-py", "python", "handler.py", PYTHON),
    ] {
        let project = Project::unbuilt(name, lang, "preprocess");
        project.write(file, source);
        std::fs::write(project.folder().join("cases/carried.bin"), [3]).unwrap();
        for (case, mut document, text) in requests() {
            document["expect"] = json!({"refused": "bad-input", "says": text});
            project.write(&format!("cases/{case}.json"), &document.to_string());
        }
        let carries = |bytes: &str| {
            json!({
                "context": {"operation": "stream"},
                "input": {"tensors": []},
                "expect": {"tensors": [], "carry": {"base64": bytes}},
            })
            .to_string()
        };
        project.write("cases/request-carries.json", &carries("BwgJ"));
        let ran = project.verb("build", &[]);
        assert_eq!(ran.code, 0, "{}", story(&ran));
        assert_eq!(project.failed("request"), Vec::<String>::new());
        project.write("cases/request-carries.json", &carries("BwI="));
        let expected = "carry: 3 bytes where 2 are expected; the first 1 are equal";
        let fault = project.fault("request-carries");
        assert_eq!(fault.as_deref(), Some(expected), "{lang}");
    }
}

#[test]
fn a_project_of_version_0_1_is_built_against_it() {
    let project = Project::unbuilt("older-js", "js", "preprocess");
    project.write("wit/handler.wit", OLD);
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let ran = project.verb("inspect", &[]);
    let imports = "tensorgate:handler/config@0.1.0";
    assert!(ran.stdout.contains(imports), "{}", story(&ran));
    assert!(!ran.stdout.contains("/config@0.2.0"), "{}", story(&ran));
    assert_eq!(project.failed(""), Vec::<String>::new());
}

#[test]
fn a_project_of_an_unknown_version_is_refused_with_what_to_do() {
    let project = Project::unbuilt("later-js", "js", "preprocess");
    for version in ["0.3.0", "1.0.0"] {
        let later = OLD.replace("handler@0.1.0", &format!("handler@{version}"));
        project.write("wit/handler.wit", &later);
        let ran = project.verb("build", &[]);
        assert_eq!(ran.code, 2, "{}", story(&ran));
        assert!(ran.stderr.contains(version), "{}", story(&ran));
        assert!(
            ran.stderr.contains("update tensorgate, or copy"),
            "{}",
            story(&ran)
        );
        if version == "1.0.0" {
            let (_, text) = ran.stderr.split_once("handler.wit ").unwrap();
            mistakes::documented(text.trim_end());
        }
    }
}
