//! Which spans a request hands over, and how they hang together.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Mutex;

use super::*;

#[derive(Debug, Default)]
struct Collected(Mutex<Vec<Vec<Span>>>);

impl SpanSink for Collected {
    fn take(&self, spans: Vec<Span>) {
        self.0.lock().unwrap().push(spans);
    }
}

fn part(name: &str) -> Part {
    Part {
        name: name.to_owned(),
        took: Duration::from_millis(1),
        attributes: vec![number("fuel", 7)],
        failed: true,
    }
}

/// A trace of a request, and what it hands over.
fn trace(sampled_shares: u32) -> (RequestTrace, Arc<Collected>) {
    let collected = Arc::<Collected>::default();
    let sink: Arc<dyn SpanSink> = Arc::<Collected>::clone(&collected);
    let context = SpanContext::of_request("a", sampled_shares);
    let trace = RequestTrace::begin(&sink, context, Some([7; 8]), vec![context]);
    (trace, collected)
}

#[test]
fn a_request_has_a_span_for_each_part_below_its_own() {
    let (mut trace, collected) = trace(10_000);
    let traceparent = trace.backend_traceparent().unwrap();
    trace.add(part("handler png"));
    trace.add_backend(Duration::from_millis(3), Duration::from_millis(1), false);
    trace.finish("infer digits".to_owned(), Vec::new(), false);
    trace.finish("again".to_owned(), Vec::new(), false);
    let spans = collected.0.lock().unwrap().clone();
    assert_eq!(spans.len(), 1, "it ends once");
    let names: Vec<_> = spans[0].iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["handler png", "queue", "backend", "infer digits"]);
    let [handler, queue, backend, own] = spans[0].as_slice() else {
        unreachable!()
    };
    assert_eq!((own.parent, own.links.len()), (Some([7; 8]), 1));
    for child in [handler, queue, backend] {
        assert_eq!(child.parent, Some(own.context.span_id));
        assert_eq!(child.context.trace_id, own.context.trace_id);
        assert!(child.start <= child.end && child.end <= own.end);
    }
    assert_eq!(queue.end, backend.start);
    assert_eq!(backend.context.traceparent(), traceparent);
    assert!(handler.failed && !backend.failed);
    let ids = spans[0].iter().map(|span| span.context.span_id);
    assert_eq!(ids.collect::<std::collections::BTreeSet<_>>().len(), 4);
}

#[test]
fn a_request_that_is_not_sampled_keeps_its_ids_only() {
    let (mut trace, collected) = trace(0);
    trace.add(part("handler png"));
    trace.finish("infer digits".to_owned(), Vec::new(), false);
    assert!(collected.0.lock().unwrap().is_empty());
    assert!(trace.backend_traceparent().unwrap().ends_with("-00"));
    assert_eq!(trace.trace_id().unwrap().len(), 32);
    let none = RequestTrace::default();
    assert_eq!((none.trace_id(), none.backend_traceparent()), (None, None));
}

#[test]
fn a_message_of_a_stream_is_a_part_of_it() {
    let (trace, collected) = trace(10_000);
    let mut message = trace.of_message("a-1");
    message.finish("infer digits".to_owned(), Vec::new(), false);
    assert_eq!(message.trace_id(), trace.trace_id());
    let span = collected.0.lock().unwrap()[0][0].clone();
    let stream = SpanContext::of_request("a", 10_000);
    assert_eq!(span.parent, Some(stream.span_id));
    assert_ne!(span.context.span_id, stream.span_id);
}

#[test]
fn a_long_stream_of_responses_keeps_a_bounded_number_of_spans() {
    let (mut trace, collected) = trace(10_000);
    for _ in 0..MAX_PARTS.saturating_mul(2) {
        trace.add(part("handler png"));
    }
    trace.finish("infer digits".to_owned(), Vec::new(), false);
    assert_eq!(
        collected.0.lock().unwrap()[0].len(),
        MAX_PARTS.saturating_add(1)
    );
}
