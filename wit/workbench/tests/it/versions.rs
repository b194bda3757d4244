//! What a component reads about its request in each language, and projects of other versions of the
//! handler interface.

use super::{Project, story};

/// Version 0.1 of the interface, as older projects have it.
const OLD: &str = include_str!("../../../0.1/handler.wit");

const JAVASCRIPT: &str = r#"
import { BadInput } from "./tensorgate.js";
import { carry, context } from "./request.js";

export function preprocess() {
  carry.set(Uint8Array.of(7, 8, 9));
  const { requestId, time, parameters, input } = context();
  const counts = [Object.keys(parameters).length, Object.keys(input.tensors).length];
  throw new BadInput([requestId, time, ...counts, ...carry.get()].join(" "), { caller: "no" });
}
"#;

const PYTHON: &str = r#"
from tensorgate import BadInput, carry, context

def preprocess(input):
    carry.set(bytes([7, 8, 9]))
    request = context()
    counts = [len(request.parameters), len(request.input.tensors)]
    words = [request.request_id, request.time, *counts, *carry.get()]
    raise BadInput(" ".join(map(str, words)), caller="no")
"#;

#[test]
fn a_component_reads_its_request_and_carries_bytes() {
    for (name, lang, file, source) in [
        ("request-js", "js", "handler.js", JAVASCRIPT),
        ("request-py", "python", "handler.py", PYTHON),
    ] {
        let project = Project::unbuilt(name, lang, "preprocess");
        project.write(file, source);
        project.write(
            "cases/request.json",
            r#"{"input": {"tensors": []}, "expect": {"refused": "bad-input", "says": "tensorgate-handler 0 0 0 7 8 9"}}"#,
        );
        let ran = project.verb("build", &[]);
        assert_eq!(ran.code, 0, "{}", story(&ran));
        assert_eq!(project.failed("request"), Vec::<String>::new());
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
    }
}
