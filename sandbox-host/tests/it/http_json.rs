//! A backend with its own JSON, over real sockets: what it gets of a request, what a caller gets of
//! its answer, and every way in which it fails.

use serde_json::{Value, json};
use tensorgate_client::stand_in::http_json as stand_in;

use crate::support;
use stand_in::{Act, Server};
use support::{Answer, PATIENCE, REQUEST_ID, Running, policy, start, until};

const ROUTE: &str = "/classify";
/// The stand-in's answer; a member that no pointer names is not read.
pub const ANSWER: &str =
    r#" { "took_ms" : 3.5, "result" : { "y" : [ 2.5, -1e0 ], "trace": [{}] }, "count" : 2 } "#;

/// A model behind servers with their own JSON, which every possible protocol may call.
pub fn own(servers: &[&Server], backend: Value) -> Value {
    let mut policy = policy("", json!({}), backend);
    let uris: Vec<_> = servers.iter().map(|server| server.uri()).collect();
    policy["backends"]["b"]["kind"] = json!("http-json");
    policy["backends"]["b"]["endpoints"] = json!(uris);
    let model = &mut policy["models"]["vec"];
    model["protocols"] = json!(["oip-rest", "oip-grpc", "tf-serving-rest", "json"]);
    model["parameters"] = json!({});
    model["json"] = json!({
        "route": ROUTE, "inputs": {"x": "/input/x"}, "outputs": {"y": "/result/y", "z": "/count"}, "ignored": ["/request_id"]
    });
    policy
}

async fn started(backend: Value) -> (Server, Running) {
    let server = Server::start(Act::Say(200, ANSWER.to_owned())).await;
    let running = start(own(&[&server], backend)).await;
    running.ready().await;
    (server, running)
}

pub async fn ask(running: &Running) -> Answer {
    let body = json!({"request_id": "theirs", "input": {"x": [1.5, -2]}});
    running.gate.call("POST", ROUTE, body.to_string()).await
}

