//! Traces of a running host: its spans behind a receiver of OTLP, the audit record, and what the
//! backend gets. The receiver's messages are declared here, independently of the host's code.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use prost::Message as _;
use serde_json::{Value, json};
use tensorgate_wire::context::HEADER;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::backend::{Act, Backend};
use crate::support::{INFER, Running, answer, context, infer_body, key, policy, start};

const CLIENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const CLIENT_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const ENVOY: &str = "00-aa28261ee933cab6327f01de13abdba3-4b88bdf645dc79a8-01";
const ENVOY_TRACE: &str = "aa28261ee933cab6327f01de13abdba3";

#[derive(Clone, PartialEq, prost::Message)]
struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(message, repeated, tag = "13")]
    links: Vec<Link>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Link {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A receiver of spans.
struct Receiver {
    uri: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let received = Arc::clone(&spans);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&received)));
            }
        });
        Self { uri, spans }
    }
}

/// Answers one request. A connection has no further one.
async fn serve(stream: TcpStream, received: Arc<Mutex<Vec<Span>>>) {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
    let scopes = request
        .resource_spans
        .into_iter()
        .flat_map(|it| it.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans);
    received.lock().unwrap().extend(spans);
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(answer).await.unwrap();
}

async fn traced(backend: &Backend, tracing: Value) -> Running {
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    policy["audit"] = json!({"tracing": tracing});
    let running = start(policy).await;
    running.ready().await;
    running
}

/// Sends an inference with these fields, and returns its audit record.
async fn infer(running: &Running, fields: &[(&str, &str)]) -> Value {
    let mut request = Request::builder()
        .method("POST")
        .uri(INFER)
        .header("host", "tensorgate")
        .header("content-type", "application/json")
        .header(HEADER, context("POST", INFER).sign(&key()));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(infer_body(&[1.0]))));
    let response = running.gate.exchange(request.unwrap()).await;
    assert_eq!(answer(response).await.status, 200);
    let lines = running.audited();
    let record = lines.into_iter().rfind(|line| line["type"] == "decision");
    record.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_in_the_trace_that_the_gate_has_started() {
    let (receiver, backend) = (Receiver::start().await, Backend::start(Act::Answer));
    let tracing = json!({"endpoint": receiver.uri, "sample": 0.0001});
    let running = traced(&backend, tracing).await;
    let fields = [
        ("traceparent", ENVOY),
        ("tracestate", ""),
        ("x-tensorgate-trace", "envoy"),
        ("x-client-traceparent", CLIENT),
    ];
    let record = infer(&running, &fields).await;
    assert_eq!(record["trace_id"], ENVOY_TRACE);
    assert_eq!(record["traceparent"], CLIENT);
    let sent = backend.seen.traceparent.lock().unwrap().clone().unwrap();
    running.stop().await;

    let spans = receiver.spans.lock().unwrap().clone();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["queue", "backend", "infer vec"]);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == ENVOY_TRACE));
    let own = &spans[2];
    assert_eq!(hex(&own.parent_span_id), "4b88bdf645dc79a8");
    let links: Vec<_> = own.links.iter().map(|link| hex(&link.trace_id)).collect();
    assert_eq!(links, [CLIENT_TRACE]);
    assert!(
        spans[..2]
            .iter()
            .all(|span| span.parent_span_id == own.span_id)
    );
    let expected = format!("00-{ENVOY_TRACE}-{}-01", hex(&spans[1].span_id));
    assert_eq!(sent, expected, "the backend is below the span of its call");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_begins_a_trace_only_if_the_policy_trusts_it() {
    let (receiver, backend) = (Receiver::start().await, Backend::start(Act::Answer));
    for trust in [json!([]), json!(["scorer"])] {
        let tracing = json!({"endpoint": receiver.uri, "sample": 1, "trust": trust});
        let running = traced(&backend, tracing).await;
        let record = infer(&running, &[("traceparent", CLIENT)]).await;
        let is_trusted = trust != json!([]);
        assert_eq!(record["trace_id"] == CLIENT_TRACE, is_trusted, "{record}");
        let unsampled = CLIENT.replace("-01", "-00");
        infer(&running, &[("traceparent", &unsampled)]).await;
        running.stop().await;
        let spans = std::mem::take(&mut *receiver.spans.lock().unwrap());
        let requests = spans.iter().filter(|span| span.name == "infer vec");
        let links: Vec<_> = requests.map(|span| span.links.len()).collect();
        let expected = if is_trusted { vec![0] } else { vec![1, 1] };
        assert_eq!(
            links, expected,
            "a trusted client also decides what is sampled"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_traced_without_a_section() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    running.ready().await;
    let record = infer(&running, &[("traceparent", CLIENT)]).await;
    assert_eq!(record.get("trace_id"), None);
    assert_eq!(*backend.seen.traceparent.lock().unwrap(), None);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_no_receiver_takes_are_counted() {
    let backend = Backend::start(Act::Answer);
    let tracing = json!({"endpoint": "http://127.0.0.1:9", "sample": 1});
    let running = traced(&backend, tracing).await;
    infer(&running, &[]).await;
    let metrics = Arc::clone(&running.host.app().metrics);
    running.stop().await;
    let text = metrics.text().unwrap();
    let count = "tensorgate_spans_dropped_total{cause=\"failed\"} 3";
    assert!(text.contains(count), "{text}");
}
