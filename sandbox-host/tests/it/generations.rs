//! Policy changes while requests run: which policy judges which request, which clients are rejected
//! at once, what is kept and what is not loaded again.

use crate::support;
mod tighter;
mod unknown;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tensorgate_host::policy_store::policy_versions::LoadOutcome;
use tensorgate_wire::context::HEADER;
use tokio::sync::Semaphore;

use support::backend::{Act, Backend};
use support::{
    Answer, GENERATION, INFER, Running, admin, context, infer_body, key, policy, start, until,
};

const NEXT: &str = "1111111111111111";
const THIRD: &str = "2222222222222222";

impl Running {
    /// An inference that the gate accepted for a client under a policy.
    pub async fn infer_as(&self, client: &str, generation: &str, x: &[f32]) -> Answer {
        let mut context = context("POST", INFER);
        if client == "other" {
            context.credential = Some("key:0404040404040404".to_owned());
        }
        context.client = Some(client.to_owned());
        context.generation = generation.to_owned();
        let signed = context.sign(&key());
        self.gate
            .send("POST", INFER, &[signed], infer_body(x))
            .await
    }

    async fn generations(&self) -> Value {
        let (status, text) = admin(self.host.admin(), "/generations").await;
        assert_eq!(status, 200);
        serde_json::from_str(&text).unwrap()
    }
}

fn check(answer: &Answer, status: u16, reason: &str) {
    let said = if status == 200 {
        String::new()
    } else {
        answer.reason()
    };
    assert_eq!((answer.status, said.as_str()), (status, reason));
}

