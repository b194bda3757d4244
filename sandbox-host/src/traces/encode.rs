//! Spans as messages of OTLP.

use tensorgate_net::post::otlp::messages::{KeyValue, Resource, Scope, Value, unix_nanos};
use tensorgate_telemetry::spans::{Attribute, AttributeValue, Span};
use tensorgate_wire::trace_context::SpanContext;

use super::messages::{Link, Request, ResourceSpans, ScopeSpans, SpanMessage, Status};

/// The name of this service and of the source of spans.
const SERVICE: &str = "tensorgate-host";
const SCOPE: &str = "tensorgate.request";
/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;

/// The request that sends spans.
pub(super) fn request(spans: &[Span]) -> Request {
    Request {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource::of_service(SERVICE, [])),
            scope_spans: vec![ScopeSpans {
                scope: Some(Scope::of_release(SCOPE)),
                spans: spans.iter().map(message).collect(),
            }],
        }],
    }
}

fn message(span: &Span) -> SpanMessage {
    SpanMessage {
        trace_id: span.context.trace_id.to_vec(),
        span_id: span.context.span_id.to_vec(),
        parent_span_id: span.parent.map_or_else(Vec::new, |parent| parent.to_vec()),
        name: span.name.clone(),
        kind: span.kind as i32,
        start_time_unix_nano: unix_nanos(span.start),
        end_time_unix_nano: unix_nanos(span.end),
        attributes: span.attributes.iter().map(attribute).collect(),
        links: span.links.iter().map(link).collect(),
        status: span.failed.then_some(Status { code: ERROR }),
        flags: flags(&span.context),
    }
}

fn link(context: &SpanContext) -> Link {
    Link {
        trace_id: context.trace_id.to_vec(),
        span_id: context.span_id.to_vec(),
        flags: flags(context),
    }
}

fn flags(context: &SpanContext) -> u32 {
    u32::from(context.is_sampled)
}

fn attribute((name, value): &Attribute) -> KeyValue {
    match value {
        AttributeValue::Text(text) => KeyValue::text(name, text.as_str()),
        AttributeValue::Number(number) => {
            let number = i64::try_from(*number).unwrap_or(i64::MAX);
            KeyValue::new(name, Value::Integer(number))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]
    use std::time::{Duration, UNIX_EPOCH};

    use prost::Message as _;
    use tensorgate_telemetry::spans::{SpanKind, number, text};

    use super::*;

    #[test]
    fn a_span_is_written_with_its_parent_its_links_and_its_error() {
        let context = SpanContext {
            trace_id: [1; 16],
            span_id: [2; 8],
            is_sampled: true,
        };
        let linked = SpanContext {
            is_sampled: false,
            ..context
        };
        let at = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let span = Span {
            context,
            parent: Some([3; 8]),
            name: "infer digits".to_owned(),
            kind: SpanKind::Server,
            start: at(1).unwrap_or(UNIX_EPOCH),
            end: at(2).unwrap_or(UNIX_EPOCH),
            attributes: text("tensorgate.client", "app")
                .into_iter()
                .chain([number("tensorgate.fuel", u64::MAX)])
                .collect(),
            links: vec![linked],
            failed: true,
        };
        let request = request(std::slice::from_ref(&span));
        let found = &request.resource_spans[0].scope_spans[0].spans[0];
        let expected = SpanMessage {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            parent_span_id: vec![3; 8],
            name: "infer digits".to_owned(),
            kind: 2,
            start_time_unix_nano: 1_000_000_000,
            end_time_unix_nano: 2_000_000_000,
            attributes: vec![
                KeyValue::text("tensorgate.client", "app"),
                KeyValue::new("tensorgate.fuel", Value::Integer(i64::MAX)),
            ],
            links: vec![Link {
                trace_id: vec![1; 16],
                span_id: vec![2; 8],
                flags: 0,
            }],
            status: Some(Status { code: 2 }),
            flags: 1,
        };
        assert_eq!(*found, expected);
        assert!(!request.encode_to_vec().is_empty());
        let first = Span {
            parent: None,
            failed: false,
            ..span
        };
        let first = message(&first);
        assert!(first.parent_span_id.is_empty() && first.status.is_none());
    }
}
