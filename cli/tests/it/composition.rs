//! Ensembles, and handlers of a grant, in `check`, `diff`, `explain` and `schema`.

use crate::program::{Scratch, digits, explain_json, key, run, tree};

/// Two models, and an ensemble of both.
const POLICY: &str = r#"version: 1
clients:
  app: {api_keys: [{sha256: 6d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7}]}
backends:
  gpu: {kind: open-inference, endpoints: ["http://127.0.0.1:8001"], max_in_flight: 64, queue: 128, timeout_ms: 2000}
handlers:
  h: {component: h.wasm, sha256: 6d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7}
models:
  first:
    backend: gpu
    versions: ["1", "2"]
    protocols: [oip-rest]
    inputs:
      - {name: x, datatype: FP32, shape: [4], range: [0, 1]}
    outputs:
      - {name: y, datatype: FP32, shape: [4]}
  both:
    ensemble:
      steps:
        - {model: first@1, outputs: {y: a}}
        - {model: first@2, inputs: {x: a}, outputs: {y: b}}
    versions: ["1"]
    protocols: [oip-rest]
    inputs:
      - {name: x, datatype: FP32, shape: [4], range: [0, 1]}
    outputs:
      - {name: b, datatype: FP32, shape: [4]}
grants:
  - {name: g, clients: [app], models: [both], operations: [infer], rate: {quota: 6, window_s: 60}, cost: {elements: 800, window_s: 60}}
"#;

fn check(text: &str) -> (i32, String) {
    let scratch = Scratch::new();
    let file = scratch.file("gate.yaml", text);
    let ran = run(&["check".as_ref(), file.as_os_str()]);
    (ran.code, ran.stdout + &ran.stderr)
}

#[test]
fn an_invalid_ensemble_is_reported_at_its_line_with_a_fix() {
    let (code, told) =
        check(&POLICY.replace("first@1, outputs", "first@1, inputs: {x: b}, outputs"));
    assert_eq!(code, 2, "{told}");
    assert!(
        told.contains("error: needs its own output: the steps form a cycle"),
        "{told}"
    );
    assert!(
        told.contains("gate.yaml:20:11 (models.both.ensemble.steps[0])"),
        "{told}"
    );
    let (code, told) = check(&POLICY.replace("first@1,", "first,"));
    assert_eq!(code, 2, "{told}");
    assert!(
        told.contains("model \"first\" has several versions, and the step names none"),
        "{told}"
    );
    assert!(told.contains("first@1"), "{told}");
    let (code, told) = check(&POLICY.replace("elements: 800", "elements: 7"));
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("can have 8 elements in 2 steps"), "{told}");
}

#[test]
fn the_example_policy_has_no_warnings() {
    let file = tree().join("examples/policies/ensemble/gate.yaml");
    let ran = run(&["check".as_ref(), "--json".as_ref(), file.as_os_str()]);
    assert_eq!((ran.code, &*ran.stdout), (0, ""), "{}", ran.stderr);
}

#[test]
fn diff_reports_access_to_a_model_through_an_ensemble() {
    let diff = |before: &str, after: &str| {
        let scratch = Scratch::new();
        let (a, b) = (
            scratch.file("a.yaml", before),
            scratch.file("b.yaml", after),
        );
        let ran = run(&["diff".as_ref(), a.as_os_str(), b.as_os_str()]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        ran.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let twice = POLICY.replace("{model: first@1, ", "{model: first@2, ");
    let told = diff(POLICY, &twice);
    assert_eq!(
        told[0],
        "- app no longer reaches first@1 through both (grant g)"
    );
    assert!(
        told[1].starts_with("~ models.both.ensemble.steps: "),
        "{told:#?}"
    );
    let told = diff(&twice, POLICY);
    assert_eq!(told[0], "+ app reaches first@1 through both (grant g)");
    let word = "{name: word, datatype: BYTES, shape: [1], max_item_bytes: 8}";
    let own = format!(
        "cost: {{elements: 800, window_s: 60}}, handlers: {{both: {{postprocess: h, returns: {{outputs: [{word}]}}}}}}"
    );
    let told = diff(
        POLICY,
        &POLICY.replace("cost: {elements: 800, window_s: 60}", &own),
    );
    assert_eq!(
        told[..2],
        [
            "- app sees less (grant g): b of both: all -> nothing",
            "+ app sees more (grant g): word of both: nothing -> all"
        ]
    );
    assert!(told[2].starts_with("~ grants[g].handlers"), "{told:#?}");
}

/// The verdict on a request to a model of the demo's policy: the reason, or `allow`.
fn explained(client: &str, model: &str, kind: &str, body: &[u8]) -> String {
    let scratch = Scratch::new();
    let head = format!(
        "POST /v2/models/{model}/infer HTTP/1.1\r\nHost: gate\r\nx-api-key: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        key(client),
        body.len()
    );
    let file = scratch.file("m.http", [head.as_bytes(), body].concat());
    let (_, line) = explain_json(&digits(), &file, &[]);
    line["reason"].as_str().unwrap_or("allow").to_owned()
}

#[test]
fn an_ensemble_is_explained_as_any_model_and_its_members_are_not_granted_with_it() {
    let values = ["1.5"; 64].join(",");
    let image = |name: &str, ask: &str| {
        format!(
            r#"{{"inputs":[{{"name":"{name}","datatype":"FP32","shape":[1,1,8,8],"data":[{values}]}}]{ask}}}"#
        )
    };
    let verdict =
        |model: &str, body: String| explained("scorer", model, "application/json", body.as_bytes());
    assert_eq!(verdict("digits-twice", image("image", "")), "allow");
    let asked = r#","outputs":[{"name":"probabilities"}]"#;
    assert_eq!(
        verdict("digits-twice", image("image", asked)),
        "output-not-allowed"
    );
    assert_eq!(verdict("digits-twice", image("first", "")), "unknown-input");
    assert_eq!(verdict("private", image("image", "")), "not-granted");
}