/// A policy for two clients, with a range for the backend's input.
fn two(backend: &Backend, clients: &[&str], most: f64) -> Value {
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    policy["clients"] = clients
        .iter()
        .zip(["03", "04"])
        .map(|(name, byte)| {
            (
                (*name).to_owned(),
                json!({"api_keys": [{"sha256": byte.repeat(32)}]}),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    policy["grants"][0]["clients"] = json!(clients);
    policy["models"]["vec"]["inputs"][0]["range"] = json!([-most, most]);
    policy
}

#[tokio::test]
async fn a_request_is_judged_by_the_policy_that_its_context_names() {
    let backend = Backend::start(Act::Answer);
    let both = ["scorer", "other"];
    let running = start(two(&backend, &both, 100.0)).await;
    running.ready().await;
    let attempt = running.reload(NEXT, &two(&backend, &both, 1.0)).await;
    assert_eq!(
        (attempt.outcome, attempt.faults.len()),
        (LoadOutcome::Loaded, 0)
    );
    assert!(running.models_ready(), "a reload makes nothing unready");

    let ask = async |generation: &str, x: f32| running.infer_as("scorer", generation, &[x]).await;
    check(&ask(GENERATION, 50.0).await, 200, "");
    check(&ask(NEXT, 50.0).await, 400, "out-of-range");
    check(&ask(NEXT, 0.5).await, 200, "");
    // A version that is not here: the newest decides.
    check(&ask(THIRD, 0.5).await, 200, "");
    check(&ask(THIRD, 50.0).await, 503, "overloaded");
    let metrics = running.metrics();
    for line in [
        "tensorgate_host_other_generation_total 2",
        "tensorgate_host_overloaded_total{cause=\"policy\"} 1",
        "tensorgate_policy_reloads_total{outcome=\"loaded\"} 1",
        &format!("tensorgate_policy_generation{{generation=\"{NEXT}\"}} 1"),
        "tensorgate_policy_generations 2",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(!metrics.contains(&format!("generation=\"{GENERATION}\"")));
    let status = running.generations().await;
    assert_eq!(status["serving"], NEXT);
    assert_eq!(status["kept"][0]["generation"], GENERATION);
    assert_eq!(status["last"]["outcome"], "loaded");

    // Back again: the one before becomes the newest, and nothing is held twice.
    let attempt = running
        .reload(GENERATION, &two(&backend, &both, 100.0))
        .await;
    assert_eq!(attempt.outcome, LoadOutcome::Loaded);
    check(&ask(NEXT, 50.0).await, 400, "out-of-range");
    assert_eq!(
        running.generations().await["kept"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let again = running
        .reload(GENERATION, &two(&backend, &both, 100.0))
        .await;
    assert_eq!(again.outcome, LoadOutcome::Unchanged);
    let forged = running
        .reload(GENERATION, &two(&backend, &both, 99.0))
        .await;
    assert_eq!(forged.outcome, LoadOutcome::Refused);
    assert!(forged.faults[0].contains("is already the name of another policy"));
    running.stop().await;
}

#[tokio::test]
async fn a_client_removed_by_the_newest_policy_is_rejected_under_the_previous_one_too() {
    let backend = Backend::start(Act::Answer);
    let both = ["scorer", "other"];
    let running = start(two(&backend, &both, 100.0)).await;
    running
        .reload(NEXT, &two(&backend, &["scorer"], 100.0))
        .await;
    let ask =
        async |client: &str, generation: &str| running.infer_as(client, generation, &[1.0]).await;
    check(&ask("other", GENERATION).await, 401, "unauthenticated");
    check(&ask("scorer", GENERATION).await, 200, "");
    check(&ask("scorer", NEXT).await, 200, "");
    let metrics = running.metrics();
    assert!(
        metrics.contains("tensorgate_host_revoked_total 1\n")
            && !metrics.contains("gate_host_disagreement_total{"),
        "a revocation is no disagreement: {metrics}"
    );
    // Only a credential was removed.
    let with = async |credential: &str| {
        let mut context = context("POST", INFER);
        context.credential = Some(credential.to_owned());
        let signed = [context.sign(&key())];
        running
            .gate
            .send("POST", INFER, &signed, infer_body(&[1.0]))
            .await
    };
    check(&with("key:0303030303030303").await, 200, "");
    check(&with("key:0404040404040404").await, 401, "unauthenticated");

    // Requests without a client cannot be revoked.
    let mut context = context("GET", "/v2/health/live");
    context.client = None;
    let live = running
        .gate
        .send("GET", "/v2/health/live", &[context.sign(&key())], "")
        .await;
    assert_eq!(live.status, 200);

    running.reload(THIRD, &two(&backend, &both, 50.0)).await;
    check(&ask("other", GENERATION).await, 200, "");
    check(&ask("other", NEXT).await, 401, "unauthenticated");
    running.stop().await;
}

/// Servers that accept connections and never answer.
async fn mute(count: usize) -> Vec<String> {
    let mut uris = Vec::new();
    for _ in 0..count {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        uris.push(format!("http://{}", listener.local_addr().unwrap()));
        tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                taken.push(stream);
            }
        });
    }
    uris
}

/// The same policy with a further model at each of these servers.
fn beside(mut policy: Value, uris: &[String]) -> Value {
    for (number, uri) in uris.iter().enumerate() {
        let (backend, model) = (format!("b{number}"), format!("vec{number}"));
        policy["backends"][&backend] = policy["backends"]["b"].clone();
        policy["backends"][&backend]["endpoints"] = json!([uri]);
        policy["models"][&model] = policy["models"]["vec"].clone();
        policy["models"][&model]["backend"] = json!(backend);
    }
    policy
}

#[tokio::test]
async fn a_revocation_waits_for_no_backend_and_backends_are_probed_in_parallel() {
    let backend = Backend::start(Act::Answer);
    let both = ["scorer", "other"];
    let running = Arc::new(start(two(&backend, &both, 100.0)).await);
    running.ready().await;
    let mute = mute(6).await;
    let without = beside(two(&backend, &["scorer"], 100.0), &mute);
    let reloading = {
        let running = Arc::clone(&running);
        tokio::spawn(async move { running.reload(NEXT, &without).await })
    };
    // The client is rejected before the policy that removes it is in force.
    loop {
        let answer = running.infer_as("other", GENERATION, &[1.0]).await;
        if answer.status == 401 {
            break;
        }
        assert!(!reloading.is_finished(), "let in until the end: {answer:?}");
    }
    assert_eq!(running.generations().await["serving"], GENERATION);
    check(
        &running.infer_as("scorer", GENERATION, &[1.0]).await,
        200,
        "",
    );
    let attempt = reloading.await.unwrap();
    assert_eq!(attempt.outcome, LoadOutcome::Loaded);
    // At two seconds each, one after another, it would be twelve.
    assert!(attempt.took_ms < 6_000, "{attempt:?}");
    check(
        &running.infer_as("other", GENERATION, &[1.0]).await,
        401,
        "unauthenticated",
    );
    Arc::into_inner(running).unwrap().stop().await;
}

#[tokio::test]
async fn a_client_removed_by_a_rejected_policy_is_admitted_again() {
    let backend = Backend::start(Act::Answer);
    let running = start(two(&backend, &["scorer", "other"], 100.0)).await;
    running.ready().await;
    let mut without = two(&backend, &["scorer"], 100.0);
    without["handlers"] = json!({"h": {"component": "h.wasm", "sha256": "05".repeat(32)}});
    without["models"]["vec"]["preprocess"] = json!("h");
    without["models"]["vec"]["accepts"] = json!({"inputs": without["models"]["vec"]["inputs"]});
    let attempt = running.reload(NEXT, &without).await;
    assert_eq!(attempt.outcome, LoadOutcome::Refused);
    check(
        &running.infer_as("other", GENERATION, &[1.0]).await,
        200,
        "",
    );
    running.stop().await;
}

/// Waits until a client of the first policy gets this status.
async fn gets(running: &Running, client: &str, status: u16) {
    let asks =
        async { while running.infer_as(client, GENERATION, &[1.0]).await.status != status {} };
    let in_time = tokio::time::timeout(support::PATIENCE, asks).await;
    assert!(in_time.is_ok(), "{client} never got {status}");
}

#[tokio::test]
async fn a_bundle_that_arrives_during_another_load_revokes_at_once() {
    let backend = Backend::start(Act::Answer);
    let both = two(&backend, &["scorer", "other"], 100.0);
    let running = start(both.clone()).await;
    running.ready().await;
    let path = running.folder().join("bundle.bin");
    let put = |generation: &str, clients: &[&str]| {
        let policy = two(&backend, clients, 100.0);
        support::write_bundle(running.folder(), generation, &policy);
    };
    // Another load that takes long before its policy is in force.
    let held = running.host.reloader().hold().await;
    put(NEXT, &["scorer"]);
    let hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
    let follows = tokio::spawn(tensorgate_host::service::reload::follow(
        Arc::clone(running.host.reloader()),
        path,
        hangup,
    ));
    gets(&running, "other", 401).await;
    let ask = async |client: &str| running.infer_as(client, GENERATION, &[1.0]).await;
    check(&ask("scorer").await, 200, "");
    // Two bundles wait for their turn after that. Each of them counts, and the first still does if
    // the second has faults.
    put(THIRD, &["third"]);
    gets(&running, "scorer", 401).await;
    check(&ask("other").await, 401, "unauthenticated");
    running.replace("bundle.bin", "{}");
    gets(&running, "scorer", 200).await;
    check(&ask("other").await, 401, "unauthenticated");
    put(THIRD, &["third"]);
    gets(&running, "scorer", 401).await;
    assert_eq!(running.generations().await["serving"], GENERATION);
    drop(held);
    // There is no moment between the two without it.
    while running.generations().await["serving"] != THIRD {
        for client in ["scorer", "other"] {
            check(&ask(client).await, 401, "unauthenticated");
        }
    }
    follows.abort();
    running.stop().await;
}

#[tokio::test]
async fn a_policy_with_faults_changes_nothing_and_every_fault_is_reported() {
    let backend = Backend::start(Act::Answer);
    let valid = policy(&backend.uri(), json!({}), json!({}));
    let running = start(valid.clone()).await;
    let check = async |change: &dyn Fn(&mut Value), expected: &[&str]| {
        let mut bad = valid.clone();
        change(&mut bad);
        let attempt = running.reload(NEXT, &bad).await;
        assert_eq!(attempt.outcome, LoadOutcome::Refused, "{expected:?}");
        for text in expected {
            assert!(
                attempt.faults.iter().any(|fault| fault.contains(text)),
                "{text:?} in {:#?}",
                attempt.faults
            );
        }
        assert_eq!(
            attempt.faults.len(),
            expected.len(),
            "{:#?}",
            attempt.faults
        );
        assert_eq!(running.generations().await["serving"], GENERATION);
        assert_eq!(
            running.generations().await["last_refused"]["faults"],
            json!(attempt.faults)
        );
        assert_eq!(running.gate.infer(&[1.0]).await.status, 200);
    };
    let handler = |sha256: String| json!({"component": "h.wasm", "sha256": sha256});
    check(
        &|bad| {
            bad["handlers"] =
                json!({"one": handler("05".repeat(32)), "two": handler("06".repeat(32))});
            bad["models"]["vec"]["preprocess"] = json!("one");
            bad["models"]["vec"]["accepts"] = json!({"inputs": bad["models"]["vec"]["inputs"]});
            bad["models"]["vec"]["postprocess"] = json!("two");
            bad["models"]["vec"]["returns"] = json!({"outputs": bad["models"]["vec"]["outputs"]});
            bad["backends"]["b"] = json!({"kind": "embedded", "models": "models/"});
        },
        &["h.wasm", "h.wasm", "give its address with --endpoint"],
    )
    .await;
    check(
        &|bad| {
            bad["listen"]["limits"] = json!({"body_bytes": 64, "buffered_bytes": 64});
        },
        &["limits.buffered_bytes is 64"],
    )
    .await;
    assert!(
        running
            .metrics()
            .contains("tensorgate_policy_reloads_total{outcome=\"refused\"} 2")
    );
    running.stop().await;
}

#[tokio::test]
async fn a_handler_that_did_not_change_is_not_loaded_again() {
    let backend = Backend::start(Act::Answer);
    let file = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../target/components/hostile_loop.wasm");
    let bytes = std::fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}: run `make components`", file.display()));
    let sha256 = tensorgate_policy::hex(&Sha256::digest(&bytes));
    let with_handler = |timeout_ms: u64, most: f64| {
        let mut policy = policy(&backend.uri(), json!({}), json!({}));
        policy["handlers"] =
            json!({"h": {"component": "h.wasm", "sha256": sha256, "timeout_ms": timeout_ms}});
        policy["models"]["vec"]["preprocess"] = json!("h");
        policy["models"]["vec"]["accepts"] = json!({"inputs": policy["models"]["vec"]["inputs"]});
        policy["models"]["vec"]["inputs"][0]["range"] = json!([-most, most]);
        policy
    };
    let running = support::start_with(with_handler(50, 1.0), &[("h.wasm", &bytes)]).await;
    running.remove("h.wasm");
    let other = running.reload(NEXT, &with_handler(50, 2.0)).await;
    assert_eq!(other.outcome, LoadOutcome::Loaded, "{other:?}");
    let slower = running.reload(THIRD, &with_handler(60, 2.0)).await;
    assert_eq!(
        slower.outcome,
        LoadOutcome::Refused,
        "it has to be read again"
    );
    assert!(slower.faults[0].contains("h.wasm"), "{slower:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_reload_keeps_a_backends_slots_and_a_requests_policy() {
    let permits = Arc::new(Semaphore::new(0));
    let backend = Backend::start(Act::Hold(Arc::clone(&permits)));
    let one = |most: f64| {
        let mut policy = policy(
            &backend.uri(),
            json!({"stream_ms": 6000}),
            json!({"max_in_flight": 1}),
        );
        policy["models"]["vec"]["inputs"][0]["range"] = json!([-most, most]);
        policy
    };
    let running = Arc::new(start(one(100.0)).await);
    let call = |generation: &'static str, x: f32| {
        let running = Arc::clone(&running);
        tokio::spawn(async move { running.infer_as("scorer", generation, &[x]).await })
    };
    let first = call(GENERATION, 50.0);
    until("the first is at the backend", || {
        backend.seen.inside.load(Ordering::SeqCst) == 1
    })
    .await;
    assert_eq!(
        running.reload(NEXT, &one(1.0)).await.outcome,
        LoadOutcome::Loaded
    );
    let second = call(NEXT, 0.5);
    until("the second waits for the one place", || {
        running
            .metrics()
            .contains("tensorgate_host_backend_queue{backend=\"b\"} 1")
    })
    .await;
    assert_eq!(backend.seen.begun.load(Ordering::SeqCst), 1);
    permits.add_permits(2);
    check(&first.await.unwrap(), 200, "");
    check(&second.await.unwrap(), 200, "");
    Arc::into_inner(running).unwrap().stop().await;
}

#[tokio::test]
async fn connections_are_renewed_when_the_bounds_of_heads_change() {
    let backend = Backend::start(Act::Answer);
    let with_headers = |header_bytes: u64| {
        let mut policy = policy(&backend.uri(), json!({}), json!({}));
        policy["listen"]["limits"]["header_bytes"] = json!(header_bytes);
        policy
    };
    let running = start(with_headers(1 << 10)).await;
    let connect = async || {
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(running.gate.connect().await))
                .await
                .unwrap();
        (sender, tokio::spawn(connection))
    };
    let request = |generation: &str, long: usize| {
        let mut context = context("POST", INFER);
        context.generation = generation.to_owned();
        Request::builder()
            .method("POST")
            .uri(INFER)
            .header("host", "tensorgate")
            .header("content-type", "application/json")
            .header("x-long", "a".repeat(long))
            .header(HEADER, context.sign(&key()))
            .body(Full::new(Bytes::from(infer_body(&[1.0]))))
            .unwrap()
    };
    let (mut old, closed) = connect().await;
    let answer = old.send_request(request(GENERATION, 10)).await.unwrap();
    assert_eq!(answer.status(), 200);
    running.reload(NEXT, &with_headers(32 << 10)).await;
    closed.await.unwrap().unwrap();
    let (mut new, _) = connect().await;
    let answer = new.send_request(request(NEXT, 20 << 10)).await.unwrap();
    assert_eq!(answer.status(), 200);
    running.stop().await;
}
