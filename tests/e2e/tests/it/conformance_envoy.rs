//! Every vector through a real Envoy with the gate filter. The sandbox host and a stand-in server
//! are behind it. There is one gate per policy; within one, each case has a connection of its own.
//! The main policy is played on every way of loading the filter, all others in the long form.

use std::collections::BTreeMap;

use tensorgate_client::Reply;
use tensorgate_policy::Reason;
use tensorgate_tests::{Setup, Stack, ask, policy, verdict};
use tensorgate_vectors::{Driver, Lowered, is_long, load};

/// The gate's three parts in a chain.
const THREE: &str = "auth,rate-limit,tensor-guard";

/// How often a vector is sent again that was rejected for overload.
const OVERLOADED_RETRIES: u32 = 3;

/// The policy that is played on every way of loading the filters.
const MAIN: &str = "policies/main.json";

/// How the filters are loaded: the control plane, and the filters.
const LOADED: [(&str, &str); 4] = [
    ("plain", "gate"),
    ("plain", THREE),
    ("istio", "gate"),
    ("envoy-gateway", "gate"),
];

/// Runs every vector of one policy, in order, through one gate for each way of loading. All ways
/// run the same code on a vector; what differs is the listener, which the main policy covers.
async fn play(policy_file: &str) {
    let ways = if is_long() || policy_file == MAIN {
        LOADED.len()
    } else {
        1
    };
    for (control_plane, chain) in LOADED.into_iter().take(ways) {
        play_through(control_plane, chain, policy_file).await;
    }
}

async fn play_through(control_plane: &str, chain: &str, policy_file: &str) {
    let vectors = load().unwrap_or_else(|fault| panic!("{fault}"));
    let vectors: Vec<_> = vectors
        .iter()
        .filter(|vector| &*vector.policy_file == policy_file && vector.runs_on(Driver::Envoy))
        // With a control plane the gate judges the path that the proxy has normalised.
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

/// Whether a control plane's proxy changes or rejects this path. Such a proxy:
/// - resolves dot segments,
/// - merges slashes,
/// - redirects escaped slashes,
/// - decodes escapes of unreserved characters,
/// - rejects escapes of control characters.
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

async fn send(stack: &Stack, vector: &Lowered) -> Result<Reply, String> {
    let reply = ask::send(stack.gate, &vector.request).await;
    reply.map_err(|error| format!("{}: {error}", vector.id))
}

/// Whether the reply, or its first message, is a rejection for overload.
fn is_overloaded(reply: &Reply) -> bool {
    let name = Reason::Overloaded.name();
    let said = String::from_utf8_lossy(&reply.body);
    reply.reason().as_deref() == Some(name) || said.contains(name)
}

async fn ask(stack: &Stack, vector: &Lowered) -> Result<(), String> {
    stack.backend.openai.count(vector.used);
    let mut last = None;
    for _ in 0..vector.repeat {
        let mut reply = send(stack, vector).await?;
        // A busy machine may stall for long enough to reject a request that is none too many.
        for _ in 0..OVERLOADED_RETRIES {
            if verdict::compare(vector, &reply).is_ok() || !is_overloaded(&reply) {
                break;
            }
            reply = send(stack, vector).await?;
        }
        last = Some(reply);
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
    play(MAIN).await;
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

/// Envoy's own library checks RS256 and ES256 here, and Rust code does so in the in-memory drivers.
/// Both must give the same decisions for the same vectors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_tokens_gets_its_decision() {
    play("policies/tokens.json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_key_locations_gets_its_decision() {
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
