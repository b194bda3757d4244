//! The records of a stream and of its messages, each of which is a request of its own.

use std::sync::Arc;
use std::time::SystemTime;

use tensorgate_audit::record::{By, Decision, Verdict};
use tensorgate_judge::request::Caller;
use tensorgate_policy::policy::Shadow;
use tensorgate_policy::{Denial, Operation};
use tensorgate_telemetry::metrics::GaugeGuard;
use tensorgate_telemetry::timings::Timings;
use tensorgate_wire::context::Refusal;
use tokio::time::Instant;

use super::record::{Record, wide};
use super::shadow::InShadow;

/// How a stream ends.
#[derive(Clone, Copy, Debug)]
pub enum StreamEnd<'d> {
    /// Every message was answered.
    Whole,
    /// It was denied.
    Refused(&'d Denial),
    /// The client disconnected.
    Left,
}

impl Record {
    /// Records that the request opened a stream.
    pub fn open_stream(&mut self) {
        self.operation = Operation::Stream.name();
    }

    /// The record for the end of the same stream. The audit record of its start is this one's.
    pub fn for_stream(&self) -> Self {
        let mut record = self.for_message(self.caller.clone());
        (record.began, record.started) = (self.began, self.started);
        (record.audited, record.ended, record.stream) = (true, true, None);
        record
    }

    /// The record of a message of this stream.
    pub fn for_message(&self, caller: Caller) -> Self {
        Self {
            metrics: Arc::clone(&self.metrics),
            outcomes: Arc::clone(&self.outcomes),
            audited: false,
            stream: Some(self.caller.request_id.clone()),
            began: SystemTime::now(),
            method: self.method.clone(),
            path: self.path.clone(),
            source: self.source.clone(),
            rule: String::new(),
            started: Instant::now(),
            _in_flight: GaugeGuard::new(&self.metrics.in_flight),
            ended: false,
            caller,
            protocol: self.protocol,
            model: String::new(),
            version: String::new(),
            operation: self.operation,
            infers: false,
            request_bytes: 0,
            timings: Timings::default(),
            rates: Vec::new(),
            shadow: InShadow::default(),
        }
    }

    /// Records a message that the gate denied. The audit log has it only from here.
    pub async fn refused_by_verifier(&mut self, refusal: &Refusal) {
        self.model = refusal.model.clone().unwrap_or_default();
        self.rule = refusal.rule.clone().unwrap_or_default();
        self.shadow = InShadow::new(Shadow::default(), refusal.shadowed.clone());
        self.denied_by(By::Gate, &refusal.denial).await;
    }

    /// Records the end of the stream. The stream itself was counted when it began.
    pub fn closed(&self, end: StreamEnd<'_>, messages: u64, response_bytes: u64) {
        if let StreamEnd::Refused(denial) = end {
            self.count_overload(denial);
        }
        let decision = Decision {
            response_bytes,
            ..self.end_decision(end)
        };
        self.outcomes.closed(&decision, messages);
    }

    /// Records the end of several responses.
    pub fn answered(&mut self, end: StreamEnd<'_>, answers: u64, response_bytes: usize) {
        let decision = Decision {
            response_bytes: wide(response_bytes),
            ..self.end_decision(end)
        };
        self.outcomes.answers(&decision, answers);
        match end {
            StreamEnd::Whole => self.allowed(200, response_bytes),
            StreamEnd::Refused(denial) => self.log_denial(denial),
            StreamEnd::Left => {}
        }
    }

    fn end_decision(&self, end: StreamEnd<'_>) -> Decision {
        match end {
            StreamEnd::Whole => self.answer_decision(200, 0),
            StreamEnd::Refused(denial) => self.denial_decision(denial),
            StreamEnd::Left => Decision {
                verdict: Verdict::Aborted,
                reason: "incomplete".to_owned(),
                status: 200,
                ..self.facts()
            },
        }
    }
}
