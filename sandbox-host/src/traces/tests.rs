//! Which trace a request belongs to.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Mutex;

use http::HeaderName;
use tensorgate_telemetry::spans::{Span, SpanKind};
use tensorgate_wire::trace_context::{CLIENT_TRACEPARENT, ENVOY_TRACE};

use super::*;

const CLIENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const ENVOY: &str = "00-aa28261ee933cab6327f01de13abdba3-4b88bdf645dc79a8-00";

#[derive(Debug, Default)]
struct Collected(Mutex<Vec<Span>>);

impl SpanSink for Collected {
    fn take(&self, spans: Vec<Span>) {
        self.0.lock().unwrap().extend(spans);
    }
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let fields = fields.iter();
    let field = |(name, value): &(&'static str, &str)| {
        let value = HeaderValue::from_str(value).unwrap();
        (HeaderName::from_static(name), value)
    };
    fields.map(field).collect()
}

fn arrived(fields: &[(&'static str, &str)]) -> (Option<String>, Option<SpanContext>) {
    let arrived = ArrivedTrace::of(&headers(fields));
    (arrived.client, arrived.envoy)
}

#[test]
fn only_the_mark_makes_a_trace_envoys() {
    let (client, envoy) = (Some(CLIENT.to_owned()), SpanContext::read(ENVOY));
    let mark = (ENVOY_TRACE, "envoy");
    let own = (TRACEPARENT, ENVOY);
    let moved = (CLIENT_TRACEPARENT, CLIENT);
    assert_eq!(arrived(&[mark, own, moved]), (client.clone(), envoy));
    assert_eq!(arrived(&[mark, own]), (None, envoy));
    assert_eq!(arrived(&[mark]), (None, None));
    assert_eq!(arrived(&[own]), (Some(ENVOY.to_owned()), None));
    assert_eq!(arrived(&[moved]), (client, None));
    assert_eq!(arrived(&[own, own]), (None, None), "it is repeated");
    assert_eq!(arrived(&[(TRACEPARENT, "00-x")]), (None, None));
    assert_eq!(arrived(&[]), (None, None));
}

#[test]
fn spans_beyond_the_room_of_the_queue_are_dropped_and_counted() {
    let metrics = Metrics::new();
    let (queue, mut waiting) = SpanQueue::new(&metrics);
    let span = Span {
        context: SpanContext::read(CLIENT).unwrap(),
        parent: None,
        name: "infer m".to_owned(),
        kind: SpanKind::Server,
        start: std::time::UNIX_EPOCH,
        end: std::time::UNIX_EPOCH,
        attributes: Vec::new(),
        links: Vec::new(),
        failed: false,
    };
    let dropped = |count: u32| {
        let series = format!("tensorgate_spans_dropped_total{{cause=\"queue\"}} {count}\n");
        let text = metrics.text().unwrap();
        assert!(text.contains(&series), "{series} in {text}");
    };
    // Many spans of few requests: 12,800 in place of 8,192.
    for _ in 0..200 {
        queue.take(vec![span.clone(); 64]);
    }
    dropped(4_608);
    drop(waiting.try_recv().unwrap());
    queue.take(vec![span.clone(); 64]);
    dropped(4_608);
    queue.take(vec![span]);
    dropped(4_609);
}

/// The traces of a policy that trusts the client `app`, and where their spans go.
fn traces() -> (Traces, Arc<Collected>) {
    let policy = serde_json::json!({
        "version": 1,
        "listen": {"address": "127.0.0.1:8080"},
        "clients": {"app": {"api_keys": [{"sha256": "03".repeat(32)}]}},
        "backends": {"b": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:9"]}},
        "models": {"m": {"backend": "b", "versions": ["1"], "protocols": ["oip-rest"],
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "range": [0, 1]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}]}},
        "grants": [{"name": "g", "clients": ["app"], "models": ["m"], "operations": ["infer"]}],
        "audit": {"tracing": {"endpoint": "http://127.0.0.1:9", "sample": 1, "trust": ["app"]}}
    });
    let raw = serde_json::from_value(policy).unwrap();
    let (policy, _) = tensorgate_policy_compiler::validate::validate(&raw).unwrap();
    let rule = policy.audit().tracing().unwrap().clone();
    let collected = Arc::<Collected>::default();
    let sink: Arc<dyn SpanSink> = Arc::<Collected>::clone(&collected);
    (Traces::new(rule, sink), collected)
}

/// The trace ID of a request with these fields, and its own span if that is handed over.
fn finished(client: Option<&str>, fields: &[(&'static str, &str)]) -> (String, Option<Span>) {
    let (traces, collected) = traces();
    let mut trace = traces.begin("a", client, &headers(fields));
    trace.finish("request".to_owned(), Vec::new(), false);
    let span = collected.0.lock().unwrap().pop();
    (trace.trace_id().unwrap(), span)
}

#[test]
fn envoy_decides_whether_its_trace_is_sampled() {
    let mark = (ENVOY_TRACE, "envoy");
    let fields = [mark, (TRACEPARENT, ENVOY), (CLIENT_TRACEPARENT, CLIENT)];
    let (trace_id, span) = finished(None, &fields);
    assert_eq!(trace_id, "aa28261ee933cab6327f01de13abdba3");
    assert_eq!(span, None);
}

#[test]
fn the_trace_of_a_trusted_client_is_continued_and_that_of_another_is_a_link() {
    let mark = (ENVOY_TRACE, "envoy");
    let fields = [mark, (TRACEPARENT, ENVOY), (CLIENT_TRACEPARENT, CLIENT)];
    let (trace_id, span) = finished(Some("app"), &fields);
    let span = span.unwrap();
    assert_eq!(trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(span.links, [SpanContext::read(ENVOY).unwrap()]);

    // Without Envoy's trace, the request's own ID decides.
    let (trace_id, span) = finished(Some("other"), &[(TRACEPARENT, CLIENT)]);
    let span = span.unwrap();
    assert_eq!(
        trace_id,
        SpanContext::of_request("a", 10_000).trace_id_text()
    );
    assert_eq!(span.links, [SpanContext::read(CLIENT).unwrap()]);
    assert_eq!(span.parent, None);
}
