//! The spans of a request: its own, and one for each part of it that takes time.
//!
//! A request without a trace costs a `None`. Spans of a trace that is not sampled are not kept, but
//! its IDs are: they are in the audit record and go to the backend.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tensorgate_wire::trace_context::SpanContext;

/// The most spans of parts of one request. A stream of responses may have one call a response.
const MAX_PARTS: usize = 64;
/// The number of the span of the backend's call, which is known before the call.
const BACKEND: u64 = 1;

/// What a span is of, with the numbers of OTLP's `SpanKind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A part of the request in the host.
    Internal = 1,
    /// The request.
    Server = 2,
    /// A call of a backend.
    Client = 3,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
}

/// An attribute of a span.
pub type Attribute = (&'static str, AttributeValue);

/// An attribute with a text; `None` for an empty one.
pub fn text(name: &'static str, value: &str) -> Option<Attribute> {
    (!value.is_empty()).then(|| (name, AttributeValue::Text(value.to_owned())))
}

/// An attribute with a number.
pub const fn number(name: &'static str, value: u64) -> Attribute {
    (name, AttributeValue::Number(value))
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace and the span.
    pub context: SpanContext,
    /// The span that it is a part of; none for the first of a trace.
    pub parent: Option<[u8; 8]>,
    /// The name.
    pub name: String,
    /// What it is of.
    pub kind: SpanKind,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What else is known of it.
    pub attributes: Vec<Attribute>,
    /// Spans of other traces that it has to do with.
    pub links: Vec<SpanContext>,
    /// Whether what it is of has failed.
    pub failed: bool,
}

/// Receives the spans of requests. It does not wait.
pub trait SpanSink: Debug + Send + Sync {
    /// Takes the spans of one request.
    fn take(&self, spans: Vec<Span>);
}

/// The trace of one request, or none.
#[derive(Clone, Debug, Default)]
pub struct RequestTrace(Option<Box<OpenTrace>>);

/// The trace of a request that is being processed.
#[derive(Clone, Debug)]
struct OpenTrace {
    sink: Arc<dyn SpanSink>,
    context: SpanContext,
    parent: Option<[u8; 8]>,
    links: Vec<SpanContext>,
    began: SystemTime,
    clock: Instant,
    parts: Vec<Span>,
    /// The number of the last span of a part.
    number: u64,
    is_finished: bool,
}

/// A part of a request that has ended.
#[derive(Clone, Debug)]
pub struct Part {
    /// The name of its span.
    pub name: String,
    /// How long it took until now.
    pub took: Duration,
    /// What else is known of it.
    pub attributes: Vec<Attribute>,
    /// Whether it has failed.
    pub failed: bool,
}

impl RequestTrace {
    /// Begins the trace of a request. `context` is its own span. `parent` and `links` are spans of
    /// its sender.
    pub fn begin(
        sink: &Arc<dyn SpanSink>,
        context: SpanContext,
        parent: Option<[u8; 8]>,
        links: Vec<SpanContext>,
    ) -> Self {
        Self(Some(Box::new(OpenTrace {
            sink: Arc::clone(sink),
            context,
            parent,
            links,
            began: SystemTime::now(),
            clock: Instant::now(),
            parts: Vec::new(),
            number: BACKEND,
            is_finished: false,
        })))
    }

    /// The trace of a message of a stream, by the message's own request ID. Its span is a part of
    /// the stream's.
    #[must_use]
    pub fn of_message(&self, request_id: &str) -> Self {
        let Some(stream) = &self.0 else {
            return Self(None);
        };
        // Only the ID of the span is used: the stream's trace is sampled or is not.
        let context = SpanContext::of_request(request_id, 0).within(&stream.context);
        Self::begin(
            &stream.sink,
            context,
            Some(stream.context.span_id),
            Vec::new(),
        )
    }

    /// The trace ID, 32 hex digits.
    pub fn trace_id(&self) -> Option<String> {
        let open = self.0.as_ref()?;
        Some(open.context.trace_id_text())
    }

    /// The `traceparent` for a backend, which names the span of the call.
    pub fn backend_traceparent(&self) -> Option<String> {
        let open = self.0.as_ref()?;
        Some(open.context.part(BACKEND).traceparent())
    }

    /// Adds a part of the request that has just ended.
    pub fn add(&mut self, part: Part) {
        let Some(open) = self.sampled() else {
            return;
        };
        open.number = open.number.saturating_add(1);
        let (number, end) = (open.number, open.clock.elapsed());
        open.push(
            number,
            SpanKind::Internal,
            (end.saturating_sub(part.took), end),
            part,
        );
    }

    /// Adds the call of a backend that has just ended: the wait for its permit, and the rest.
    pub fn add_backend(&mut self, took: Duration, queued: Duration, failed: bool) {
        let Some(open) = self.sampled() else {
            return;
        };
        let end = open.clock.elapsed();
        let start = end.saturating_sub(took);
        let sent = start.saturating_add(queued).min(end);
        open.number = open.number.saturating_add(1);
        let part = |name: &str, failed| Part {
            name: name.to_owned(),
            took,
            attributes: Vec::new(),
            failed,
        };
        let number = open.number;
        open.push(
            number,
            SpanKind::Internal,
            (start, sent),
            part("queue", false),
        );
        open.push(
            BACKEND,
            SpanKind::Client,
            (sent, end),
            part("backend", failed),
        );
    }

    /// Ends the span of the request, and hands over all spans. Only the first end counts.
    pub fn finish(&mut self, name: String, attributes: Vec<Attribute>, failed: bool) {
        let Some(open) = self.sampled() else {
            return;
        };
        if std::mem::replace(&mut open.is_finished, true) {
            return;
        }
        let own = Span {
            context: open.context,
            parent: open.parent,
            name,
            kind: SpanKind::Server,
            start: open.began,
            end: open.at(open.clock.elapsed()),
            attributes,
            links: std::mem::take(&mut open.links),
            failed,
        };
        let mut spans = std::mem::take(&mut open.parts);
        spans.push(own);
        open.sink.take(spans);
    }

    /// The trace, if its spans are kept.
    fn sampled(&mut self) -> Option<&mut OpenTrace> {
        let open = self.0.as_deref_mut()?;
        open.context.is_sampled.then_some(open)
    }
}

impl OpenTrace {
    /// The time of day at this time since the beginning.
    fn at(&self, since: Duration) -> SystemTime {
        self.began.checked_add(since).unwrap_or(self.began)
    }

    /// Keeps the span of a part from a time since the beginning to another one.
    fn push(
        &mut self,
        number: u64,
        kind: SpanKind,
        (start, end): (Duration, Duration),
        part: Part,
    ) {
        if self.parts.len() >= MAX_PARTS {
            return;
        }
        self.parts.push(Span {
            context: self.context.part(number),
            parent: Some(self.context.span_id),
            name: part.name,
            kind,
            start: self.at(start),
            end: self.at(end),
            attributes: part.attributes,
            links: Vec::new(),
            failed: part.failed,
        });
    }
}

#[cfg(test)]
mod tests;
