//! Traces of requests: which trace a request belongs to, and the export of its spans by OTLP.
//!
//! A request belongs to the trace that the gate's own Envoy has begun, or else to one of its own,
//! whose ID and sampling come from the request's ID. A client's `traceparent` is a link of the
//! request's span. It is continued only for clients that the policy trusts, and never decides
//! whether the spans of other clients are sampled.

mod arrived;
mod encode;
mod exporter;
mod messages;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tensorgate_judge::request::ModelRequest;
use tensorgate_net::client_tls::client_tls;
use tensorgate_net::pem::TlsError;
use tensorgate_net::post::otlp::OtlpClient;
use tensorgate_policy::policy::Tracing;
use tensorgate_telemetry::metrics::Metrics;
use tensorgate_telemetry::spans::{RequestTrace, SpanSink};
use tensorgate_wire::trace_context::{SpanContext, TRACEPARENT};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use arrived::ArrivedTrace;
use exporter::{Exporter, SpanQueue};

/// How long the exporter may send the last spans at shutdown. What is left is dropped.
const END_TIME: Duration = Duration::from_secs(3);

/// Begins the traces of requests.
#[derive(Debug)]
pub struct Traces {
    rule: Tracing,
    sink: Arc<dyn SpanSink>,
}

/// The running export of spans.
pub(crate) struct SpanExport {
    ending: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Traces {
    /// Starts the export of a policy.
    ///
    /// # Errors
    /// Returns an error if the system's authorities cannot be read.
    pub(crate) fn start(
        rule: &Tracing,
        metrics: &Metrics,
    ) -> Result<(Arc<Self>, SpanExport), TlsError> {
        // No path of a file is relative.
        let tls = || client_tls(Path::new("/"), None);
        let tls = rule.tls().then(tls).transpose()?;
        let client = OtlpClient::new((rule.host(), rule.port(), rule.path()), tls);
        let (queue, receiver) = SpanQueue::new(metrics);
        let (ending, ended) = watch::channel(false);
        let task = tokio::spawn(Exporter::new(client, receiver, metrics, ended).run());
        let traces = Self::new(rule.clone(), Arc::new(queue));
        Ok((Arc::new(traces), SpanExport { ending, task }))
    }

    const fn new(rule: Tracing, sink: Arc<dyn SpanSink>) -> Self {
        Self { rule, sink }
    }

    /// Begins the trace of a request whose sender was verified. `request_id` is the gate's ID, and
    /// `client` the verified name.
    pub(crate) fn begin(
        &self,
        request_id: &str,
        client: Option<&str>,
        headers: &HeaderMap,
    ) -> RequestTrace {
        let arrived = ArrivedTrace::of(headers);
        let is_trusted = client.is_some_and(|client| self.rule.trusts(client));
        let own = SpanContext::of_request(request_id, self.rule.sampled_shares());
        let (parent, link) = match (arrived.client_context(), arrived.envoy) {
            (Some(client), envoy) if is_trusted => (Some(client), envoy),
            (client, envoy) => (envoy, client),
        };
        let context = parent.map_or(own, |parent| own.within(&parent));
        let parent = parent.map(|parent| parent.span_id);
        RequestTrace::begin(&self.sink, context, parent, link.into_iter().collect())
    }
}

/// Makes the backend's call a part of the request's trace. No other `traceparent` reaches it.
pub(crate) fn forward(trace: &RequestTrace, request: &mut ModelRequest) {
    let value = trace.backend_traceparent();
    let Some(value) = value.and_then(|text| HeaderValue::from_str(&text).ok()) else {
        return;
    };
    if let Some(document) = &mut request.document {
        document.claims.insert(TRACEPARENT, value.clone());
    }
    request.claims.insert(TRACEPARENT, value);
}

impl SpanExport {
    /// Sends the spans that wait, once and with a timeout.
    pub(crate) async fn end(self) {
        self.ending.send_replace(true);
        if tokio::time::timeout(END_TIME, self.task).await.is_err() {
            tracing::warn!("the last spans are not exported");
        }
    }
}

#[cfg(test)]
mod tests;
