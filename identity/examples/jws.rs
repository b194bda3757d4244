//! Runs published sets of JSON web signatures through the reader, the choice of a key and the
//! verifier that tokens pass: `cargo run -p tensorgate-identity --features jwt-simple --example jws
//! -- FILE…`.
//!
//! It reads the format of Project Wycheproof (`testGroups`, each with its key and `tests`) and that
//! of the JOSE cookbook (`input`, `output`). For each set it prints how many cases gave the
//! published result, and for every other case the cause.
//!
//! The exit code is 1 if a signature is accepted that is published as invalid. A signature that is
//! published as valid and is rejected is only reported. Unsupported ones (shared secrets, P-521,
//! detached and JSON forms) are rejected with their cause.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

use serde_json::{Map, Value};
use tensorgate_identity::{PureVerifier, verify_jws};
use tensorgate_policy::issuer_keys::published;
use tensorgate_policy::policy::{Algorithm, PublicKey};
use tensorgate_policy::values::KeySet;

/// The public members of a key.
const PUBLISHED: [&str; 8] = ["kty", "crv", "n", "e", "x", "y", "kid", "use"];

/// One signature, its keys and its published result.
struct Case {
    name: String,
    key: Value,
    jws: String,
    right: bool,
}

/// The results of a set's cases.
#[derive(Default)]
struct Results {
    /// Accepted, as published.
    right: Vec<String>,
    /// Rejected, as published.
    wrong: Vec<String>,
    /// Rejected although published as valid, by cause.
    refused: BTreeMap<String, Vec<String>>,
    /// Accepted although published as invalid.
    taken: Vec<String>,
}

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in std::env::args().skip(1) {
        match run(&path) {
            Ok(results) => {
                let (right, wrong) = (results.right.len(), results.wrong.len());
                println!("{path}: {right} taken and {wrong} refused, as published");
                for (cause, names) in &results.refused {
                    println!(
                        "  refused, published as right: {cause}: {}",
                        names.join(", ")
                    );
                }
                for name in &results.taken {
                    println!("  TAKEN, published as wrong: {name}");
                    code = ExitCode::from(1);
                }
            }
            Err(error) => {
                eprintln!("{path}: {error}");
                code = ExitCode::from(2);
            }
        }
    }
    code
}

fn run(path: &str) -> Result<Results, Box<dyn Error>> {
    let set: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let cases = wycheproof(&set)
        .or_else(|| cookbook(&set))
        .ok_or("neither of the two forms")?;
    let mut results = Results::default();
    for case in cases {
        match (judge(&case), case.right) {
            (Ok(()), true) => results.right.push(case.name),
            (Err(_), false) => results.wrong.push(case.name),
            (Ok(()), false) => results.taken.push(case.name),
            (Err(cause), true) => results.refused.entry(cause).or_default().push(case.name),
        }
    }
    Ok(results)
}

/// Verifies a signature with the keys that are given for it, as an issuer's published set.
fn judge(case: &Case) -> Result<(), String> {
    let keys = case.key.get("keys").cloned();
    let keys = keys.unwrap_or_else(|| Value::Array(vec![case.key.clone()]));
    let set: KeySet = serde_json::from_value(serde_json::json!({ "keys": keys }))
        .map_err(|error| format!("no key set: {error}"))?;
    // The RSA algorithm that the key names, or any.
    let read = published(&set, &Algorithm::ALL).map_err(|error| error.to_string())?;
    let why = read.passed_over.first().map(|fault| fault.message.clone());
    let keys: &[PublicKey] = &read.keys;
    verify_jws(&case.jws, keys, &mut PureVerifier)
        .map(drop)
        .map_err(|cause| why.unwrap_or_else(|| cause.to_owned()))
}

fn wycheproof(set: &Value) -> Option<Vec<Case>> {
    let mut cases = Vec::new();
    for group in set.get("testGroups")?.as_array()? {
        let key = group.get("public").or_else(|| group.get("private"))?;
        for test in group.get("tests")?.as_array()? {
            // A case of another kind (encryption) is skipped.
            let Some(jws) = test.get("jws") else { continue };
            let comment = test
                .get("comment")
                .and_then(Value::as_str)
                .unwrap_or_default();
            cases.push(Case {
                name: format!("{} {comment}", test.get("tcId")?),
                key: key.clone(),
                jws: jws.as_str().map_or_else(|| jws.to_string(), Into::into),
                right: test.get("result")?.as_str()? == "valid",
            });
        }
    }
    Some(cases)
}

/// Each form of the signature, with the case's key, and with each key where there are several. The
/// cookbook has private keys, and one RSA key signs with several algorithms. Of each key only the
/// public members are used, with the algorithm of the case.
fn cookbook(set: &Value) -> Option<Vec<Case>> {
    let title = set.get("title").and_then(Value::as_str).unwrap_or_default();
    let input = set.get("input")?;
    let list = |value: &Value| {
        let all = value.as_array().cloned();
        all.unwrap_or_else(|| vec![value.clone()])
    };
    let algorithms = input.get("alg").map(list).unwrap_or_default();
    let mut cases = Vec::new();
    for (at, key) in list(input.get("key")?).iter().enumerate() {
        let published = key.as_object()?.iter();
        let published = published.filter(|(name, _)| PUBLISHED.contains(&name.as_str()));
        let mut key: Map<String, Value> = published
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if let Some(algorithm) = algorithms.get(at) {
            key.insert("alg".into(), algorithm.clone());
        }
        for form in ["compact", "json", "json_flat"] {
            let Some(jws) = set.get("output")?.get(form) else {
                continue;
            };
            cases.push(Case {
                name: format!("{title} ({form})"),
                key: Value::Object(key.clone()),
                jws: jws.as_str().map_or_else(|| jws.to_string(), Into::into),
                right: true,
            });
        }
    }
    Some(cases)
}
