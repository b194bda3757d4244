//! The audit record of a request.

use tensorgate_audit::record::{
    By, Decision, MAX_CLIENT_ID_BYTES, MAX_DETAIL_BYTES, MAX_METHOD_BYTES, Verdict, clean_shadowed,
};
use tensorgate_policy::Denial;
use tensorgate_policy::denial::Shadowed;
use tensorgate_policy::values::safe_text::printable_prefix;
use tensorgate_telemetry::metrics::micros;
use tensorgate_telemetry::spans;

use super::record::{Record, wide};

/// The HTTP statuses of failures of the gate or of what is behind it.
const SERVER_ERROR: u16 = 500;

impl Record {
    /// The record of a response.
    pub(super) fn answer_decision(&self, status: u16, response_bytes: usize) -> Decision {
        Decision {
            verdict: Verdict::Allow,
            reason: "ok".to_owned(),
            status,
            grpc_status: self.protocol.is_grpc().then_some(0),
            response_bytes: wide(response_bytes),
            ..self.facts()
        }
    }

    /// The record of a denial.
    pub(super) fn denial_decision(&self, denial: &Denial) -> Decision {
        let grpc = self.protocol.is_grpc();
        Decision {
            verdict: Verdict::Deny,
            reason: denial.reason.name().to_owned(),
            detail: Some(printable_prefix(&denial.cause, MAX_DETAIL_BYTES)),
            // A gRPC denial has HTTP status 200.
            status: if grpc { 200 } else { denial.http_status() },
            grpc_status: grpc.then_some(denial.grpc_status() as u8),
            ..self.facts()
        }
    }

    /// Ends the span of the request.
    pub(super) fn end_trace(&mut self, verdict: &str, reason: &str, status: u16) {
        let name = match (self.operation, self.model.as_str()) {
            ("", _) => "request".to_owned(),
            (operation, model) => format!("{operation} {model}").trim_end().to_owned(),
        };
        let texts = [
            ("tensorgate.request_id", self.caller.request_id.as_str()),
            (
                "tensorgate.client",
                self.caller.client.as_deref().unwrap_or_default(),
            ),
            ("tensorgate.model", self.model.as_str()),
            ("tensorgate.version", self.version.as_str()),
            ("tensorgate.protocol", self.protocol.name()),
            ("tensorgate.verdict", verdict),
            ("tensorgate.reason", reason),
        ];
        let texts = texts.into_iter();
        let mut attributes: Vec<_> = texts
            .filter_map(|(name, value)| spans::text(name, value))
            .collect();
        let status_code = u64::from(status);
        attributes.push(spans::number("http.response.status_code", status_code));
        if let Some(tokens) = self.timings.tokens {
            attributes.push(spans::number("gen_ai.usage.input_tokens", tokens.prompt));
            let completion = tokens.completion.unwrap_or_default();
            attributes.push(spans::number("gen_ai.usage.output_tokens", completion));
        }
        let failed = status >= SERVER_ERROR;
        self.timings.trace.finish(name, attributes, failed);
    }

    /// The client's own ID of its message, without what cannot be printed.
    pub(crate) fn message_id(&self) -> Option<&str> {
        self.message_id.as_deref()
    }

    /// Sets the client's own ID of its message.
    pub(super) fn set_message_id(&mut self, id: Option<&str>) {
        let id = printable_prefix(id.unwrap_or_default(), MAX_CLIENT_ID_BYTES);
        self.message_id = Some(id).filter(|id| !id.is_empty());
    }

    /// The fields that are known so far: caller, request and durations.
    pub(super) fn facts(&self) -> Decision {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let spent = |duration| (!self.operation.is_empty()).then(|| micros(duration));
        Decision {
            request_id: some(&self.caller.request_id),
            client_request_id: some(&printable_prefix(
                &self.caller.client_request_id,
                MAX_CLIENT_ID_BYTES,
            )),
            message_id: self.message_id.clone(),
            traceparent: self.traceparent.clone(),
            trace_id: self.timings.trace.trace_id(),
            stream: self.stream.clone(),
            by: By::Host,
            client: self.caller.client.clone(),
            credential: self.caller.credential.clone(),
            source: self.source.clone(),
            protocol: some(self.protocol.name()),
            method: Some(printable_prefix(self.method.as_str(), MAX_METHOD_BYTES)),
            path: some(&self.path),
            model: some(&self.model),
            version: some(&self.version),
            operation: some(self.operation),
            rule: some(&self.rule),
            shadow: {
                let noted = self.shadow.noted().iter();
                noted
                    .map(|denial| clean_shadowed(&Shadowed::of(denial)))
                    .collect()
            },
            generation: some(&self.caller.policy_version),
            request_bytes: wide(self.request_bytes),
            prompt_tokens: self.timings.tokens.map(|counts| counts.prompt),
            completion_tokens: self.timings.tokens.and_then(|counts| counts.completion),
            total_us: micros(self.started.elapsed()),
            handler_us: spent(self.timings.handler),
            dispatch_us: spent(self.timings.dispatch),
            queue_us: spent(self.timings.queue),
            reached: self.timings.reached.entries(),
            top_class: self.timings.top_class,
            near_bounds: self.timings.near_bounds,
            fuel: (!self.operation.is_empty()).then_some(self.timings.fuel),
            ..Decision::default()
        }
    }
}
