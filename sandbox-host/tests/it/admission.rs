//! Which requests the host accepts: only those of the gate, with a fresh context for this very
//! request, and only such as the gate could have allowed.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::json;
use tensorgate_policy::decision::FilterWork;
use tensorgate_wire::context::{Context, HEADER, Key};

use crate::support;
use support::backend::{Act, Backend};
use support::{
    GENERATION, INFER, REQUEST_ID, WORK, answer, context, infer_body, key, mode, now_unix_s,
    policy, start,
};

#[tokio::test]
async fn only_a_fresh_context_for_this_request_is_accepted() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    running.ready().await;
    let good = || context("POST", INFER);
    let forger = Key::from_hex(&("a5".repeat(31) + "f0")).unwrap();
    let now = now_unix_s();
    let old = now.checked_sub(3_600).unwrap();
    let late = now.checked_add(3_600).unwrap();
    let mut cut = good().sign(&key());
    // One character less could still be base64.
    cut.truncate(cut.len() - 2);
    let cases: Vec<(&str, Vec<String>, u16, &str)> = vec![
        ("a good one", vec![good().sign(&key())], 200, ""),
        ("none", vec![], 401, "unauthenticated"),
        (
            "two",
            vec![good().sign(&key()), good().sign(&key())],
            401,
            "unauthenticated",
        ),
        ("nonsense", vec!["nonsense".into()], 401, "unauthenticated"),
        ("a cut one", vec![cut], 401, "unauthenticated"),
        (
            "one of an unknown key",
            vec![good().sign(&forger)],
            503,
            "overloaded",
        ),
        (
            "an old one",
            vec![
                Context {
                    issued_unix_s: old,
                    ..good()
                }
                .sign(&key()),
            ],
            401,
            "unauthenticated",
        ),
        (
            "one from the future",
            vec![
                Context {
                    issued_unix_s: late,
                    ..good()
                }
                .sign(&key()),
            ],
            401,
            "unauthenticated",
        ),
        (
            "another path's",
            vec![context("POST", "/v2/models/other/infer").sign(&key())],
            401,
            "unauthenticated",
        ),
        (
            "another method's",
            vec![context("GET", INFER).sign(&key())],
            401,
            "unauthenticated",
        ),
        (
            "another policy's",
            vec![
                Context {
                    generation: "fedcba9876543210".into(),
                    ..good()
                }
                .sign(&key()),
            ],
            200,
            "",
        ),
        (
            "no client",
            vec![
                Context {
                    client: None,
                    ..good()
                }
                .sign(&key()),
            ],
            401,
            "unauthenticated",
        ),
        (
            "an unknown client's",
            vec![
                Context {
                    client: Some("gone".into()),
                    ..good()
                }
                .sign(&key()),
            ],
            401,
            "unauthenticated",
        ),
    ];
    for (what, contexts, status, reason) in &cases {
        let answer = running
            .gate
            .send("POST", INFER, contexts, infer_body(&[1.0]))
            .await;
        let got = if answer.status == 200 {
            String::new()
        } else {
            answer.reason()
        };
        assert_eq!((answer.status, got.as_str()), (*status, *reason), "{what}");
    }
    let metrics = running.metrics();
    assert!(
        metrics.contains("tensorgate_host_strangers_total 9"),
        "{metrics}"
    );
    assert!(
        metrics.contains("tensorgate_host_other_generation_total 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("gate_host_disagreement_total{reason=\"unauthenticated\"} 2"),
        "{metrics}"
    );
    assert!(
        metrics.contains("tensorgate_host_overloaded_total{cause=\"configuration\"} 1"),
        "{metrics}"
    );
    assert_eq!(GENERATION.len(), 16);
    running.stop().await;
}

/// A chain without a filter that checks bodies declares that in the context.
#[tokio::test]
async fn a_body_that_no_filter_checked_is_rejected_without_a_contradiction() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    running.ready().await;
    let unchecked = |path: &str| {
        let context = Context {
            work: FilterWork {
                checks: false,
                ..WORK
            },
            ..context("POST", path)
        };
        [context.sign(&key())]
    };
    for (body, reason) in [
        (infer_body(&[1000.0]), "out-of-range"),
        (b"{".to_vec(), "malformed"),
    ] {
        let contexts = unchecked(INFER);
        let answer = running.gate.send("POST", INFER, &contexts, body).await;
        assert_eq!(answer.reason(), reason);
    }
    let metrics = running.metrics();
    assert!(
        !metrics.contains("gate_host_disagreement_total{"),
        "{metrics}"
    );
    // Every filter judges the head, and here the path names the model.
    let path = "/v2/models/other/infer";
    let contexts = unchecked(path);
    let answer = running
        .gate
        .send("POST", path, &contexts, infer_body(&[1.0]))
        .await;
    assert_eq!(answer.reason(), "not-granted");
    let counted = "gate_host_disagreement_total{reason=\"not-granted\"} 1";
    assert!(running.metrics().contains(counted));
}

