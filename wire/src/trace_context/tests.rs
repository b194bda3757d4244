//! The form of a `traceparent`, the trace of a request, and how many are sampled.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

#[test]
fn a_request_has_the_same_trace_wherever_it_is_computed() {
    let one = SpanContext::of_request("1f-7-9c2e", 10_000);
    assert_eq!(one, SpanContext::of_request("1f-7-9c2e", 10_000));
    assert_eq!(
        one.traceparent(),
        "00-0bcc838bfe7d51bd35ada7011bf4695e-809603444331a2f9-01"
    );
    let other = SpanContext::of_request("1f-8-9c2e", 10_000);
    assert_ne!(one.trace_id, other.trace_id);
    assert_ne!(one.span_id, other.span_id);
}

#[test]
fn as_many_requests_are_sampled_as_the_policy_sets() {
    for shares in [1, 100, 5_000, 10_000] {
        let ids = (0..20_000).map(|number| format!("vm-{number}"));
        let sampled = ids.filter(|id| SpanContext::of_request(id, shares).is_sampled);
        let expected = usize::try_from(shares).unwrap() * 2;
        let count = sampled.count();
        let most = expected + expected / 10 + 20;
        assert!(count <= most && count + 20 >= expected * 9 / 10, "{count}");
    }
}

#[test]
fn a_context_is_read_as_it_is_written() {
    let text = format!("00-{TRACE}-{SPAN}-01");
    let context = SpanContext::read(&text).unwrap();
    assert_eq!(context.traceparent(), text);
    assert_eq!(context.trace_id_text(), TRACE);
    assert!(context.is_sampled);
    let flags = |flags: &str| SpanContext::read(&format!("00-{TRACE}-{SPAN}-{flags}"));
    assert!(!flags("02").unwrap().is_sampled && flags("03").unwrap().is_sampled);
    assert_eq!(SpanContext::read(&format!("{text},{text}")), None);
}

#[test]
fn parts_of_a_request_have_spans_of_their_own_in_its_trace() {
    let parent = SpanContext::read(&format!("00-{TRACE}-{SPAN}-00")).unwrap();
    let request = SpanContext::of_request("a", 10_000).within(&parent);
    assert_eq!(request.trace_id, parent.trace_id);
    assert_ne!(request.span_id, parent.span_id);
    assert!(!request.is_sampled);
    assert_ne!(request.part(1).span_id, request.part(2).span_id);
    let last = SpanContext {
        span_id: [0xff; 8],
        ..parent
    };
    assert_ne!(last.part(1).span_id, [0; 8]);
}

#[test]
fn only_version_00_with_valid_ids_is_read() {
    let read = TraceParent {
        trace_id: TRACE,
        span_id: SPAN,
        flags: "01",
    };
    let valid = format!("00-{TRACE}-{SPAN}-01");
    assert_eq!(TraceParent::read(&valid), Some(read));
    let zeros = "0".repeat(32);
    for bad in [
        String::new(),
        format!("01-{TRACE}-{SPAN}-01"),
        format!("ff-{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}"),
        format!("00-{TRACE}-{SPAN}-01-more"),
        format!("00-{TRACE}-{SPAN}-01,{valid}"),
        format!("00-{TRACE}-{SPAN}-1"),
        format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        format!("00-{zeros}-{SPAN}-01"),
        format!("00-{TRACE}-0000000000000000-01"),
        format!("00-{TRACE}-00f067aa0ba902b\u{1b}-01"),
        format!(" {valid}"),
        "-".repeat(55),
    ] {
        assert_eq!(TraceParent::read(&bad), None, "{bad:?}");
    }
}
