//! Every vector through a real Envoy with the gate filter. The sandbox host and a stand-in server
//! are behind it. A gate plays several policies, one after the other; each case has a connection of
//! its own. The main policy is played on every way of loading the filter, all others in the long
//! form.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;
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

/// All other policies, each with those that one gate plays. Rates, costs and budgets survive a
/// change of policy: no two policies of one gate limit the same client under a grant of the same
/// name. Failed credentials are remembered, too, so the policy with a lockout comes last.
const OTHERS: [&[&str]; 2] = [
    &[
        "policies/openai.json",
        "policies/members.json",
        "policies/costs.json",
        "policies/shadow.json",
        "policies/claims.json",
        "policies/composed.json",
        "policies/decoupled.json",
        "policies/guardrail.json",
        "policies/raw.json",
        "policies/versions.json",
    ],
    &[
        "policies/rates.json",
        "policies/closed.json",
        "policies/contents.json",
        "policies/encodings.json",
        "policies/foreign-keys.json",
        "policies/key-places.json",
        // Envoy's own library checks RS256 and ES256 here, and Rust code does so in memory. Both
        // must give the same decisions for the same vectors.
        "policies/tokens.json",
        "policies/lockout.json",
    ],
];

static VECTORS: LazyLock<Vec<Lowered>> =
    LazyLock::new(|| load().unwrap_or_else(|fault| panic!("{fault}")));

/// How the filters are loaded: the control plane, the filters, and the driver if it is not wasm.
const LOADED: [(&str, &str, Option<&str>); 7] = [
    ("plain", "gate", None),
    ("plain", THREE, None),
    ("istio", "gate", None),
    ("envoy-gateway", "gate", None),
    ("plain", "gate", Some("module")),
    ("istio", "gate", Some("module")),
    ("envoy-gateway", "gate", Some("module")),
];

/// Runs every vector of these policies, in order, through one gate.
async fn play((control_plane, chain, driver): (&str, &str, Option<&str>), policy_files: &[&str]) {
    let setup = Setup {
        chain,
        control_plane: Some(control_plane),
        driver,
        ..Setup::default()
    };
    let mut running: Option<Stack> = None;
    for policy_file in policy_files {
        let stem = policy_file.rsplit('/').next().unwrap();
        let policy = policy::vectors_policy(stem);
        let stack = match &mut running {
            Some(stack) => {
                stack.change(policy).await;
                stack
            }
            None => running.insert(Stack::start_as("conformance", policy, setup).await),
        };
        let vectors: Vec<_> = VECTORS
            .iter()
            .filter(|vector| &*vector.policy_file == *policy_file && vector.runs_on(Driver::Envoy))
            // With a control plane the gate judges the path that the proxy has normalised.
            .filter(|vector| control_plane == "plain" || !is_normalised(&vector.request.path))
            .collect();
        assert!(
            !vectors.is_empty(),
            "no vector has the policy {policy_file}"
        );
        let mut wrong = Vec::new();
        for vector in &vectors {
            wrong.extend(ask(stack, vector).await.err());
        }
        assert!(
            wrong.is_empty(),
            "{control_plane}, {chain}, {driver:?}, {policy_file}: {} of {} are wrong:\n{}",
            wrong.len(),
            vectors.len(),
            wrong.join("\n")
        );
        if *policy_file == MAIN {
            reuse_a_request_id(stack, control_plane).await;
        }
    }
}

/// Sends requests with one `x-request-id`, which a sidecar keeps. Each has a line of its own in the
/// audit log, with the id that its response names.
async fn reuse_a_request_id(stack: &Stack, control_plane: &str) {
    const SHARED: &str = "batch_7.a=b:c/d,e";
    const REQUESTS: usize = 20;
    let field: (&[u8], &[u8]) = (b"x-request-id", SHARED.as_bytes());
    let mut ids = BTreeSet::new();
    for _ in 0..REQUESTS {
        let reply = ask::good(stack.gate, &[field]).await.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        ids.insert(reply.header("x-request-id").unwrap().to_owned());
    }
    assert_eq!(ids.len(), REQUESTS, "{ids:?}");
    let is_one = |line: &Value| {
        let id = line["request_id"].as_str();
        line["type"] == "decision" && id.is_some_and(|id| ids.contains(id))
    };
    let lines = stack.met_request_lines(REQUESTS, is_one).await;
    assert_eq!(lines.len(), REQUESTS, "{lines:?}");
    let keeps = control_plane == "istio";
    let kept = |line: &Value| line["client_request_id"] == SHARED;
    assert!(lines.iter().all(|line| kept(line) == keeps), "{lines:?}");
}

/// Runs other policies. All ways run the same code on a vector; what differs is the listener, which
/// the main policy covers.
async fn play_others(policy_files: &[&str]) {
    let ways = if is_long() { LOADED.len() } else { 1 };
    for loaded in LOADED.into_iter().take(ways) {
        play(loaded, policy_files).await;
    }
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
    let body = String::from_utf8_lossy(&reply.body);
    reply.reason().as_deref() == Some(name) || body.contains(name)
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
    play(LOADED[0], &[MAIN]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_of_the_main_policy_gets_its_decision_from_three_filters() {
    play(LOADED[1], &[MAIN]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_of_the_main_policy_gets_its_decision_as_istio_loads_the_gate() {
    play(LOADED[2], &[MAIN]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_of_the_main_policy_gets_its_decision_as_envoy_gateway_loads_it() {
    play(LOADED[3], &[MAIN]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_gets_its_decision_from_the_native_module() {
    play(LOADED[4], &[MAIN]).await;
    for policy_files in OTHERS {
        play(LOADED[4], policy_files).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_gets_its_decision_from_the_native_module_in_meshes() {
    play(LOADED[5], &[MAIN]).await;
    play(LOADED[6], &[MAIN]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_models_and_openai_gets_its_decision() {
    play_others(OTHERS[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_callers_and_contents_gets_its_decision() {
    play_others(OTHERS[1]).await;
}

#[test]
fn every_policy_of_the_vectors_is_played() {
    let played: BTreeSet<_> = OTHERS.concat().into_iter().chain([MAIN]).collect();
    let all: BTreeSet<_> = VECTORS.iter().map(|vector| &*vector.policy_file).collect();
    assert_eq!(played, all);
}