#[tokio::test]
async fn a_request_that_the_gate_should_have_rejected_is_rejected_and_counted() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    running.ready().await;
    let gate = &running.gate;
    let cases = [
        (
            "a model without a grant",
            "POST",
            "/v2/models/other/infer",
            infer_body(&[1.0]),
            403,
            "not-granted",
        ),
        (
            "management",
            "POST",
            "/v2/repository/models/vec/load",
            b"{}".to_vec(),
            404,
            "not-an-inference-route",
        ),
        (
            "a value out of range",
            "POST",
            INFER,
            infer_body(&[1000.0]),
            400,
            "out-of-range",
        ),
        (
            "too many elements",
            "POST",
            INFER,
            infer_body(&[1.0; 9]),
            400,
            "shape",
        ),
        ("no JSON", "POST", INFER, b"{".to_vec(), 400, "malformed"),
        (
            "a body over the bound",
            "POST",
            INFER,
            vec![b' '; 65_537],
            413,
            "body-too-large",
        ),
    ];
    for (what, method, path, body, status, reason) in cases {
        let answer = gate.call(method, path, body).await;
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (status, reason),
            "{what}"
        );
        let counted = format!("gate_host_disagreement_total{{reason=\"{reason}\"}} 1");
        assert!(
            running.metrics().contains(&counted),
            "{what}: {}",
            running.metrics()
        );
    }
    assert_eq!(
        backend.seen.begun.load(std::sync::atomic::Ordering::SeqCst),
        0,
        "nothing reached the backend"
    );
    assert_eq!(
        running.host.app().budget.used(),
        0,
        "every byte was given back"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_body_without_a_declared_length_is_cut_at_the_bound() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    running.ready().await;
    let stream = running.gate.connect().await;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let pieces = (0..100).map(|_| {
        Ok::<_, std::convert::Infallible>(hyper::body::Frame::data(Bytes::from(vec![b' '; 1024])))
    });
    let request = Request::builder()
        .method("POST")
        .uri(INFER)
        .header("host", "tensorgate")
        .header("content-type", "application/json")
        .header("x-request-id", REQUEST_ID)
        .header(HEADER, context("POST", INFER).sign(&key()))
        .body(http_body_util::StreamBody::new(tokio_stream::iter(pieces)))
        .unwrap();
    let answer = answer(sender.send_request(request).await.unwrap()).await;
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (413, "body-too-large")
    );
    drop(sender);
    running.stop().await;
}

#[tokio::test]
async fn a_host_without_memory_answers_overloaded() {
    let backend = Backend::start(Act::Answer);
    // Memory for the answer's bound, and little more.
    let running = start(policy(
        &backend.uri(),
        json!({"buffered_bytes": 66_000}),
        json!({}),
    ))
    .await;
    running.ready().await;
    let mut taken = running.host.app().budget.permit();
    assert!(taken.resize(65_990));
    let refused = running.gate.infer(&[1.0]).await;
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (503, "overloaded")
    );
    let counted = "tensorgate_host_overloaded_total{cause=\"memory\"} 1\n";
    assert!(running.metrics().contains(counted));
    drop(taken);
    assert_eq!(running.gate.infer(&[1.0]).await.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn the_gate_is_not_bound_by_a_clients_connection_limit() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(
        &backend.uri(),
        json!({"connections": 1, "streams_per_connection": 1}),
        json!({}),
    ))
    .await;
    running.ready().await;
    let another_workers = running.gate.connect().await;
    assert_eq!(running.gate.infer(&[1.0]).await.status, 200);
    drop(another_workers);
    running.stop().await;
}

#[tokio::test]
async fn the_socket_is_for_its_owner_alone() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    running.ready().await;
    assert_eq!(mode(&running.gate.socket), 0o600);
    running.stop().await;
}

#[tokio::test]
async fn a_head_beyond_all_limits_is_rejected_before_the_decision() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    running.ready().await;
    let request = Request::builder()
        .uri(INFER)
        .header("host", "h")
        .header("x-big", "a".repeat(200_000));
    let response = running
        .gate
        .exchange(request.body(Full::new(Bytes::new())).unwrap())
        .await;
    assert_eq!(response.status().as_u16(), 431);
    drop(response);
    assert!(
        running
            .metrics()
            .contains("tensorgate_host_strangers_total 0")
    );
    running.stop().await;
}
