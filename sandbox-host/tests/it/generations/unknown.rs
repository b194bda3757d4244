//! Requests whose gate applied a policy version that the host has not loaded: what the newest
//! policy allows passes, and what it denies is `overloaded`.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use serde_json::json;
use tensorgate_wire::context::Context;

use super::support::backend::{Act, Backend};
use super::support::{Answer, INFER, Running, admin, context, infer_body, key, policy, start};
use super::{THIRD, check, two};

/// A context of the unknown version.
fn unknown(path: &str) -> Context {
    Context {
        generation: THIRD.to_owned(),
        ..context("POST", path)
    }
}

impl Running {
    async fn infer_with(&self, context: &Context, body: Vec<u8>) -> Answer {
        let signed = [context.sign(&key())];
        self.gate.send("POST", INFER, &signed, body).await
    }
}

#[tokio::test]
async fn the_newest_policy_decides_and_its_denials_are_overloaded() {
    let backend = Backend::start(Act::Answer);
    let running = start(two(&backend, &["scorer"], 1.0)).await;
    running.ready().await;
    let small = || infer_body(&[0.5]);
    let credential = |name: &str| Some(format!("key:{}", name.repeat(8)));
    let valid = unknown(INFER);
    check(&running.infer_with(&valid, small()).await, 200, "");
    for (what, context, body) in [
        ("a value out of range", valid.clone(), infer_body(&[5.0])),
        ("a body beyond the limit", valid.clone(), vec![b' '; 70_000]),
        (
            "an unknown client",
            Context {
                client: Some("other".to_owned()),
                credential: credential("04"),
                ..valid.clone()
            },
            small(),
        ),
        (
            "an unknown credential",
            Context {
                credential: credential("04"),
                ..valid.clone()
            },
            small(),
        ),
        (
            "a claim in a field that no issuer names",
            Context {
                claims: vec![("x-tenant".to_owned(), "a".to_owned())],
                ..valid.clone()
            },
            small(),
        ),
    ] {
        let answer = running.infer_with(&context, body).await;
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (503, "overloaded"),
            "{what}"
        );
    }
    let metrics = running.metrics();
    for line in [
        "tensorgate_host_other_generation_total 6",
        "tensorgate_host_overloaded_total{cause=\"policy\"} 5",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(
        !metrics.contains("gate_host_disagreement_total{"),
        "two versions are no disagreement: {metrics}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_gateway_without_new_policies_is_cut_off_after_the_grace() {
    let backend = Backend::start(Act::Answer);
    let running = start(two(&backend, &["scorer"], 1.0)).await;
    let infer = async || {
        running
            .infer_with(&unknown(INFER), infer_body(&[0.5]))
            .await
    };
    assert_eq!(infer().await.status, 200);
    // Not a wait: contexts have the system's time, and only the host's timers move.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(15 * 60 + 1)).await;
    tokio::time::resume();
    check(&infer().await, 503, "overloaded");
    running.stop().await;
}

#[tokio::test]
async fn a_context_that_is_too_old_stays_unauthenticated() {
    let backend = Backend::start(Act::Answer);
    let running = start(two(&backend, &["scorer"], 1.0)).await;
    let mut old = unknown(INFER);
    old.issued_unix_s -= 3_600;
    let answer = running.infer_with(&old, infer_body(&[0.5])).await;
    check(&answer, 401, "unauthenticated");
    let metrics = running.metrics();
    assert!(
        metrics.contains("tensorgate_host_other_generation_total 0"),
        "{metrics}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_stream_is_not_opened() {
    let backend = Backend::start(Act::Answer);
    let mut streams = policy(&backend.uri(), json!({}), json!({}));
    streams["grants"][0]["operations"] = json!(["infer", "stream"]);
    let running = start(streams).await;
    running.ready().await;
    let path = "/inference.GRPCInferenceService/ModelStreamInfer";
    let opened = async |context: &Context| {
        let request = http::Request::builder()
            .method("POST")
            .uri(path)
            .header("host", "tensorgate")
            .header("content-type", "application/grpc")
            .header(super::HEADER, context.sign(&key()))
            .body(http_body_util::Full::new(bytes::Bytes::from_static(b"0")))
            .unwrap();
        let response = running.gate.exchange(request).await;
        let status = response.headers().get("grpc-status");
        status.map(|code| tonic::Code::from_bytes(code.as_bytes()))
    };
    // The head of a stream has no status: it follows the last message.
    assert_eq!(opened(&context("POST", path)).await, None);
    let refused = opened(&unknown(path)).await;
    assert_eq!(refused, Some(tonic::Code::Unavailable));
    running.stop().await;
}

#[tokio::test]
async fn the_gateway_is_shown_with_the_version_of_its_last_request() {
    let backend = Backend::start(Act::Answer);
    let running = start(two(&backend, &["scorer"], 1.0)).await;
    running.ready().await;
    assert_eq!(running.generations().await["gateways"], json!([]));
    let uid = std::fs::metadata(running.folder()).unwrap().uid();
    for (context, known) in [(unknown(INFER), false), (context("POST", INFER), true)] {
        running.infer_with(&context, infer_body(&[0.5])).await;
        // A context that no gate signed shows nothing.
        let forged = ["v7.AA.AAAAAAAAAAAAAAAAAAAAAA".to_owned()];
        let answer = running.gate.send("POST", INFER, &forged, "").await;
        assert_eq!(answer.status, 503);
        let status = running.generations().await;
        let gateway = &status["gateways"][0];
        assert_eq!(gateway["gateway"], format!("uid {uid}"), "{status}");
        assert_eq!(gateway["generation"], context.generation, "{status}");
        assert_eq!(gateway["known"], known, "{status}");
        assert!(gateway["last_seen_s"].is_u64(), "{status}");
        let (_, metrics) = admin(running.host.admin(), "/metrics").await;
        let line = format!("tensorgate_gateways{{known=\"{known}\"}} 1");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    running.stop().await;
}
