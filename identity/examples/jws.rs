//! Runs published sets of JSON web signatures against the reader, the choice of a key and the
//! verifier that tokens pass: `cargo run -p tensorgate-identity --features jwt-simple --example jws
//! -- FILE...`. It reads Project Wycheproof's form (`testGroups`, each with its key and `tests`)
//! and that of the JOSE cookbook (`input`, `output`), and says of each set how many cases came to
//! what is published, and of each other one why.
//!
//! It ends with 1 if a signature is taken that is published as wrong. One that is published as
//! right and not taken is told: what is not checked here (shared secrets, P-521, detached and JSON
//! forms) is refused with its cause.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

use serde_json::{Map, Value};
use tensorgate_identity::{PureVerifier, verify_jws};
use tensorgate_policy::policy::{Algorithm, PublicKey};
use tensorgate_policy::raw::KeySet;
use tensorgate_policy::validate::published;

/// Members of a key that its owner publishes.
const PUBLISHED: [&str; 8] = ["kty", "crv", "n", "e", "x", "y", "kid", "use"];

/// One signature, its keys and what is published of it.
struct Case {
    name: String,
    key: Value,
    jws: String,
    right: bool,
}

/// What became of a set's cases.
#[derive(Default)]
struct MetadataOwner {
    /// Taken as published.
    right: Vec<String>,
    /// Refused as published.
    wrong: Vec<String>,
    /// Refused though published as right, by cause.
    refused: BTreeMap<String, Vec<String>>,
    /// Taken though published as wrong.
    taken: Vec<String>,
}

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in std::env::args().skip(1) {
        match run(&path) {
            Ok(told) => {
                let (right, wrong) = (told.right.len(), told.wrong.len());
                println!("{path}: {right} taken and {wrong} refused, as published");
                for (cause, names) in &told.refused {
                    println!(
                        "  refused, published as right: {cause}: {}",
                        names.join(", ")
                    );
                }
                for name in &told.taken {
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

fn run(path: &str) -> Result<MetadataOwner, Box<dyn Error>> {
    let set: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let cases = wycheproof(&set)
        .or_else(|| cookbook(&set))
        .ok_or("neither of the two forms")?;
    let mut told = MetadataOwner::default();
    for case in cases {
        match (judge(&case), case.right) {
            (Ok(()), true) => told.right.push(case.name),
            (Err(_), false) => told.wrong.push(case.name),
            (Ok(()), false) => told.taken.push(case.name),
            (Err(cause), true) => told.refused.entry(cause).or_default().push(case.name),
        }
    }
    Ok(told)
}

/// Whether a signature is one of the keys that are given for it, as an issuer's published set.
fn judge(case: &Case) -> Result<(), String> {
    let keys = case.key.get("keys").cloned();
    let keys = keys.unwrap_or_else(|| Value::Array(vec![case.key.clone()]));
    let set: KeySet = serde_json::from_value(serde_json::json!({ "keys": keys }))
        .map_err(|error| format!("no key set: {error}"))?;
    // The way of RSA that the key says, or any.
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
            // One that is of another kind (encryption) is none of this.
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

/// Each form of the signature, under the key, and under each where there are several. The book's
/// keys are whole, and an RSA key of its signs in several ways: what is taken of one is what its
/// owner would publish, with the algorithm of the case.
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