#[tokio::test]
async fn request_and_answer_are_encoded_anew() {
    let (server, running) = started(json!({})).await;
    let answer = ask(&running).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.json(),
        json!({"result": {"y": [2.5, -1.0]}, "count": 2})
    );
    // By another protocol the backend gets the same.
    let answer = running.gate.infer(&[1.5, -2.0]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["outputs"][0]["data"], json!([2.5, -1.0]));
    let rows = json!({"inputs": {"x": [1.5, -2]}}).to_string();
    let answer = running
        .gate
        .call("POST", "/v1/models/vec:predict", rows)
        .await;
    assert_eq!(answer.json()["outputs"]["z"], json!([2]), "{answer:?}");
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    for seen in seen {
        assert_eq!(seen.body(), json!({"input": {"x": [1.5, -2.0]}}));
        assert!(seen.head.starts_with("post /classify http/1.1\r\n"));
        for field in [
            "content-type: application/json".to_owned(),
            "accept: application/json".to_owned(),
            "accept-encoding: identity".to_owned(),
            format!("host: {}", server.address),
            format!("x-request-id: {REQUEST_ID}"),
            format!("content-length: {}", seen.text.len()),
        ] {
            assert!(
                seen.head.lines().any(|line| line == field),
                "{field}: {}",
                seen.head
            );
        }
        assert_eq!(seen.head.lines().count(), 7, "{}", seen.head);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_server_gets_the_trace_of_the_audit_record() {
    let server = Server::start(Act::Say(200, ANSWER.to_owned())).await;
    let mut policy = own(&[&server], json!({}));
    policy["audit"] = json!({"tracing": {"endpoint": "http://127.0.0.1:9"}});
    let running = start(policy).await;
    running.ready().await;
    assert_eq!(ask(&running).await.status, 200);
    let mut records = running.audited().into_iter();
    let record = records.find(|line| line["type"] == "decision").unwrap();
    let field = format!("traceparent: 00-{}-", record["trace_id"].as_str().unwrap());
    let seen = server.seen();
    let head = &seen[0].head;
    let has_field = head.lines().any(|line| line.starts_with(&field));
    assert!(has_field, "{field}: {head}");
    running.stop().await;
}

#[tokio::test]
async fn an_answer_is_read_as_untrusted_input() {
    let (server, running) = started(json!({})).await;
    let fault = (502, "backend-fault");
    for (what, status, body, expected) in [
        (
            "lists where one element may be",
            200,
            r#"{"result":{"y":2.5},"count":[2]}"#.to_owned(),
            (200, ""),
        ),
        ("no JSON", 200, "<html>".to_owned(), fault),
        ("nothing", 200, String::new(), fault),
        ("a document of another form", 200, "[2.5]".to_owned(), fault),
        (
            "an output that is missing",
            200,
            r#"{"count":2}"#.to_owned(),
            fault,
        ),
        (
            "another shape",
            200,
            r#"{"result":{"y":[[2.5]]},"count":2}"#.to_owned(),
            fault,
        ),
        (
            "more than the contract has",
            200,
            format!(r#"{{"result":{{"y":{:?}}},"count":2}}"#, [1; 9]),
            fault,
        ),
        (
            "ragged lists",
            200,
            r#"{"result":{"y":[1,[2]]},"count":2}"#.to_owned(),
            fault,
        ),
        (
            "a text for a number",
            200,
            r#"{"result":{"y":["2.5"]},"count":2}"#.to_owned(),
            fault,
        ),
        (
            "a fraction for an integer",
            200,
            r#"{"result":{"y":[2.5]},"count":2.5}"#.to_owned(),
            fault,
        ),
        (
            "null",
            200,
            r#"{"result":{"y":null},"count":2}"#.to_owned(),
            fault,
        ),
        (
            "beyond every float",
            200,
            r#"{"result":{"y":[1e39]},"count":2}"#.to_owned(),
            fault,
        ),
        (
            "NaN, as Python writes it",
            200,
            r#"{"result":{"y":[NaN]},"count":2}"#.to_owned(),
            fault,
        ),
        (
            "an output twice",
            200,
            r#"{"result":{"y":[1]},"count":2,"count":3}"#.to_owned(),
            fault,
        ),
        (
            "something behind the document",
            200,
            format!("{ANSWER}{ANSWER}"),
            fault,
        ),
        (
            "longer than any within the contract",
            200,
            format!("{ANSWER}{}", " ".repeat(1 << 20)),
            fault,
        ),
        (
            "deeper than a document may be",
            200,
            format!(r#"{{"more":{}}}"#, "[".repeat(100_000)),
            fault,
        ),
        (
            "a text of its own about a fault",
            500,
            "Traceback: /srv/model.py".to_owned(),
            fault,
        ),
        (
            "not there",
            404,
            "{}".to_owned(),
            (404, "backend-unknown-model"),
        ),
        (
            "an input that it rejects",
            422,
            r#"{"detail":"JSON at /srv"}"#.to_owned(),
            (422, "backend-rejected"),
        ),
        ("not allowed", 403, "{}".to_owned(), fault),
        ("elsewhere", 307, "{}".to_owned(), fault),
        ("another success", 204, String::new(), fault),
        ("busy", 503, "{}".to_owned(), (503, "backend-unavailable")),
        (
            "busy by another status",
            429,
            "{}".to_owned(),
            (429, "backend-busy"),
        ),
        (
            "late by its own word",
            504,
            "{}".to_owned(),
            (504, "backend-timeout"),
        ),
    ] {
        server.set(Act::Say(status, body));
        let answer = ask(&running).await;
        let said = (answer.status, answer.reason());
        assert_eq!((said.0, said.1.as_str()), expected, "{what}: {answer:?}");
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        for secret in ["127.0.0.1", "contract", "/srv", "JSON", "result/y"] {
            assert!(
                !text.contains(secret),
                "{what}: the answer names {secret}: {text}"
            );
        }
    }
    server.set(Act::BreakOff);
    assert_eq!(ask(&running).await.reason(), "backend-unavailable");
    running.stop().await;
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_the_deadline_and_closes_the_connection() {
    let (server, running) = started(json!({"timeout_ms": 300})).await;
    server.set(Act::Hang);
    let answer = ask(&running).await;
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (504, "backend-timeout")
    );
    until("the connection is gone", || server.open() == 0).await;
    // When a caller leaves, the connection ends too.
    let (server, running_longer) = started(json!({"timeout_ms": 60_000})).await;
    server.set(Act::Hang);
    let gate = running_longer.gate.clone();
    let waiting =
        tokio::spawn(async move { gate.call("POST", ROUTE, r#"{"input":{"x":1}}"#).await });
    until("it has the request", || server.open() == 1).await;
    waiting.abort();
    until("the connection is gone", || server.open() == 0).await;
    running.stop().await;
    running_longer.stop().await;
}

#[tokio::test]
async fn readiness_is_requested_at_the_configured_path() {
    let health = json!({"health_check": {"path": "/readyz", "interval_s": 1}});
    let server = Server::start(Act::Say(200, ANSWER.to_owned())).await;
    server.set_ready(false);
    let running = start(own(&[&server], health)).await;
    until("it was asked", || server.asked() > 1).await;
    assert!(!running.models_ready());
    assert_eq!(ask(&running).await.reason(), "backend-unavailable");
    assert!(
        server.seen().is_empty(),
        "nothing is sent to who is not ready"
    );
    server.set_ready(true);
    running.ready().await;
    assert_eq!(ask(&running).await.status, 200);
    server.set_ready(false);
    until("it is not ready", || !running.models_ready()).await;
    running.stop().await;
}

#[tokio::test]
async fn a_request_that_one_server_could_not_accept_is_retried_at_another() {
    let busy = Server::start(Act::Say(503, "{}".to_owned())).await;
    let free = Server::start(Act::Say(200, ANSWER.to_owned())).await;
    let retry = json!({"retry": {"attempts": 1}});
    let running = start(own(&[&busy, &free], retry)).await;
    running.ready().await;
    let began = tokio::time::Instant::now();
    while busy.seen().is_empty() {
        assert_eq!(ask(&running).await.status, 200);
        assert!(began.elapsed() < PATIENCE);
    }
    let sent: Vec<_> = busy.seen().into_iter().map(|seen| seen.text).collect();
    assert!(free.seen().iter().all(|seen| seen.text == sent[0]));
    running.stop().await;
}

#[tokio::test]
async fn a_broken_connection_fails_only_its_own_request() {
    let (server, running) =
        started(json!({"health_check": {"path": "/readyz", "interval_s": 60}})).await;
    for _ in 0..4 {
        server.set(Act::BreakOff);
        assert_eq!(ask(&running).await.reason(), "backend-unavailable");
        assert!(
            running.models_ready(),
            "others have connections of their own"
        );
        server.set(Act::Say(200, ANSWER.to_owned()));
        assert_eq!(ask(&running).await.status, 200);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_takes_no_connection_costs_no_request_where_there_is_another() {
    let gone = Server::start(Act::Say(200, ANSWER.to_owned())).await;
    let good = Server::start(Act::Say(200, ANSWER.to_owned())).await;
    let interval = json!({"health_check": {"interval_s": 60}});
    let running = start(own(&[&gone, &good], interval)).await;
    while gone.seen().is_empty() {
        assert_eq!(ask(&running).await.status, 200);
    }
    drop(gone);
    for _ in 0..10 {
        assert_eq!(ask(&running).await.status, 200);
    }
    drop(good);
    assert_eq!(ask(&running).await.reason(), "backend-unavailable");
    until("no server is there", || !running.models_ready()).await;
    running.stop().await;
}

#[tokio::test]
async fn rows_and_optional_inputs_are_passed_on_unchanged() {
    let server = Server::start(Act::Say(
        200,
        r#"{"rows":[{"y":2.5},{"y":3.5}],"tag":"naïve \" \u0001"}"#.to_owned(),
    ))
    .await;
    let mut policy = own(&[&server], json!({}));
    let model = &mut policy["models"]["vec"];
    model["inputs"] = json!([
        {"name": "x", "datatype": "FP32", "shape": [{"name": "n", "max": 4}]},
        {"name": "t", "datatype": "BYTES", "shape": ["n", 1], "max_item_bytes": 16, "utf8": true, "optional": true},
        {"name": "b", "datatype": "BYTES", "shape": [1], "max_item_bytes": 16, "optional": true}
    ]);
    model["outputs"] = json!([
        {"name": "y", "datatype": "FP32", "shape": ["n"]}, {"name": "tag", "datatype": "BYTES", "shape": [1], "max_item_bytes": 16}
    ]);
    model["json"] = json!({
        "route": ROUTE, "outputs": {"y": "/rows/*/y", "tag": "/tag"},
        "inputs": {"x": "/rows/*/in/x", "t": "/rows/*/t", "b": {"pointer": "/b", "bytes": "base64"}}
    });
    let running = start(policy).await;
    running.ready().await;
    let two = json!([{"in": {"x": 1.0}}, {"in": {"x": 2.0}}]);
    let texts = json!([{"in": {"x": 1.0}, "t": "a\"é"}, {"in": {"x": 2.0}, "t": ""}]);
    for asked in [
        json!({"rows": two}),
        json!({"rows": two, "b": "AP8="}),
        json!({"b": "", "rows": texts}),
    ] {
        let answer = running.gate.call("POST", ROUTE, asked.to_string()).await;
        assert_eq!(answer.status, 200, "{asked}: {answer:?}");
        assert_eq!(
            answer.json(),
            json!({"rows": [{"y": 2.5}, {"y": 3.5}], "tag": "naïve \" \u{1}"})
        );
        assert_eq!(server.seen().last().unwrap().body(), asked);
    }
    running.stop().await;
}
