//! Models that share one contract by an alias. However many there are, the contract is read, judged
//! and written once.

use serde_json::Value;
use tensorgate_policy::Compiled;

use crate::program::{self, Ran, Scratch, run};

const HEAD: &str = r#"version: 1
clients:
  app: {api_keys: [{sha256: 6d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7}]}
backends:
  gpu: {kind: open-inference, endpoints: ["http://127.0.0.1:8001"], max_in_flight: 64, queue: 128, timeout_ms: 2000}
grants:
  - {name: g, clients: [app], models: ["m/*"], operations: [infer]}
models:
"#;

/// Five inputs, so that some ten thousand copies exceed the nodes that a document may have.
fn contract() -> String {
    let input = |name: &str| {
        format!("{{name: {name}, datatype: FP32, shape: [{{max: 4}}, 2], range: [0, 1]}}")
    };
    let inputs = ["a", "b", "c", "d", "e"].map(input).join(", ");
    format!(
        "{{backend: gpu, versions: [\"1\"], protocols: [oip-rest], inputs: [{inputs}], outputs: [{{name: y, datatype: FP32, shape: [2]}}]}}"
    )
}

/// The first contract is written out; the others are aliases of it.
fn policy(contract: &str, models: usize) -> String {
    let mut text = format!("{HEAD}  m/00000: &m {contract}\n");
    for number in 1..models {
        text.push_str(&format!("  m/{number:05}: *m\n"));
    }
    text
}

fn rendered(scratch: &Scratch, text: &str) -> (Ran, Option<Compiled>) {
    program::rendered(scratch, &scratch.file("gate.yaml", text))
}

#[test]
fn identical_contracts_are_written_once_however_many_models_have_them() {
    const MODELS: usize = 60_000;
    let scratch = Scratch::new();
    let (ran, bundle) = rendered(&scratch, &policy(&contract(), MODELS));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let compiled = bundle.unwrap();
    let models = compiled.policy.models();
    assert_eq!(models.len(), MODELS);
    assert_eq!(models.last().unwrap().name(), "m/59999");
    // A name and some bytes for each.
    let bytes = compiled.to_bytes().len();
    assert!(bytes < MODELS * 16, "{bytes}");
}

#[test]
fn equal_contracts_are_written_once_with_or_without_an_alias() {
    let scratch = Scratch::new();
    let contract = contract();
    let written = format!("{HEAD}  m/0: {contract}\n  m/1: {contract}\n");
    let alias = format!("{HEAD}  m/0: &m {contract}\n  m/1: *m\n");
    let bytes = |text: &str| rendered(&scratch, text).1.unwrap().to_bytes();
    let one = bytes(&written);
    // The policy version too, which is that of the policy with both contracts written out.
    assert_eq!(one, bytes(&alias));
    let other =
        bytes(&written.replace("m/1: {backend: gpu", "m/1: {backend: gpu, backend_model: n"));
    assert!(
        other.len() > one.len() + 100,
        "{} {}",
        other.len(),
        one.len()
    );
}

#[test]
fn a_fault_of_an_aliased_contract_is_reported_once_and_of_separate_ones_each_time() {
    let scratch = Scratch::new();
    let told = |text: &str| {
        let file = scratch.file("gate.yaml", text);
        let ran = run(&["check".as_ref(), "--json".as_ref(), file.as_os_str()]);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        let paths = ran.stdout.lines().map(|line| {
            let fault: Value = serde_json::from_str(line).unwrap();
            fault["path"].as_str().unwrap().to_owned()
        });
        paths.collect::<Vec<_>>()
    };
    for (from, to, place) in [
        // Found by validation, and before it.
        ("backend: gpu", "backend: nowhere", "backend"),
        ("[\"1\"]", "7", "versions"),
    ] {
        let faulty = contract().replacen(from, to, 1);
        let of = |model: &str| format!("models.{model}.{place}");
        let alias = told(&policy(&faulty, 3));
        assert_eq!(
            alias.iter().filter(|path| **path == of("m/00000")).count(),
            1,
            "{alias:?}"
        );
        assert!(
            !alias.iter().any(|path| path.contains("m/00002")),
            "{alias:?}"
        );
        let each = told(&format!("{HEAD}  m/0: {faulty}\n  m/1: {faulty}\n"));
        for model in ["m/0", "m/1"] {
            assert!(each.contains(&of(model)), "{each:?}");
        }
    }
}

#[test]
fn an_alias_of_a_model_elsewhere_is_still_a_copy_that_counts() {
    let scratch = Scratch::new();
    let mut text = policy(&contract(), 1);
    text.push_str("groups:\n");
    for number in 0..40_000 {
        text.push_str(&format!("  g{number}: *m\n"));
    }
    let file = scratch.file("gate.yaml", &text);
    let ran = run(&["check".as_ref(), file.as_os_str()]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("nodes, aliases expanded"),
        "{}",
        ran.stderr
    );
}
