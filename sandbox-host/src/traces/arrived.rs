//! The `traceparent` fields that arrive with a request: that of a client, and that of Envoy's span.

use http::HeaderMap;
use tensorgate_wire::trace_context::{
    CLIENT_TRACEPARENT, ENVOY_TRACE, SpanContext, TRACEPARENT, TraceParent,
};

/// The valid `traceparent` fields of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ArrivedTrace {
    /// That of the client, or of a proxy that is not the gate's. It decides nothing.
    pub(crate) client: Option<String>,
    /// The span of the gate's own Envoy, which continues no trace of a client.
    pub(crate) envoy: Option<SpanContext>,
}

impl ArrivedTrace {
    /// Reads the fields. A field that is repeated or invalid is ignored.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let single = |name: &str| {
            let mut values = headers.get_all(name).iter();
            let (value, None) = (values.next()?, values.next()) else {
                return None;
            };
            let text = value.to_str().ok()?;
            TraceParent::read(text).map(|_| text)
        };
        // The filter forwards one of the two names, and Envoy then sets the mark.
        let client = if headers.contains_key(ENVOY_TRACE) {
            single(CLIENT_TRACEPARENT)
        } else {
            single(TRACEPARENT).or_else(|| single(CLIENT_TRACEPARENT))
        };
        let envoy = headers.contains_key(ENVOY_TRACE).then_some(TRACEPARENT);
        Self {
            client: client.map(str::to_owned),
            envoy: envoy.and_then(single).and_then(SpanContext::read),
        }
    }

    /// The span that the client names.
    pub(crate) fn client_context(&self) -> Option<SpanContext> {
        self.client.as_deref().and_then(SpanContext::read)
    }
}
