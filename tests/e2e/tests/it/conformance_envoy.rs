//! Every vector through a real Envoy with the gate filter, and with its three parts in a row, the sandbox host behind it and a stand-in inference server behind
//! that. One gate a policy; within one, a case at a time, on a connection of its own.

use std::collections::BTreeMap;

use tensorgate_tests::{Setup, Stack, ask, policy, verdict};
use tensorgate_vectors::{Driver, Lowered, load};

/// The gate's three parts in a row.
const THREE: &str = "auth,rate-limit,tensor-guard";

/// How the filters are loaded: by which control plane, and which of them.
const LOADED: [(&str, &str); 4] = [
    ("plain", "gate"),
    ("plain", THREE),
    ("istio", "gate"),
    ("envoy-gateway", "gate"),
];

/// Every vector of one policy, in order, through one gate for each way in which it is loaded.
async fn play(policy_file: &str) {
    for (control_plane, chain) in LOADED {
        play_through(control_plane, chain, policy_file).await;
    }
}

async fn play_through(control_plane: &str, chain: &str, policy_file: &str) {
    let vectors = load().unwrap_or_else(|fault| panic!("{fault}"));
    let vectors: Vec<_> = vectors
        .iter()
        .filter(|vector| &*vector.policy_file == policy_file && vector.runs_on(Driver::Envoy))
        // There the gate judges the path that the proxy has made of it.
        .filter(|vector| control_plane == "plain" || !is_normalised(&vector.request.path))
        .collect();
    assert!(
        !vectors.is_empty(),
        "no vector has the policy {policy_file}"
    );
    let stem = policy_file.rsplit('/').next().unwrap();
    let setup = Setup {
        chain,
        control_plane: Some(control_plane),
        ..Setup::default()
    };
    let name = format!("conformance-{stem}");
    let stack = Stack::start_as(&name, policy::vectors_policy(stem), setup).await;
    let mut wrong = Vec::new();
    for vector in &vectors {
        wrong.extend(ask(&stack, vector).await.err());
    }
    assert!(
        wrong.is_empty(),
        "{control_plane}, {chain}: {} of {} are wrong:\n{}",
        wrong.len(),
        vectors.len(),
        wrong.join("\n")
    );
}

/// Whether a control plane's proxy sends another path on, or none: it resolves dot segments, merges
/// slashes, redirects escaped ones, decodes escapes of unreserved characters and rejects those of
/// control characters.
fn is_normalised(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let path = path.to_ascii_lowercase();
    let dots = |segment: &str| segment == "." || segment == "..";
    let decoded = |escape: &str| {
        let code = escape.get(..2).map(|hex| u8::from_str_radix(hex, 16));
        let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        matches!(code, Some(Ok(byte)) if is_unreserved(byte) || byte.is_ascii_control())
    };
    path.split('/').any(dots)
        || path.split('%').skip(1).any(decoded)
        || ["//", "%2f", "%5c", "\\"]
            .iter()
            .any(|it| path.contains(it))
}

async fn ask(stack: &Stack, vector: &Lowered) -> Result<(), String> {
    stack.backend.openai.count(vector.used);
    let mut last = None;
    for _ in 0..vector.repeat {
        last = Some(
            ask::send(stack.gate, &vector.request)
                .await
                .map_err(|error| format!("{}: {error}", vector.id))?,
        );
    }
    verdict::compare(vector, &last.unwrap())?;
    if vector.headers.is_empty() {
        return Ok(());
    }
    let seen = stack.backend.seen();
    let fields = seen.last().map(|seen| seen.fields.as_slice());
    vector
        .wrong_headers(fields.unwrap_or_default())
        .map_or(Ok(()), Err)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_of_the_main_policy_gets_its_decision() {
    play("policies/main.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_of_the_closed_policy_gets_its_decision() {
    play("policies/closed.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_rates_gets_its_decision() {
    play("policies/rates.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_costs_gets_its_decision() {
    play("policies/costs.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_contents_gets_its_decision() {
    play("policies/contents.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_encodings_gets_its_decision() {
    play("policies/encodings.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_raw_bodies_gets_its_decision() {
    play("policies/raw.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_of_openais_api_gets_its_decision() {
    play("policies/openai.json").await;
}

/// RS256 and ES256 are checked by Envoy's own library here, and in Rust by the in-memory drivers: the same vectors, the same decisions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_tokens_gets_its_decision() {
    play("policies/tokens.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_places_of_keys_gets_its_decision() {
    play("policies/key-places.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_keys_of_other_systems_gets_its_decision() {
    play("policies/foreign-keys.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_claims_gets_its_decision() {
    play("policies/claims.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_shadow_gets_its_decision() {
    play("policies/shadow.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_lockout_gets_its_decision() {
    play("policies/lockout.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_versions_gets_its_decision() {
    play("policies/versions.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_ensembles_and_own_handlers_gets_its_decision() {
    play("policies/composed.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_several_answers_gets_its_decision() {
    play("policies/decoupled.json").await;
}

#[test]
fn every_policy_of_the_vectors_is_played() {
    let mut policies = BTreeMap::<String, usize>::new();
    for vector in load().unwrap_or_else(|fault| panic!("{fault}")) {
        *policies.entry(vector.policy_file.to_string()).or_default() += 1;
    }
    let names: Vec<_> = policies.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "policies/claims.json",
            "policies/closed.json",
            "policies/composed.json",
            "policies/contents.json",
            "policies/costs.json",
            "policies/decoupled.json",
            "policies/encodings.json",
            "policies/foreign-keys.json",
            "policies/key-places.json",
            "policies/lockout.json",
            "policies/main.json",
            "policies/openai.json",
            "policies/rates.json",
            "policies/raw.json",
            "policies/shadow.json",
            "policies/tokens.json",
            "policies/versions.json"
        ]
    );
}
